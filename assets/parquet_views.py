"""The store's Parquet files as views, for assets that show data before there is a catalog."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from warehouse.connections import open_duckdb
from warehouse.schema import BY_NAME
from warehouse.store import Store


@contextmanager
def parquet_views(store: Store, *names: str, part: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with a view for each table named; read lazily, so a query costs the columns that it takes.

    ``part`` narrows the tables that are written in parts of that kind (:class:`warehouse.schema.Table`) to one part.
    """
    with open_duckdb() as connection:
        for name in names:
            if BY_NAME[name].part is None:
                files = [store.path(name)]
            else:
                files = [store.path(name, each) for each in ([part] if part else store.parts(name))]
            found = [str(path) for path in files if path.exists()]
            if found:
                connection.read_parquet(found, hive_partitioning=False).create_view(name)
            else:
                connection.register(name, BY_NAME[name].schema.empty_table())
        yield connection
