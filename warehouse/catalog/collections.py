"""Collections that are made by a query: created by name, and listed with those of ``sources.toml``."""

import re
from typing import Any

from warehouse.catalog.build import build_catalog
from warehouse.catalog.membership import SnapshotError
from warehouse.catalog.snapshots import take_snapshot
from warehouse.config import Collection, Config
from warehouse.store import Store


def create(store: Store, config: Config, name: str, sql: str) -> dict[str, Any]:
    """Make a collection of what a query selects now, or take one made so anew; returns its row of ``snapshots``.

    Its snapshot is in the catalog afterwards. What the query has to give, and what is refused, says
    :func:`warehouse.catalog.selection.selected`.

    Raises:
        SnapshotError: the name is no name, or taken by ``sources.toml``; or the query does not make a collection.
        CatalogError: there is no catalog to ask.
    """
    if not re.fullmatch("[a-z0-9_]+", name):
        raise SnapshotError(f"{name!r} is no name for a collection: names are made of a-z, 0-9 and _ alone")
    if name in {collection.name for collection in config.collections}:
        raise SnapshotError(
            f"[collections.{name}] of {config.path} has this name. Choose another, or change it there (a collection "
            'there may be a query as well: sql = "…")'
        )
    taken = take_snapshot(store, config, Collection(name, (), None, 0, sql=sql))
    build_catalog(store)
    return taken
