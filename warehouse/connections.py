"""The one way in which connections to DuckDB are opened here."""

from pathlib import Path

import duckdb


def open_duckdb(path: Path | None = None, *, read_only: bool = False, **settings: str) -> duckdb.DuckDBPyConnection:
    """A connection to a database file, or to a database in memory where no path is given.

    It draws nothing: at a prompt, in a notebook and under ``python -c`` DuckDB would paint a progress bar into standard
    output once a query takes two seconds.

    Args:
        settings: of DuckDB, such as ``memory_limit``, by name.

    Raises:
        duckdb.Error: the file cannot be opened, or there is no such setting.
    """
    connection = duckdb.connect(":memory:" if path is None else str(path), read_only=read_only, config=dict(settings))
    connection.execute("SET enable_progress_bar = false")  # of a session: no setting that a connection is opened with
    return connection
