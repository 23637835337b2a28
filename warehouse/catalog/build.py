"""The catalog: one DuckDB file built from all Parquet files, swapped in whole, so it can be asked at any time."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from warehouse.schema import TABLES, Table
from warehouse.store import Store

VIEWS = Path(__file__).with_name("views.sql")


class CatalogError(RuntimeError):
    """The catalog is missing or cannot be asked."""


def build_catalog(store: Store) -> dict[str, int]:
    """Build ``warehouse.duckdb`` from the Parquet files and swap it in; returns rows by table.

    Readers of the old file go on undisturbed. Builders take turns, so the last one to finish has seen every file.
    """
    store.root.mkdir(parents=True, exist_ok=True)
    temporary = store.catalog.with_name(f"{store.catalog.name}.{os.getpid()}.tmp")
    with _turn(store.root / "catalog.lock"):
        for leftover in store.root.glob(f"{store.catalog.name}.*.tmp*"):  # of builders that were killed
            leftover.unlink()
        with duckdb.connect(str(temporary)) as connection:
            counts = {table.name: _load(connection, store, table) for table in TABLES}
            _run(connection, VIEWS.read_text())
            for name, sentence in view_docs().items():
                _run(connection, f"COMMENT ON VIEW {name} IS {_quoted(sentence)}")
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
        return duckdb.connect(str(store.catalog), read_only=True)
    except duckdb.IOException as error:
        raise CatalogError(
            f"{store.catalog}: DuckDB {duckdb.__version__} cannot open it. It is built from the Parquet files: "
            f"materialise `catalog` to build it anew.\n{error}"
        ) from error


def view_docs() -> dict[str, str]:
    """The sentence that explains each view, by name."""
    return dict(re.findall(r"^-- (\w+): (.+)\nCREATE VIEW", VIEWS.read_text(), flags=re.MULTILINE))


def _load(connection: duckdb.DuckDBPyConnection, store: Store, table: Table) -> int:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    if table.part is None:
        path = store.path(table.name)
        files = [str(path)] if path.exists() else []
    else:
        files = [str(store.path(table.name, part)) for part in store.parts(table.name)]
    if files:
        listed = ", ".join(_quoted(file) for file in files)
        # `clips` alone is written once by each source that lists the same clip.
        distinct = "DISTINCT" if table.name == "clips" else ""
        _run(
            connection,
            f"CREATE TABLE {table.name} AS SELECT {distinct} {columns} "
            f"FROM read_parquet([{listed}], hive_partitioning = false)",
        )
    else:
        empty = table.schema.empty_table()
        connection.register("empty", empty)
        _run(connection, f"CREATE TABLE {table.name} AS SELECT {columns} FROM empty")
        connection.unregister("empty")
    _run(connection, f"COMMENT ON TABLE {table.name} IS {_quoted(table.row)}")
    for column in table.columns:
        _run(connection, f'COMMENT ON COLUMN {table.name}."{column.name}" IS {_quoted(column.doc)}')
    [(count,)] = _run(connection, f"SELECT count(*) FROM {table.name}")
    return int(count)


def _run(connection: duckdb.DuckDBPyConnection, statement: str) -> list[tuple[Any, ...]]:
    """Execute and fetch all: with a result not fetched to its end, DuckDB 2.0 refuses to register or close."""
    return connection.execute(statement).fetchall()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Hold the lock file; the operating system frees it if the holder is killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
