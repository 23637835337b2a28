"""Assets from shards to snapshots: the catalog, and one asset for each collection of `sources.toml`."""

import dagster as dg

from assets import markdown, previews, thumbnails
from assets.recording import SHEET, shown_last
from warehouse.catalog.build import build_catalog, connect, view_docs
from warehouse.catalog.snapshots import take_snapshot
from warehouse.config import Collection, Config
from warehouse.schema import BY_NAME
from warehouse.store import Store


def collection_assets(config: Config) -> list[dg.AssetsDefinition]:
    """The asset `catalog`, and a snapshot asset named after each collection."""
    store = Store(config.data_root)

    @dg.asset(group_name="catalog", kinds={"duckdb"}, deps=["shards", "labels"])
    def catalog() -> dg.MaterializeResult:
        """One DuckDB file with every table and view, rebuilt from the Parquet files and swapped in."""
        counts = build_catalog(store)
        tables = [(name, count, BY_NAME[name].row) for name, count in counts.items()]
        return dg.MaterializeResult(
            metadata={
                **{f"{name} rows": count for name, count in counts.items()},
                "tables": markdown.table(("table", "rows", "a row is"), tables),
                "views": markdown.table(("view", "what it answers"), list(view_docs().items())),
            }
        )

    return [catalog, *(_snapshot_asset(store, config, collection) for collection in config.collections)]


def _snapshot_asset(store: Store, config: Config, collection: Collection) -> dg.AssetsDefinition:
    kind = f"labelled by `{collection.taxonomy}`" if collection.taxonomy else "unlabelled"
    splits = ", ".join(collection.splits) or "a query"

    @dg.asset(
        name=collection.name,
        group_name="collections",
        kinds={"parquet"},
        deps=["catalog"],
        metadata=markdown.columns("snapshot_clips", "snapshots"),
        description=f"Snapshot of the collection `{collection.name}` ({splits}; {kind}).",
    )
    def snapshot(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        taken = take_snapshot(store, config, collection)
        build_catalog(store)
        with connect(store) as connection:
            rows = connection.execute(
                "SELECT source, split, clips, hours FROM composition WHERE collection = ?", [collection.name]
            ).fetchall()
            sizes = connection.execute(_CLASS_SIZES, [taken["snapshot_id"]]).fetchall()
        last = shown_last(context, store, collection.name, "snapshot")
        unchanged = last is not None and last.value == taken["snapshot_id"]
        sheet = shown_last(context, store, collection.name, SHEET) if unchanged else None
        sheet = sheet or thumbnails.of_snapshot(store, config, taken["snapshot_id"])
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": taken["clips"],
                "snapshot": taken["snapshot_id"],
                "clips": taken["clips"],
                "classes": len(taken["classes"] or ()),
                **({SHEET: sheet} if sheet else {}),
                **previews.composition(rows),
                **previews.class_sizes(sizes),
            }
        )

    return snapshot


# A class of the list that no clip shows counts zero.
_CLASS_SIZES = """
    WITH listed AS (
        SELECT snapshot_id, unnest(classes) AS class_name FROM snapshots WHERE snapshot_id = ?
    )
    SELECT class_name, count(clip_id)
    FROM listed LEFT JOIN snapshot_clips USING (snapshot_id, class_name) GROUP BY class_name
"""
