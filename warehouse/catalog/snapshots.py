"""Snapshots: immutable memberships of a collection, and where their clips lie."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from warehouse.config import Collection, Config
from warehouse.store import Store, replace_file


class SnapshotError(RuntimeError):
    """A snapshot cannot be taken or opened as asked."""


@dataclass(frozen=True)
class Sample:
    """A clip of a snapshot, and the byte range that holds its encoded video.

    ``class_id`` is ``None`` for an unlabelled clip; ``fps``, ``frames``, ``width`` and ``height`` are as stored.
    """

    clip_id: str
    source: str
    split: str
    class_id: int | None
    weight: float
    stride: int
    shard: Path
    offset: int
    size: int
    sha256: str
    codec: str
    fps: float
    frames: int
    width: int
    height: int


def take_snapshot(store: Store, config: Config, collection: Collection) -> dict[str, Any]:
    """Write the collection's present membership and return its row of ``snapshots``.

    The id is a hash of what it holds (:func:`snapshot_hash`): taking it again changes nothing.

    Raises:
        SnapshotError: the collection is empty, or a clip that it keeps is in no shard; names them.
    """
    decisions = [row for row in store.rows("decisions") if row["collection"] == collection.name and row["keep"]]
    if not decisions:
        raise SnapshotError(
            f"collection {collection.name!r} keeps no clip. Ask: SELECT * FROM exclusions WHERE collection = "
            f"'{collection.name}'"
        )
    packed = {row["clip_id"] for row in store.rows("samples") if row["rendition"] == config.rendition}
    absent = sorted({row["clip_id"] for row in decisions} - packed)
    if absent:
        raise SnapshotError(
            f"collection {collection.name!r}: {len(absent)} clips are in no shard (the first: {absent[0]}). "
            "Materialise `packing` and `shards`."
        )
    labels = [row for row in store.rows("labels") if row["taxonomy"] == collection.taxonomy]
    label = {row["clip_id"]: row for row in labels}
    stride = {source.name: source.stride for source in config.sources}
    decisions.sort(key=lambda row: (row["split"], row["source"], row["clip_id"]))
    clips = [
        {
            "position": position,
            "clip_id": row["clip_id"],
            "source": row["source"],
            "split": row["split"],
            "class_id": label[row["clip_id"]]["class_id"] if row["clip_id"] in label else None,
            "class_name": label[row["clip_id"]]["class_name"] if row["clip_id"] in label else None,
            "weight": 1.0,
            "rendition": config.rendition,
            "stride": stride[row["source"]],
        }
        for position, row in enumerate(decisions)
    ]
    classes = None
    if collection.taxonomy:
        of_taxonomy = (row for row in store.rows("classes") if row["taxonomy"] == collection.taxonomy)
        classes = [row["class_name"] for row in sorted(of_taxonomy, key=lambda row: row["class_id"])]
    snapshot_id = snapshot_hash(clips, classes)
    known = store.rows("snapshots", snapshot_id)
    if known:
        _point(store, collection.name, snapshot_id)
        return known[0]
    snapshot = {
        "snapshot_id": snapshot_id,
        "collection": collection.name,
        "created": datetime.now(UTC),
        "clips": len(clips),
        "taxonomy": collection.taxonomy,
        "classes": classes,
    }
    # The row of `snapshots` last: a snapshot that is listed is complete.
    store.write("snapshot_clips", [{"snapshot_id": snapshot_id, **clip} for clip in clips], snapshot_id)
    store.write("snapshots", [snapshot], snapshot_id)
    _point(store, collection.name, snapshot_id)
    return snapshot


def current_snapshot(store: Store, collection: str) -> str:
    """Id of the snapshot that was taken last of a collection. A run records the id, never the name.

    Raises:
        SnapshotError: none has been taken.
    """
    path = _pointer(store, collection)
    if not path.exists():
        raise SnapshotError(f"no snapshot of {collection!r} has been taken: materialise the asset `{collection}`")
    return path.read_text().strip()


def _pointer(store: Store, collection: str) -> Path:
    return store.root / "collections" / f"{collection}.snapshot"


def _point(store: Store, collection: str, snapshot_id: str) -> None:
    replace_file(_pointer(store, collection), f"{snapshot_id}\n".encode())


def snapshot_hash(clips: Iterable[Mapping[str, Any]], classes: Sequence[str] | None) -> str:
    """Hex digest (16 characters) of the class list and the ordered clip id, split, class, weight, rendition and stride.

    A class list may hold classes that no clip of the snapshot shows.
    """
    keys = ("clip_id", "split", "class_id", "class_name", "weight", "rendition", "stride")
    lines = [json.dumps(classes), *(json.dumps([clip[key] for key in keys]) for clip in clips)]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def open_snapshot(store: Store, snapshot_id: str, split: str) -> list[Sample]:
    """The samples of a snapshot's split, in its order, with the places of their bytes.

    Raises:
        SnapshotError: there is no such snapshot, the split is empty, or a clip is in no shard any more.
    """
    if not store.path("snapshots", snapshot_id).exists():
        known = ", ".join(store.parts("snapshots")) or "none"
        raise SnapshotError(f"no snapshot {snapshot_id!r} under {store.root}. There are: {known}")
    with duckdb.connect() as connection:
        connection.register("chosen", store.read("snapshot_clips", snapshot_id))
        connection.register("samples", store.read("samples"))
        connection.register("shards", store.read("shards"))
        rows = connection.execute(
            """
            SELECT c.clip_id, c.source, c.split, c.class_id, c.weight, c.stride,
                   h.path, s.offset, s.size, s.sha256, s.codec, s.fps, s.frames, s.width, s.height
            FROM chosen c
            LEFT JOIN samples s ON s.clip_id = c.clip_id AND s.rendition = c.rendition
            LEFT JOIN shards h ON h.shard = s.shard
            WHERE c.split = ?
            ORDER BY c.position
            """,
            [split],
        ).fetchall()
    if not rows:
        raise SnapshotError(f"snapshot {snapshot_id} has no clip in split {split!r}")
    lost = [row[0] for row in rows if row[6] is None]
    if lost:
        raise SnapshotError(f"snapshot {snapshot_id}: {len(lost)} clips are in no shard, the first is {lost[0]}")
    names = [field.name for field in fields(Sample)]
    return [Sample(**(dict(zip(names, row, strict=True)) | {"shard": store.root / row[6]})) for row in rows]
