"""Blocking checks on snapshots: nobody trains on, or is measured by, a clip that was taken down."""

import dagster as dg

from warehouse.catalog.build import connect
from warehouse.catalog.snapshots import current_snapshot, open_snapshot, snapshot_splits
from warehouse.config import Collection, Config
from warehouse.store import Store
from warehouse.takedown.takedowns import taken_down

NO_CLIP_TAKEN_DOWN = "no_clip_taken_down"
NAMED = 20
"""Clips named in a check's metadata."""


def takedown_checks(config: Config) -> list[dg.AssetChecksDefinition]:
    """One for the snapshot of each collection."""
    store = Store(config.data_root)
    return [_check(store, collection) for collection in config.collections]


def _check(store: Store, collection: Collection) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=collection.name, name=NO_CLIP_TAKEN_DOWN, blocking=True)
    def no_clip_taken_down() -> dg.AssetCheckResult:
        """Clips of the snapshot that were taken down are tombstones: marked in the catalog, and read by nobody."""
        snapshot = current_snapshot(store, collection.name)
        held = taken_down(store) & set(store.read("snapshot_clips", snapshot, ["clip_id"])["clip_id"].to_pylist())
        read: set[str] = set()
        for split in snapshot_splits(store, snapshot) if held else ():
            read |= {sample.clip_id for sample in open_snapshot(store, snapshot, split)} & held
        with connect(store) as connection:
            marked = connection.execute("SELECT clip_id FROM tombstones WHERE snapshot_id = ?", [snapshot]).fetchall()
        unmarked = held - {clip for (clip,) in marked}
        return dg.AssetCheckResult(
            passed=not read and not unmarked,
            metadata={
                "tombstones": len(held),
                "read all the same": sorted(read)[:NAMED],
                "not in the catalog as tombstones (materialise `catalog`)": sorted(unmarked)[:NAMED],
            },
        )

    return no_clip_taken_down
