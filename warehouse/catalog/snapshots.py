"""Snapshots: immutable memberships of a collection, and where their clips lie."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.catalog.membership import SnapshotError, decided
from warehouse.catalog.parquet_files import quoted, relation
from warehouse.catalog.samples import Places, Sample, Tombstone
from warehouse.catalog.selection import selected
from warehouse.config import Collection, Config
from warehouse.connections import open_duckdb
from warehouse.store import Store, replace_file
from warehouse.takedown.takedowns import taken_down

__all__ = ["Sample", "SnapshotError", "Tombstone", "current_snapshot", "open_places", "open_snapshot", "snapshot_hash",
           "snapshot_splits", "take_snapshot"]

_BATCH = 65_536
_HASHED = ("clip_id", "split", "class_id", "class_name", "weight", "rendition", "stride")


def take_snapshot(store: Store, config: Config, collection: Collection) -> dict[str, Any]:
    """Write the collection's present membership and return its row of ``snapshots``.

    The id is a hash of what it holds (:func:`snapshot_hash`): taking it again changes nothing. Of a collection that is
    a query the catalog is asked, as it is now.

    Raises:
        SnapshotError: the collection is empty, a clip that it keeps is in no shard, or a query does not make a
            collection (:func:`warehouse.catalog.selection.selected`); says what to do.
    """
    members = decided(store, config, collection) if collection.sql is None else selected(store, config, collection)
    clips, classes = members.clips, None if members.classes is None else list(members.classes)
    snapshot_id = snapshot_hash(clips, classes)
    if not store.path("snapshots", snapshot_id).exists():
        column = pa.repeat(pa.scalar(snapshot_id), len(clips))
        snapshot = {
            "snapshot_id": snapshot_id,
            "collection": collection.name,
            "created": datetime.now(UTC),
            "clips": len(clips),
            "taxonomy": collection.taxonomy,
            "classes": classes,
        }
        # The row of `snapshots` last: a snapshot that is listed is complete.
        store.write("snapshot_clips", clips.add_column(0, "snapshot_id", column), snapshot_id)
        store.write("snapshots", [snapshot], snapshot_id)
    _point(store, collection, snapshot_id)
    [row] = store.rows("snapshots", snapshot_id)
    return row


def current_snapshot(store: Store, collection: str) -> str:
    """Id of the snapshot that was taken last of a collection. A run records the id, never the name.

    Raises:
        SnapshotError: none has been taken.
    """
    path = _pointer(store, collection)
    if not path.exists():
        raise SnapshotError(f"no snapshot of {collection!r} has been taken: materialise the asset `{collection}`")
    return path.read_text().strip()


def snapshot_splits(store: Store, snapshot_id: str) -> tuple[str, ...]:
    """The splits that a snapshot has clips in."""
    return tuple(sorted(pc.unique(store.read("snapshot_clips", snapshot_id, ["split"])["split"]).to_pylist()))


def _pointer(store: Store, collection: str) -> Path:
    return store.root / "collections" / f"{collection}.snapshot"


def _point(store: Store, collection: Collection, snapshot_id: str) -> None:
    """Note in ``collection_snapshots`` what the collection is from now on, and then point to it."""
    name, earlier = collection.name, store.rows("collection_snapshots", collection.name)
    row = {"collection": name, "taken": datetime.now(UTC), "snapshot_id": snapshot_id, "sql": collection.sql}
    if not earlier or (earlier[-1]["snapshot_id"], earlier[-1]["sql"]) != (snapshot_id, collection.sql):
        store.write("collection_snapshots", [*earlier, row], name)
    replace_file(_pointer(store, name), f"{snapshot_id}\n".encode())


def snapshot_hash(clips: pa.Table, classes: Sequence[str] | None) -> str:
    """Hex digest (16 characters) of the class list and the ordered clip id, split, class, weight, rendition and stride.

    What is hashed is JSON: a line with the class list, and a line with an array for each clip. A class list may hold
    classes that no clip of the snapshot shows.
    """
    digest = hashlib.blake2b(json.dumps(classes).encode(), digest_size=8)
    for start in range(0, clips.num_rows, _BATCH):
        columns = [_as_json(clips[name].slice(start, _BATCH)) for name in _HASHED]
        lines = pc.binary_join_element_wise(*columns, ", ")
        digest.update("".join(chain.from_iterable(("\n[", line, "]") for line in lines.to_pylist())).encode())
    return digest.hexdigest()


def _as_json(values: pa.ChunkedArray) -> pa.Array:
    encoded = values.combine_chunks().dictionary_encode(null_encoding="encode")
    return pa.array([json.dumps(value) for value in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def open_snapshot(store: Store, snapshot_id: str, split: str) -> Sequence[Sample]:
    """The samples of a snapshot's split, in its order, with the places of their bytes; without clips taken down.

    Raises:
        SnapshotError: as :func:`open_places`.
    """
    return open_places(store, snapshot_id, split).present()


def open_places(store: Store, snapshot_id: str, split: str) -> Places:
    """What :func:`open_snapshot` gives, with a tombstone in the place of each clip that has been taken down.

    Training orders these: a clip that goes leaves the order of the others as it is, and cursors keep their meaning.

    Raises:
        SnapshotError: there is no such snapshot, the split is empty or wholly taken down, or a clip is in no shard any
            more.
    """
    return Places(store.root, _open(store, snapshot_id, split))


def _open(store: Store, snapshot_id: str, split: str) -> pa.Table:
    """Columns as the fields of :class:`Sample`, and ``gone``: whether the clip has been taken down."""
    if not store.path("snapshots", snapshot_id).exists():
        known = ", ".join(store.parts("snapshots")) or "none"
        raise SnapshotError(f"no snapshot {snapshot_id!r} under {store.root}. There are: {known}")
    with open_duckdb() as connection:
        connection.register("gone", pa.table({"clip_id": pa.array(sorted(taken_down(store)), pa.string())}))
        chosen = quoted(str(store.path("snapshot_clips", snapshot_id)))
        samples, shards = (relation(connection, store, name) for name in ("samples", "shards"))
        rows = connection.execute(
            f"""
            SELECT c.clip_id, c.source, c.split, c.class_id, c.weight, c.stride,
                   h.path AS shard, s.offset, s.size, s.sha256, s.codec, s.fps, s.frames, s.width, s.height,
                   g.clip_id IS NOT NULL AS gone
            FROM read_parquet({chosen}, hive_partitioning = false) c
            LEFT JOIN {samples} s ON s.clip_id = c.clip_id AND s.rendition = c.rendition
            LEFT JOIN {shards} h ON h.shard = s.shard
            LEFT JOIN gone g ON g.clip_id = c.clip_id
            WHERE c.split = ?
            ORDER BY c.position
            """,
            [split],
        ).to_arrow_table()
    if not rows.num_rows:
        raise SnapshotError(f"snapshot {snapshot_id} has no clip in split {split!r}")
    if pc.all(rows["gone"]).as_py():
        raise SnapshotError(f"snapshot {snapshot_id}: every clip in split {split!r} has been taken down")
    lost = rows["clip_id"].filter(pc.and_(pc.is_null(rows["shard"]), pc.invert(rows["gone"])))
    if len(lost):
        raise SnapshotError(f"snapshot {snapshot_id}: {len(lost)} clips are in no shard, the first is {lost[0]}")
    return rows
