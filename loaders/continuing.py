"""Where a training stream goes on after a checkpoint, also with another number of ranks.

As many ranks as before go on each at its own cursor: every draw is taken once. Another number shares the draws out
anew, from the first one that any of the ranks had not taken. That neither repeats nor leaves out a draw if no clip
failed; a rank that had replaced failed clips was ahead of the others, and what it drew ahead is drawn again. In
shard-local runs (``loaders.runs``) all begin with a whole run: what was taken of the runs begun is drawn again, and up
to a run for each rank before them. Nothing is ever left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loaders.order import Cursor


@dataclass(frozen=True)
class Continuation:
    """Where each rank starts, how many ranks there were before, and how many draws are taken a second time."""

    starts: tuple[Cursor, ...]
    before: int
    repeated: int

    def __str__(self) -> str:
        """For a run's log."""
        if len(self.starts) == self.before:
            return f"each of {self.before} ranks goes on where it was"
        again = f"{self.repeated} clips are drawn a second time" if self.repeated else "every clip is drawn once"
        return (
            f"the checkpoint was saved by {self.before} ranks, and {len(self.starts)} go on: the order of clips is "
            f"shared out anew from epoch {self.starts[0].epoch}, position {self.starts[0].position}; {again}"
        )


def continuation(cursors: Sequence[Cursor], ranks: int, count: int, run_clips: int) -> Continuation:
    """Where ``ranks`` ranks go on after those that saved ``cursors``, one each.

    Args:
        count: samples of the snapshot, those that were taken down included.
        run_clips: ``LoaderConfig.run_clips``.

    Raises:
        ValueError: a cursor does not fit the number of samples.
    """
    before = len(cursors)
    for cursor in cursors:
        if not 0 <= cursor.position < count:
            raise ValueError(f"{cursor} does not fit {count} samples: it belongs to another snapshot")
    if ranks == before:
        return Continuation(tuple(cursors), before, 0)
    # A rank's draws so far, and the position in the stream of all epochs of its next one (`loaders.order`).
    drawn = [(cursor.epoch * count + cursor.position) // before for cursor in cursors]
    following = [
        (taken // run_clips * before + rank) * run_clips + taken % run_clips for rank, taken in enumerate(drawn)
    ]
    # A place where a round of runs begins for the new ranks; with single clips any place is one.
    round_clips = ranks * run_clips if run_clips > 1 else 1
    start = min(following) // round_clips * round_clips
    # Of each old rank's draws, those from there on.
    block = start // run_clips
    repeated = sum(max(0, taken - -((rank - block) // before) * run_clips) for rank, taken in enumerate(drawn))
    return Continuation((Cursor(*divmod(start, count)),) * ranks, before, repeated)
