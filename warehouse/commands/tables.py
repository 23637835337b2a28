"""``reelhouse tables``: what each table, view and column means."""

import argparse

from warehouse.catalog.build import CatalogError, connect, view_docs
from warehouse.config import Config
from warehouse.schema import BY_NAME, TABLES
from warehouse.store import Store


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("tables", help="what each table, view and column means")
    parser.add_argument("name", nargs="?", help="one table or view (default: all)")
    parser.set_defaults(run=run)


def run(store: Store, config: Config, options: argparse.Namespace) -> None:
    """Print tables and views with their columns."""
    name, views = options.name, view_docs()
    if name is not None and name not in BY_NAME and name not in views:
        raise CatalogError(f"no table or view {name!r}. There are: {', '.join([*BY_NAME, *views])}")
    for table in TABLES:
        if name in (None, table.name):
            print(f"\n{table.name}: {table.row}  (key: {', '.join(table.key)})")
            for column in table.columns:
                optional = ", may be NULL" if column.nullable else ""
                print(f"    {column.name:<16} {column.type!s:<10} {column.doc}{optional}")
    for view, sentence in views.items():
        if name in (None, view):
            print(f"\n{view} (view): {sentence}")
            if store.catalog.exists():
                with connect(store) as connection:
                    for column, kind, *_ in connection.execute(f"DESCRIBE {view}").fetchall():
                        print(f"    {column:<16} {kind.lower()}")
