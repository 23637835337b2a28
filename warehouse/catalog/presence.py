"""What a source's annotations list against what is on disk: the view ``presence``, before there is a catalog."""

import re
from typing import Any

from warehouse.catalog.build import VIEWS
from warehouse.connections import open_duckdb
from warehouse.store import Store


def presence(store: Store, source: str) -> list[dict[str, Any]]:
    """The rows of the view ``presence`` for one source, from its own Parquet files.

    ``split`` is ``None`` in the row that counts the rejects of no one split; ``share_present`` where nothing is listed.
    """
    statement = re.search(r"CREATE VIEW presence AS\n(.*?);", VIEWS.read_text(), re.DOTALL)
    assert statement is not None
    with open_duckdb() as connection:
        for table in ("memberships", "files", "rejects"):
            connection.register(table, store.read(table, source))
        asked = connection.execute(statement[1])
        columns = [column[0] for column in asked.description]
        return [dict(zip(columns, row, strict=True)) for row in asked.fetchall()]
