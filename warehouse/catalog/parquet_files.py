"""SQL text for what a query selects from: the Parquet files of a table, and string literals."""

import duckdb

from warehouse.schema import BY_NAME
from warehouse.store import Store


def relation(connection: duckdb.DuckDBPyConnection, store: Store, name: str) -> str:
    """SQL text to put after FROM: all parts of a table; an empty table where nothing has been written.

    DuckDB reads of the files only the columns and row groups that a query wants.
    """
    table = BY_NAME[name]
    if table.part is None:
        path = store.path(name)
        files = [path] if path.exists() else []
    else:
        files = [store.path(name, part) for part in store.parts(name)]
    if files:
        return f"read_parquet([{', '.join(quoted(str(file)) for file in files)}], hive_partitioning = false)"
    connection.register(f"empty_{name}", table.schema.empty_table())
    return f"empty_{name}"


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
