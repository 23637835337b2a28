"""What the assets show of their tables in the UI: counts, as tables and charts, whatever the number of rows."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import duckdb

from assets import markdown
from assets.data_charts import class_counts, stacked_bars
from assets.parquet_views import parquet_views
from warehouse.catalog.presence import presence
from warehouse.config import Config
from warehouse.curation.decisions import REASONS
from warehouse.store import Store

Shown = dict[str, Any]
"""Metadata values by the names that the UI shows them under."""

LISTED = 20
"""Rows of a table in the UI; the catalog has them all."""
ENDS = 10
"""Classes listed from either end of the order by size."""


def of_sources(config: Config) -> Shown:
    """The sources as they are configured."""
    rows = [(s.name, s.kind, s.namespace, s.stride, s.licence, ", ".join(s.collections)) for s in config.sources]
    names = ("source", "kind", "namespace", "stride", "licence", "collections")
    return {"sources": markdown.table(names, rows), "dagster/row_count": len(rows)}


def of_clips(store: Store, source: str) -> Shown:
    """Listed against present, by split; and rows of the annotations that are no clip, by error class."""
    rows = presence(store, source)
    columns = ("split", "listed", "present", "missing", "rejected", "share_present")
    shown = {"presence": markdown.table(columns, [[row[name] for name in columns] for row in rows])}
    with parquet_views(store, "rejects", part=source) as connection:
        shown |= _table(connection, "rejected rows", _REJECTS)
    return shown


def of_media(store: Store, source: str) -> Shown:
    """How much there is and of what kind, and the files that cannot be used, by error class."""
    with parquet_views(store, "media", part=source) as connection:
        [(hours,)] = connection.execute(_HOURS).fetchall()
        shown = {"hours": round(hours, 4), **_table(connection, "streams", _STREAMS)}
        return shown | _table(connection, "files not used", _TROUBLE)


def of_frame_hashes(store: Store, source: str) -> Shown:
    """What was hashed: whole frames, and parts of them."""
    with parquet_views(store, "frame_hashes", part=source) as connection:
        return _table(connection, "variants", _VARIANTS)


def of_duplicates(store: Store) -> Shown:
    """Pairs by kind, and the largest clusters."""
    with parquet_views(store, "duplicate_edges", "duplicate_clusters") as connection:
        return _table(connection, "pairs by kind", _EDGES) | _table(connection, "largest clusters", _CLUSTERS)


def of_decisions(store: Store, config: Config) -> Shown:
    """For each collection how many clips are kept, and what became of the others."""
    with parquet_views(store, "decisions") as connection:
        rows = connection.execute("SELECT collection, reason, count(*) FROM decisions GROUP BY ALL").fetchall()
    counts = {(collection, reason): count for collection, reason, count in rows}
    names = [collection.name for collection in config.collections]
    reasons = [reason for reason in REASONS if any((name, reason) in counts for name in names)]
    lines = [(reason, *(counts.get((name, reason), 0) for name in names)) for reason in reasons]
    bars = {name: {reason: counts.get((name, reason), 0) for reason in reasons} for name in names}
    return {
        **{f"clips kept: {name}": counts.get((name, "kept"), 0) for name in names},
        "reasons": markdown.table(("reason", *names), lines),
        "kept and dropped": markdown.chart(stacked_bars(bars, "clips")),
    }


def of_labels(store: Store) -> Shown:
    """For each taxonomy its classes with their clips, and a chart of their sizes."""
    with parquet_views(store, "classes", "labels") as connection:
        rows = connection.execute(_CLASSES).fetchall()
    shown: Shown = {}
    for taxonomy in dict.fromkeys(row[0] for row in rows):
        sizes = [(name, count) for of, name, count in rows if of == taxonomy]
        shown[f"classes: {taxonomy}"] = _both_ends(sizes)
        shown[f"class sizes: {taxonomy}"] = markdown.chart(class_counts(sizes))
    return shown


def of_packing(store: Store, source: str) -> Shown:
    """The shards that are planned."""
    with parquet_views(store, "packing", part=source) as connection:
        return _table(connection, "shards planned", _PACKING)


def of_shards(store: Store, source: str) -> Shown:
    """The tars, the newest plan's first."""
    with parquet_views(store, "shards", part=source) as connection:
        return _table(connection, "tars", _SHARDS)


def composition(rows: Sequence[tuple[str, str, int, float | None]]) -> Shown:
    """What a snapshot is made of.

    Args:
        rows: source, split, clips and hours.
    """
    bars: dict[str, dict[str, int]] = {}
    for source, split, clips, _ in rows:
        bars.setdefault(split, {})[source] = clips
    return {
        "composition": markdown.table(("source", "split", "clips", "hours"), rows),
        "clips by source": markdown.chart(stacked_bars(bars, "clips")),
    }


def class_sizes(sizes: Sequence[tuple[str, int]]) -> Shown:
    """The classes of a snapshot: name and clips. Nothing of one that has none."""
    return {"class sizes": markdown.chart(class_counts(sizes)), "clips by class": _both_ends(sizes)} if sizes else {}


_REJECTS = f"""
    SELECT error_class AS "error class", count(*) AS rows, any_value(detail ORDER BY file, row) AS "for example"
    FROM rejects GROUP BY ALL ORDER BY rows DESC, error_class LIMIT {LISTED}
"""
_HOURS = "SELECT coalesce(sum(duration_ms), 0) / 3.6e6 FROM media WHERE status = 'ok'"
_STREAMS = f"""
    SELECT codec, width || ' × ' || height AS size, round(fps, 2) AS fps, count(*) AS files,
           round(sum(duration_ms) / 3.6e6, 3) AS hours
    FROM media WHERE status = 'ok' GROUP BY ALL ORDER BY files DESC, codec, size, fps LIMIT {LISTED}
"""
_TROUBLE = f"""
    SELECT status, error_class AS "error class", count(*) AS files, any_value(detail ORDER BY clip_id) AS "for example"
    FROM media WHERE status <> 'ok' GROUP BY ALL ORDER BY files DESC, error_class LIMIT {LISTED}
"""
_VARIANTS = """
    SELECT variant, count(*) AS hashes FROM frame_hashes GROUP BY variant ORDER BY hashes DESC, variant
"""
_EDGES = """
    SELECT kind, count(*) AS pairs, round(avg(coverage), 3) AS "mean coverage",
           round(avg(mean_distance), 1) AS "mean distance (of 256 bits)"
    FROM duplicate_edges GROUP BY kind ORDER BY pairs DESC, kind
"""
_CLUSTERS = """
    SELECT cluster_id AS cluster, count(*) AS clips FROM duplicate_clusters
    GROUP BY cluster_id ORDER BY clips DESC, cluster LIMIT 5
"""
_CLASSES = """
    SELECT taxonomy, class_name, count(clip_id) FROM classes c LEFT JOIN labels l USING (taxonomy, class_id, class_name)
    GROUP BY ALL ORDER BY taxonomy, count(clip_id) DESC, class_name
"""
_PACKING = f"""
    SELECT shard, count(*) AS clips FROM packing GROUP BY shard ORDER BY shard LIMIT {LISTED}
"""
_SHARDS = f"""
    SELECT shard, rendition, samples AS clips, round(bytes / 1e6, 2) AS MB, sha256[:12] AS "SHA-256 begins"
    FROM shards ORDER BY shard LIMIT {LISTED}
"""


def _table(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> Shown:
    """The answer under its name; nothing where there is no row."""
    result = connection.execute(query)
    names = [column[0] for column in result.description or ()]
    rows = result.fetchall()
    return {name: markdown.table(names, rows)} if rows else {}


def _both_ends(sizes: Sequence[tuple[str, int]]) -> dg.MarkdownMetadataValue:
    """The largest and the smallest classes: of many, what lies between is left out, and said to be."""
    ordered = sorted(sizes, key=lambda row: (-row[1], row[0]))
    left_out = len(ordered) - 2 * ENDS
    if left_out > 0:
        between = (f"… {left_out:,} classes between …", None)
        return markdown.table(("class", "clips"), [*ordered[:ENDS], between, *ordered[-ENDS:]])
    return markdown.table(("class", "clips"), ordered)
