"""The catalog: one DuckDB file built from all Parquet files, swapped in whole, so it can be asked at any time."""

import os
import re
from pathlib import Path
from typing import Any

import duckdb

from warehouse.catalog.parquet_files import quoted, relation
from warehouse.connections import open_duckdb
from warehouse.schema import TABLES, Table
from warehouse.store import Store, in_turn

VIEWS = Path(__file__).with_name("views.sql")
ABSENT = ("frame_hashes",)
"""Tables that stay Parquet files: of a million clips tens of gigabytes, which nobody asks by hand."""
VIEWED = ("features",)
"""Tables that stay Parquet files and are views here, without clips taken down: gigabytes, and the catalog is built
often."""
PRESENT = "clip_id NOT IN (SELECT clip_id FROM takedowns)"


class CatalogError(RuntimeError):
    """The catalog is missing or cannot be asked."""


def build_catalog(store: Store) -> dict[str, int]:
    """Build ``warehouse.duckdb`` from the Parquet files and swap it in; returns rows by table.

    Readers of the old file go on undisturbed. Builders take turns, so the last one to finish has seen every file.
    """
    temporary = store.catalog.with_name(f"{store.catalog.name}.{os.getpid()}.tmp")
    with in_turn(store.root / "catalog.lock"):
        for leftover in store.root.glob(f"{store.catalog.name}.*.tmp*"):  # of builders that were killed
            leftover.unlink()
        with open_duckdb(temporary) as connection:
            # In one transaction: each of a few hundred statements on its own would wait for the disk.
            _run(connection, "BEGIN")
            counts = {table.name: _load(connection, store, table) for table in TABLES if table.name not in ABSENT}
            _run(connection, VIEWS.read_text())
            # A clip by its id: with the index a few blocks are read, without it a whole column of some row group.
            _run(connection, "CREATE INDEX samples_by_clip ON samples (clip_id)")
            for kind, name, sentence in _answers():
                _run(connection, f"COMMENT ON {kind} {name} IS {quoted(sentence)}")
            _run(connection, "COMMIT")
            _run(connection, "CHECKPOINT")
        temporary.replace(store.catalog)
    return counts


def connect(store: Store) -> duckdb.DuckDBPyConnection:
    """A read-only connection to the catalog as it is now.

    Raises:
        CatalogError: there is no catalog yet, or this DuckDB cannot open it.
    """
    if not store.catalog.exists():
        raise CatalogError(f"{store.catalog}: no catalog yet. Materialise `catalog`, or run the job `full_run`.")
    try:
        return open_duckdb(store.catalog, read_only=True)
    except duckdb.IOException as error:
        raise CatalogError(
            f"{store.catalog}: DuckDB {duckdb.__version__} cannot open it. It is built from the Parquet files: "
            f"materialise `catalog` to build it anew.\n{error}"
        ) from error


def view_docs() -> dict[str, str]:
    """The sentence that explains each view, by name."""
    return {name: sentence for _, name, sentence in _answers()}


def _answers() -> list[tuple[str, str, str]]:
    """Kind (VIEW, or TABLE: worked out once, when the catalog is built), name and sentence of each in views.sql."""
    found = re.findall(r"^-- (\w+): (.+)\nCREATE (VIEW|TABLE) \1 ", VIEWS.read_text(), flags=re.MULTILINE)
    return [(kind, name, sentence) for name, sentence, kind in found]


def _load(connection: duckdb.DuckDBPyConnection, store: Store, table: Table) -> int:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    # `clips` alone is written once by each source that lists the same clip.
    distinct = "DISTINCT" if table.name == "clips" else ""
    files = relation(connection, store, table.name)
    # Where nothing has been written yet, there is no file for a view to name.
    kind = "VIEW" if table.name in VIEWED and store.parts(table.name) else "TABLE"
    present = f"WHERE {PRESENT}" if kind == "VIEW" else ""
    _run(connection, f"CREATE {kind} {table.name} AS SELECT {distinct} {columns} FROM {files} {present}")
    _run(connection, f"COMMENT ON {kind} {table.name} IS {quoted(table.row)}")
    for column in table.columns:
        _run(connection, f'COMMENT ON COLUMN {table.name}."{column.name}" IS {quoted(column.doc)}')
    [(count,)] = _run(connection, f"SELECT count(*) FROM {table.name}")
    return int(count)


def _run(connection: duckdb.DuckDBPyConnection, statement: str) -> list[tuple[Any, ...]]:
    """Execute and fetch all: with a result not fetched to its end, DuckDB 2.0 refuses to register or close."""
    return connection.execute(statement).fetchall()
