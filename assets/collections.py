"""Assets from shards to snapshots: the catalog, and one asset for each collection of `sources.toml`."""

import dagster as dg

from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.snapshots import take_snapshot
from warehouse.config import Collection, Config
from warehouse.store import Store


def collection_assets(config: Config) -> list[dg.AssetsDefinition]:
    """The asset `catalog`, and a snapshot asset named after each collection."""
    store = Store(config.data_root)

    @dg.asset(group_name="catalog", kinds={"duckdb"}, deps=["shards", "labels"])
    def catalog() -> dg.MaterializeResult:
        """One DuckDB file with every table and view, rebuilt from the Parquet files and swapped in."""
        counts = build_catalog(store)
        return dg.MaterializeResult(metadata={f"{name} rows": count for name, count in counts.items()})

    return [catalog, *(_snapshot_asset(store, config, collection) for collection in config.collections)]


def _snapshot_asset(store: Store, config: Config, collection: Collection) -> dg.AssetsDefinition:
    kind = f"labelled by `{collection.taxonomy}`" if collection.taxonomy else "unlabelled"

    @dg.asset(
        name=collection.name,
        group_name="collections",
        kinds={"parquet"},
        deps=["catalog"],
        description=f"Snapshot of the collection `{collection.name}` ({', '.join(collection.splits)}; {kind}).",
    )
    def snapshot() -> dg.MaterializeResult:
        taken = take_snapshot(store, config, collection)
        build_catalog(store)
        with connect(store) as connection:
            rows = connection.execute(
                "SELECT source, split, clips, hours FROM composition WHERE collection = ?", [collection.name]
            ).fetchall()
        lines = ["| source | split | clips | hours |", "|---|---|---:|---:|"]
        lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
        return dg.MaterializeResult(
            metadata={
                "snapshot": taken["snapshot_id"],
                "clips": taken["clips"],
                "classes": len(taken["classes"] or ()),
                "composition": dg.MetadataValue.md("\n".join(lines)),
            }
        )

    return snapshot
