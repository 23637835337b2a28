"""``reelhouse sql``: a query on the catalog."""

import argparse
import csv
import json
import sys

import duckdb

from warehouse.catalog.build import connect
from warehouse.catalog.confining import confine
from warehouse.commands.printing import print_table
from warehouse.config import Config
from warehouse.store import Store


class EmptyQueryError(RuntimeError):
    """A query without a statement."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("sql", help="run a query", description="Run a read-only DuckDB query on the catalog.")
    parser.add_argument("query", help='for example "SELECT * FROM composition"; "-" reads standard input')
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(store: Store, config: Config, options: argparse.Namespace) -> None:
    """Print what the query answers.

    Raises:
        EmptyQueryError: there is no statement in it.
    """
    query = sys.stdin.read() if options.query == "-" else options.query
    if not duckdb.extract_statements(query):
        raise EmptyQueryError('the query is empty. For example: reelhouse sql "SELECT * FROM composition"')
    with connect(store) as connection:
        confine(connection, store)
        result = connection.execute(query)
        names = [column[0] for column in result.description or []]
        rows = result.fetchall()
    if options.format == "json":
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str, indent=1))
    elif options.format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    else:
        print_table(names, rows)
