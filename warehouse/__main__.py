"""``python -m warehouse`` (installed as ``reelhouse``): ask the catalog, and read what its tables mean."""

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from warehouse.catalog.build import CatalogError, connect, view_docs
from warehouse.config import ConfigError, load
from warehouse.schema import BY_NAME, TABLES
from warehouse.store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, or 1 with a message on standard error)."""
    parser = argparse.ArgumentParser(
        prog="reelhouse",
        description="Ask the catalog what the data set is made of. It can be asked at any time, also during a run.",
        epilog="Views to begin with: composition, exclusions, leaks_found, leaks, accounting, lineage.",
    )
    parser.add_argument(
        "--sources", type=Path, help="configuration (default: $REELHOUSE_SOURCES, else sources.toml of the project)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sql = commands.add_parser("sql", help="run a query", description="Run a read-only DuckDB query on the catalog.")
    sql.add_argument("query", help='for example "SELECT * FROM composition"; "-" reads standard input')
    sql.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: %(default)s")
    tables = commands.add_parser("tables", help="what each table, view and column means")
    tables.add_argument("name", nargs="?", help="one table or view (default: all)")
    options = parser.parse_args(arguments)
    try:
        store = Store(load(options.sources, check_files=False).data_root)
        if options.command == "sql":
            _sql(store, sys.stdin.read() if options.query == "-" else options.query, options.format)
        else:
            _tables(store, options.name)
    except (CatalogError, ConfigError, duckdb.Error) as error:
        print(f"reelhouse: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has left: nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _sql(store: Store, query: str, form: str) -> None:
    with connect(store) as connection:
        # A query may come from anywhere: it reads the catalog, and neither files nor the network.
        connection.execute("SET enable_external_access = false")
        result = connection.execute(query)
        names = [column[0] for column in result.description or []]
        rows = result.fetchall()
    if form == "json":
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str, indent=1))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    else:
        print_table(names, rows)


def print_table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows for people: numbers to the right, nothing cut off where the output is not a terminal."""
    numeric = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(names))]
    table = Table(show_edge=False, pad_edge=False)
    for name, right in zip(names, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False, markup=False)
    console.print(table)
    console.print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


def _tables(store: Store, name: str | None) -> None:
    views = view_docs()
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


if __name__ == "__main__":
    sys.exit(main())
