"""What a collection of ``sources.toml`` holds now: the clips that its decisions keep, with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from warehouse.catalog.parquet_files import relation
from warehouse.config import Collection, Config
from warehouse.connections import open_duckdb
from warehouse.shards.rendition import stored_stride
from warehouse.store import Store


class SnapshotError(RuntimeError):
    """A snapshot cannot be taken or opened as asked."""


@dataclass(frozen=True)
class Membership:
    """What a snapshot holds.

    ``clips`` has the columns of ``snapshot_clips`` without ``snapshot_id``, by split, source and clip id; ``classes``
    the class names in the order of ``class_id`` (``None``: unlabelled).
    """

    clips: pa.Table
    classes: tuple[str, ...] | None


def decided(store: Store, config: Config, collection: Collection) -> Membership:
    """The clips that ``decisions`` keep in a collection.

    Raises:
        SnapshotError: it keeps none, or a clip that it keeps is in no shard.
    """
    with open_duckdb() as connection:
        names = ("decisions", "labels", "samples", "classes", "takedowns")
        tables = {name: relation(connection, store, name) for name in names}
        connection.execute(
            f"""
            CREATE TEMP TABLE chosen AS
            SELECT d.clip_id, d.source, d.split, l.class_id, l.class_name, 1.0::DOUBLE AS weight
            FROM {tables["decisions"]} d
            LEFT JOIN {tables["labels"]} l ON l.clip_id = d.clip_id AND l.taxonomy = $taxonomy
            WHERE d.collection = $collection AND d.keep
            -- Taken down since the decisions were taken.
            AND d.clip_id NOT IN (SELECT clip_id FROM {tables["takedowns"]})
            """,
            {"collection": collection.name, "taxonomy": collection.taxonomy},
        )
        [(clips,)] = connection.execute("SELECT count(*) FROM chosen").fetchall()
        if not clips:
            raise SnapshotError(
                f"collection {collection.name!r} keeps no clip. Ask: SELECT * FROM exclusions WHERE collection = "
                f"'{collection.name}'"
            )
        absent = in_no_shard(connection, tables["samples"], config.rendition)
        if absent:
            raise SnapshotError(
                f"collection {collection.name!r}: {len(absent)} clips are in no shard (the first: {absent[0]}). "
                "Materialise `packing` and `shards`."
            )
        classes = class_list(connection, tables["classes"], collection.taxonomy)
        return Membership(in_order(connection, config), classes)


def in_no_shard(connection: duckdb.DuckDBPyConnection, samples: str, rendition: str) -> list[str]:
    """Sorted ids of the clips of the table ``chosen`` that no shard holds in the rendition."""
    rows = connection.execute(
        f"SELECT DISTINCT clip_id FROM chosen ANTI JOIN (SELECT clip_id FROM {samples} WHERE rendition = ?) "
        "USING (clip_id) ORDER BY clip_id",
        [rendition],
    ).fetchall()
    return [row[0] for row in rows]


def class_list(connection: duckdb.DuckDBPyConnection, classes: str, taxonomy: str | None) -> tuple[str, ...] | None:
    """The class names of a taxonomy in the order of their ids; ``None`` where there is no taxonomy."""
    if taxonomy is None:
        return None
    query = f"SELECT class_name FROM {classes} WHERE taxonomy = ? ORDER BY class_id"
    return tuple(row[0] for row in connection.execute(query, [taxonomy]).fetchall())


def in_order(connection: duckdb.DuckDBPyConnection, config: Config) -> pa.Table:
    """The rows of the table ``chosen`` as those of ``snapshot_clips``.

    Raises:
        SnapshotError: a source is in ``sources.toml`` no longer, which says its stride.
    """
    present = [row[0] for row in connection.execute("SELECT DISTINCT source FROM chosen ORDER BY source").fetchall()]
    _require_sources(config, present)
    # A rendition that stores the sampled frames alone has all of them one after the other.
    stored = [stored_stride(config.rendition, source.stride) for source in config.sources]
    strides = pa.table({"source": pa.array([source.name for source in config.sources], pa.string()),
                        "stride": pa.array(stored, pa.int32())})  # fmt: skip
    connection.register("strides", strides)
    rows = connection.execute(
        "SELECT clip_id, source, split, class_id, class_name, weight, $rendition AS rendition, stride "
        "FROM chosen JOIN strides USING (source) ORDER BY split, source, clip_id",
        {"rendition": config.rendition},
    ).to_arrow_table()
    return rows.add_column(0, "position", pa.array(np.arange(rows.num_rows, dtype=np.int32)))


def _require_sources(config: Config, present: Sequence[str]) -> None:
    missing = sorted(set(present) - {source.name for source in config.sources})
    if missing:
        raise SnapshotError(
            f"clips of the source {missing[0]!r} are wanted, which is not in {config.path} (any more). Put it back, or "
            f"leave its clips out: source <> '{missing[0]}'"
        )
