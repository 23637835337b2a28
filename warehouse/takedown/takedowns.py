"""Which clips have been taken down, by whom, when and why. A row is all that it takes: everything else follows from it.

Nothing else is written when a clip is taken down, so there is no half of it: from then on whatever opens a snapshot or
hands out a clip leaves it out (:func:`taken_down`), and decisions drop it the next time they are taken.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from warehouse.store import Store, in_turn


class TakenDownError(RuntimeError):
    """A clip is asked for that has been taken down."""


class NoClipsError(RuntimeError):
    """A takedown that says not what to take down, or not why."""


def taken_down(store: Store) -> frozenset[str]:
    """Ids of the clips that have been taken down, as the table is now."""
    return frozenset(store.read("takedowns", columns=["clip_id"])["clip_id"].to_pylist())


def refuse_taken_down(store: Store, clip_id: str) -> None:
    """Raise unless a clip may be handed out.

    Raises:
        TakenDownError: it has been taken down; says when, by whom and why.
    """
    for row in store.rows("takedowns"):
        if row["clip_id"] == clip_id:
            at = f"{row['taken_at']:%Y-%m-%d %H:%M} UTC"
            raise TakenDownError(f"clip {clip_id} was taken down by {row['who']} on {at}: {row['reason']}")


def take_down(store: Store, clip_ids: Sequence[str], reason: str, who: str) -> list[str]:
    """Note the clips as taken down, for good; returns those that were not before, in the order given.

    A clip that is taken down keeps the reason that was given first. Two who do this at once take turns.
    """
    with in_turn(store.root / "takedowns.lock"):
        rows = store.rows("takedowns")
        known = {row["clip_id"] for row in rows}
        new = [clip for clip in dict.fromkeys(clip_ids) if clip not in known]
        at = datetime.now(UTC)
        rows += ({"clip_id": clip, "reason": reason, "who": who, "taken_at": at} for clip in new)
        if new:
            store.write("takedowns", rows)
    return new
