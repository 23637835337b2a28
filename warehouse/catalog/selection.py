"""What a collection that is a query holds now: its answer, checked, with all that a snapshot needs beside it."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from warehouse.catalog.build import connect
from warehouse.catalog.confining import confine
from warehouse.catalog.membership import Membership, SnapshotError, class_list, in_no_shard, in_order
from warehouse.config import SPLITS, Collection, Config
from warehouse.store import Store
from warehouse.takedown.takedowns import taken_down

COLUMNS = {"clip_id": "VARCHAR", "split": "VARCHAR", "class_name": "VARCHAR", "weight": "DOUBLE"}
_NAMED = 5
"""Clips that an error names."""
_REPEATS = "clip_id NOT IN (SELECT clip_id FROM protected_repeats)"


def selected(store: Store, config: Config, collection: Collection) -> Membership:
    """The clips that a collection's query selects from the catalog.

    The query gives ``clip_id`` and, if it likes, ``split`` (else all is train), ``class_name`` and ``weight``. Rows
    that are alike in all are one. A clip that has been taken down is left out. The source of a clip is the first of
    ``sources.toml`` that lists it, in that split if one does. With a taxonomy its class list counts the classes, and a
    query without ``class_name`` has the labels of that taxonomy; without one the names found are the classes, sorted.

    Raises:
        SnapshotError: the query fails or selects nothing; has no ``clip_id``, or a column that means nothing here; a
            clip is unknown, in no shard, or twice with different values; a split, class or weight is none; or a
            training clip repeats an evaluation clip. Says what to do.
    """
    with connect(store) as connection:
        confine(connection, store)
        try:
            given = _ask(connection, collection)
        except duckdb.Error as error:
            raise SnapshotError(f"collection {collection.name!r}: its query fails. {error}") from error
        gone = pa.table({"clip_id": pa.array(sorted(taken_down(store)), pa.string())})
        connection.register("gone", gone)
        connection.execute("CREATE TEMP TABLE wanted AS SELECT * FROM asked ANTI JOIN gone USING (clip_id)")
        _check_clips(connection, config, collection)
        _check_leaks(connection, collection, "split" in given)
        classes = _classes(connection, collection, "class_name" in given)
        _place(connection, config)
        return Membership(in_order(connection, config), classes)


def _ask(connection: duckdb.DuckDBPyConnection, collection: Collection) -> list[str]:
    """Put the answer into the table ``asked``, with all of COLUMNS; returns those that the query gives."""
    statements = duckdb.extract_statements(collection.sql or "")
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise SnapshotError(f"collection {collection.name!r}: its query has to be one SELECT statement")
    answer = connection.execute(statements[0]).to_arrow_table()
    given = [name.lower() for name in answer.column_names]
    if "clip_id" not in given:
        raise SnapshotError(
            f"collection {collection.name!r}: its query gives {', '.join(given)}, and no `clip_id`. "
            "Name the column of the clips: SELECT clip_id FROM …"
        )
    if strange := [name for name in given if name not in COLUMNS or given.count(name) > 1]:
        raise SnapshotError(
            f"collection {collection.name!r}: its query gives a column {strange[0]!r}. Of a collection these are read, "
            f"each once: {', '.join(COLUMNS)}. Name them: SELECT clip_id FROM (…)"
        )
    connection.register("answer", answer.rename_columns(given))
    absent = {"split": "'train'", "weight": "1.0"}
    columns = [
        f"{name if name in given else absent.get(name, 'NULL')}::{kind} AS {name}" for name, kind in COLUMNS.items()
    ]
    connection.execute(f"CREATE TEMP TABLE asked AS SELECT DISTINCT {', '.join(columns)} FROM answer")
    connection.unregister("answer")
    return given


def _check_clips(connection: duckdb.DuckDBPyConnection, config: Config, collection: Collection) -> None:
    def refuse(query: str, what: str, remedy: str) -> None:
        found = connection.execute(query).fetchall()
        if found:
            shown = "; ".join(" ".join("NULL" if value is None else str(value) for value in row)
                              for row in found[:_NAMED])  # fmt: skip
            more = ", …" if len(found) > _NAMED else ""
            raise SnapshotError(f"collection {collection.name!r}: {len(found)} {what}: {shown}{more}. {remedy}")

    [(clips,)] = connection.execute("SELECT count(*) FROM wanted").fetchall()
    if not clips:
        raise SnapshotError(
            f"collection {collection.name!r}: its query selects no clip (or only such as have been taken down). "
            f"Try it out: reelhouse sql \"{collection.sql}\""
        )
    refuse(
        "SELECT DISTINCT clip_id FROM wanted ANTI JOIN clips USING (clip_id) ORDER BY clip_id",
        "clips are unknown", "Take clip ids from the catalog, as of `clips` or `samples`.",
    )  # fmt: skip
    refuse(
        f"SELECT DISTINCT split FROM wanted WHERE split IS NULL OR split NOT IN {SPLITS} ORDER BY split",
        "values of `split` are none", f"A split is one of {', '.join(SPLITS)}.",
    )  # fmt: skip
    refuse(
        "SELECT clip_id, weight FROM wanted WHERE weight IS NULL OR NOT (weight >= 0 AND weight < 'inf'::DOUBLE) "
        "ORDER BY clip_id",
        "weights are no number of 0 or more", "Give each clip one.",
    )  # fmt: skip
    refuse(
        "SELECT clip_id, string_agg(DISTINCT split, ' and ' ORDER BY split) FROM wanted GROUP BY clip_id "
        "HAVING count(DISTINCT split) > 1 ORDER BY clip_id",
        "clips have more than one split", "Decide for one: SELECT clip_id, min(split) AS split … GROUP BY clip_id",
    )  # fmt: skip
    refuse(
        "SELECT clip_id FROM wanted GROUP BY clip_id HAVING count(*) > 1 ORDER BY clip_id",
        "clips are selected twice with different values",
        "Decide for one: SELECT clip_id, min(class_name) AS class_name … GROUP BY clip_id",
    )  # fmt: skip
    connection.execute("CREATE TEMP VIEW chosen AS SELECT * FROM wanted")
    absent = in_no_shard(connection, "samples", config.rendition)
    connection.execute("DROP VIEW chosen")
    if absent:
        raise SnapshotError(
            f"collection {collection.name!r}: {len(absent)} clips are in no shard, as no collection of sources.toml "
            f"keeps them: {', '.join(absent[:_NAMED])}{', …' if len(absent) > _NAMED else ''}. Leave them out: "
            f"WHERE clip_id IN (SELECT clip_id FROM samples WHERE rendition = '{config.rendition}'); or find out why "
            "they are out: SELECT * FROM decisions WHERE clip_id = …"
        )


def _check_leaks(connection: duckdb.DuckDBPyConnection, collection: Collection, with_split: bool) -> None:
    found = connection.execute(
        "SELECT clip_id, min_by((protected_clip_id, protected_source, protected_split, how), protected_clip_id) "
        "FROM wanted JOIN protected_repeats USING (clip_id) WHERE split = 'train' GROUP BY clip_id ORDER BY clip_id"
    ).fetchall()
    if found:
        rest = f"split <> 'train' OR {_REPEATS}" if with_split else _REPEATS
        raise SnapshotError(
            f"collection {collection.name!r}: {len(found)} training clips leak: they repeat a clip of the validation "
            f"or test split of a source. {_pairs([(clip, *other) for clip, other in found])}. Leave them out: "
            f"SELECT * FROM (…) WHERE {rest}"
        )
    own = connection.execute(_OWN_LEAKS).fetchall()
    if own:
        raise SnapshotError(
            f"collection {collection.name!r}: {len({row[0] for row in own})} training clips leak: they repeat a clip "
            f"that the query itself puts into an evaluation split. {_pairs(own)}. Give clips of one video, and copies "
            "(`duplicate_clusters`), one split."
        )


_OWN_LEAKS = """
    WITH video AS (SELECT clip_id, split, namespace, native_id FROM wanted JOIN clips USING (clip_id)),
    training AS (FROM video WHERE split = 'train'), evaluated AS (FROM video WHERE split <> 'train'), pairs AS (
        SELECT clip_a AS clip_id, clip_b AS other, kind FROM duplicate_edges
        UNION ALL
        SELECT clip_b, clip_a, kind FROM duplicate_edges
    )
    SELECT t.clip_id, e.clip_id, 'the query', e.split, 'same_video'
    FROM training t JOIN evaluated e USING (namespace, native_id)
    UNION
    SELECT t.clip_id, e.clip_id, 'the query', e.split, p.kind
    FROM training t JOIN pairs p USING (clip_id) JOIN evaluated e ON e.clip_id = p.other
    ORDER BY ALL
"""


def _pairs(rows: Sequence[tuple[str, ...]]) -> str:
    """Training clip, evaluation clip, its source and split, and how it was found."""
    shown = [f"{clip} repeats {other} ({source} {split}, {how})" for clip, other, source, split, how in rows[:_NAMED]]
    return "; ".join(shown) + (", …" if len(rows) > _NAMED else "")


def _classes(
    connection: duckdb.DuckDBPyConnection, collection: Collection, named: bool
) -> tuple[str, ...] | None:
    """Put the class of each clip into the table ``labelled``; returns the class list."""
    taxonomy, classes = collection.taxonomy, class_list(connection, "classes", collection.taxonomy)
    if named and classes is None:
        found = connection.execute("SELECT DISTINCT class_name FROM wanted WHERE class_name IS NOT NULL").fetchall()
        classes = tuple(sorted(row[0] for row in found))
    names = pa.table({"class_name": pa.array(classes or (), pa.string()),
                      "class_id": pa.array(range(len(classes or ())), pa.int32())})  # fmt: skip
    connection.register("names", names)
    if classes is not None and not named:
        connection.execute(
            "CREATE TEMP TABLE labelled AS SELECT w.* EXCLUDE (class_name), l.class_name, l.class_id "
            "FROM wanted w LEFT JOIN labels l ON l.clip_id = w.clip_id AND l.taxonomy = ?", [taxonomy]
        )  # fmt: skip
    else:
        connection.execute("CREATE TEMP TABLE labelled AS SELECT * FROM wanted LEFT JOIN names USING (class_name)")
    if classes is None:
        return None
    without = connection.execute(
        "SELECT clip_id, class_name FROM labelled WHERE class_id IS NULL ORDER BY class_name NULLS LAST, clip_id"
    ).fetchall()
    if without:
        clip, name = without[0]
        what = f"the taxonomy {taxonomy!r} has no class {name!r}" if name else "they have no class"
        remedy = "Correct `class_name`" if name else (
            "Leave them out: WHERE class_name IS NOT NULL" if named
            else f"Leave them out: WHERE clip_id IN (SELECT clip_id FROM labels WHERE taxonomy = '{taxonomy}')"
        )  # fmt: skip
        raise SnapshotError(
            f"collection {collection.name!r}: {len(without)} clips cannot be labelled, the first is {clip}: {what}. "
            f"{remedy}."
        )
    return classes


def _place(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    """The table ``chosen``: ``labelled`` with the source of each clip."""
    order = pa.table({"source": pa.array([source.name for source in config.sources], pa.string()),
                      "priority": pa.array([source.priority for source in config.sources], pa.int32())})  # fmt: skip
    connection.register("priorities", order)
    connection.execute(
        """
        CREATE TEMP TABLE chosen AS
        WITH listed AS (
            SELECT l.clip_id, arg_min(m.source, (m.split <> l.split, coalesce(p.priority, 1000000), m.source)) AS source
            FROM labelled l JOIN memberships m USING (clip_id) LEFT JOIN priorities p USING (source)
            GROUP BY l.clip_id
        )
        SELECT clip_id, source, split, class_id, class_name, weight FROM labelled JOIN listed USING (clip_id)
        """
    )
