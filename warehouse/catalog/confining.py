"""A connection for queries that may come from anywhere: they read the catalog, and neither files nor the network."""

import duckdb
import pyarrow.dataset as dataset

from warehouse.catalog.build import PRESENT, VIEWED
from warehouse.store import Store


def confine(connection: duckdb.DuckDBPyConnection, store: Store) -> None:
    """Take the connection's access to files; nothing gives it back.

    Views of the catalog that read Parquet files could not do so any more: their rows are handed in from outside, read
    as a query wants them.
    """
    for table in VIEWED:
        files = [str(store.path(table, part)) for part in store.parts(table)]
        if files:
            connection.register(f"files_of_{table}", dataset.dataset(files))
            connection.execute(f"CREATE TEMP VIEW {table} AS SELECT * FROM files_of_{table} WHERE {PRESENT}")
    connection.execute("SET enable_external_access = false")
