"""Whoever changes the shards of a data root, or the plan of them, does so alone."""

from contextlib import AbstractContextManager

from warehouse.store import Store, in_turn


def changing_shards(store: Store, doing: str) -> AbstractContextManager[None]:
    """Wait until nobody else plans, writes or compacts shards under this data root, and keep others waiting meanwhile.

    Two who write one shard delete each other's temporary files; a plan that was read before clips were taken out of it
    brings their bytes back.

    Args:
        doing: what is done, as in "process 7, which writes shards": the log of those who wait says it.
    """
    return in_turn(store.root / "shards.lock", doing)
