"""Where another number of ranks goes on: nothing is left out, and what is drawn again is counted."""

import random
from itertools import islice

import numpy as np
import pytest

from loaders.continuing import Continuation, continuation
from loaders.order import Cursor, draws
from loaders.runs import Runs


def taken(
    count: int, rank: int, ranks: int, clips: int, start: Cursor | None, run_clips: int
) -> tuple[list[int], Cursor]:
    """Positions in the stream of all epochs of a rank's next draws, and its cursor after them."""
    runs = Runs.of(run_clips, np.arange(count) // 7, np.arange(count)) if run_clips > 1 else None
    drawn = list(islice(draws([1.0] * count, 5, rank, ranks, start, None, runs), clips))
    return [draw.epoch * count + draw.position for draw in drawn], drawn[-1].after


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("run_clips", [1, 3])
def test_ranks_that_change_again_and_again_leave_out_nothing_and_say_what_they_repeat(
    failing: bool, run_clips: int
) -> None:
    """``failing``: ranks get ahead of one another, as they do when clips fail."""
    chance = random.Random(0)
    repeats = 0
    for _ in range(60):
        count, ranks = chance.randint(3, 40), chance.randint(1, 5)
        starts: tuple[Cursor, ...] = (Cursor(),) * ranks
        before: set[int] = set()
        for _ in range(5):
            clips, new, cursors = chance.randint(1, 40), [], []
            for rank in range(ranks):
                ahead = chance.randint(0, 3) if failing else 0
                positions, cursor = taken(count, rank, ranks, clips + ahead, starts[rank], run_clips)
                new += positions
                cursors.append(cursor)
            assert len(new) == len(set(new)) and not before.intersection(new)
            before.update(new)
            ranks, earlier = chance.randint(1, 5), ranks
            found = continuation(cursors, ranks, count, run_clips)
            starts = found.starts
            assert len(starts) == ranks and found.before == earlier
            if ranks == earlier:
                assert starts == tuple(cursors) and found.repeated == 0
                continue
            [start] = {start.epoch * count + start.position for start in starts}
            assert before.issuperset(range(start))
            assert found.repeated == len([place for place in before if place >= start])
            assert found.repeated == 0 or failing or run_clips > 1
            repeats += found.repeated
            before = set(range(start))
    assert (repeats > 0) == (failing or run_clips > 1)


def test_the_log_says_from_where_and_what_comes_again() -> None:
    even = continuation([Cursor(1, 4), Cursor(1, 4)], 1, 10, 1)
    assert even == Continuation((Cursor(1, 4),), 2, 0)
    assert str(even) == (
        "the checkpoint was saved by 2 ranks, and 1 go on: the order of clips is shared out anew from epoch 1, "
        "position 4; every clip is drawn once"
    )
    ahead = continuation([Cursor(1, 4), Cursor(1, 8)], 3, 10, 1)
    assert ahead.starts[0] == Cursor(1, 4) and str(ahead).endswith("; 2 clips are drawn a second time")
    assert str(continuation([Cursor(1, 4), Cursor(1, 8)], 2, 10, 1)) == "each of 2 ranks goes on where it was"
    with pytest.raises(ValueError, match="does not fit 5 samples: it belongs to another snapshot"):
        continuation([Cursor(0, 7)], 2, 5, 1)
