"""A data root with a snapshot of a few clips, written as the tables that a loader opens."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from warehouse.catalog.samples import Sample
from warehouse.store import Store

SNAPSHOT, COLLECTION = "0123456789abcdef", "actions"
CLASSES = ["drifting left", "zooming in"]


def write_snapshot(root: Path, samples: Sequence[Sample]) -> Store:
    """Clips in turn of the sources `one` and `two` and of either class; two of `val` at the end, the others of `train`.

    Their shards lie in ``root``.
    """
    store = Store(root)
    shards = {sample.shard for sample in samples}
    members, places = [], []
    for position, sample in enumerate(samples):
        source, class_id = ("one", "two")[position % 2], position % 2
        split = "train" if position < len(samples) - 2 else "val"
        columns = ("clip_id", "offset", "size", "sha256", "codec", "width", "height", "fps", "frames")
        stored = {name: getattr(sample, name) for name in columns}
        places.append(stored | {"source": source, "shard": sample.shard.stem, "rendition": "np256"})
        members.append({
            "snapshot_id": SNAPSHOT, "position": position, "clip_id": sample.clip_id, "source": source,
            "split": split, "class_id": class_id, "class_name": CLASSES[class_id], "weight": 1.0,
            "rendition": "np256", "stride": 2,
        })  # fmt: skip
    store.write("samples", places, "one")
    rows = [{"shard": shard.stem, "source": "one", "rendition": "np256", "path": shard.name, "samples": 5,
             "bytes": shard.stat().st_size, "sha256": ""} for shard in shards]  # fmt: skip
    store.write("shards", rows, "one")
    store.write("snapshot_clips", members, SNAPSHOT)
    now = datetime.now(UTC)
    store.write("snapshots", [{"snapshot_id": SNAPSHOT, "collection": COLLECTION, "created": now, "clips": len(samples),
                               "taxonomy": COLLECTION, "classes": CLASSES}], SNAPSHOT)  # fmt: skip
    taken = {"collection": COLLECTION, "taken": now, "snapshot_id": SNAPSHOT, "sql": None}
    store.write("collection_snapshots", [taken], COLLECTION)
    return store
