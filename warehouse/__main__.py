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
from warehouse.config import Config, ConfigError, load
from warehouse.error_classes import MISSING, QUARANTINED
from warehouse.schema import BY_NAME, TABLES
from warehouse.store import Store
from warehouse.toml_text import suggest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, or 1 with a message on standard error)."""
    parser = argparse.ArgumentParser(
        prog="reelhouse",
        description="Ask the catalog what the data set is made of. It can be asked at any time, also during a run.",
        epilog="Views to begin with: composition, exclusions, leaks_found, leaks, leakage_rules, accounting, lineage.",
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
    retry = commands.add_parser(
        "retry",
        help="probe the files of one error class again",
        description="Forget what was found in the media files of one error class, so that the next run probes them "
        "again: after a fix that does not change the files (a newer decoder, a limit raised, a disk mounted again). "
        "Prints how many files there are by source. Then materialise `media`, or run the job `full_run`.",
        epilog=f"Error classes (docs/error_classes.md): {', '.join((MISSING, *QUARANTINED))}.",
    )
    retry.add_argument("--error-class", required=True, choices=(MISSING, *QUARANTINED), metavar="CLASS")
    retry.add_argument("--source", metavar="NAME", help="files of this source alone (default: of all)")
    options = parser.parse_args(arguments)
    try:
        config = load(options.sources, check_files=False)
        store = Store(config.data_root)
        if options.command == "retry":
            _retry(store, config, options.error_class, options.source)
        elif options.command == "sql":
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


def _retry(store: Store, config: Config, error_class: str, source: str | None) -> None:
    # Imported here: it loads the decoders, which no other command needs.
    from warehouse.probing import forget

    names = [each.name for each in config.sources]
    if source is not None and source not in names:
        raise ConfigError(config.path, [f"there is no [sources.{source}]. {suggest(source, names)}"])
    counts = forget(store, names if source is None else [source], error_class)
    for name, count in counts.items():
        print(f"{name}: {count}")
    print(f"{sum(counts.values())} files of class {error_class} will be probed again by the next run.")


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
