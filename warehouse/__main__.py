"""``python -m warehouse`` (installed as ``reelhouse``): ask the catalog, and act on what it says."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb

from warehouse.catalog.build import CatalogError
from warehouse.catalog.clip_names import ClipNameError
from warehouse.catalog.exporting import ExportError
from warehouse.catalog.membership import SnapshotError
from warehouse.catalog.stored_clips import NotStoredError
from warehouse.commands import collection, compact, get, lineage, retry, sql, tables, takedown
from warehouse.config import ConfigError, load
from warehouse.shards.errors import ShardError
from warehouse.store import Store
from warehouse.takedown.proof import ContentLeftError
from warehouse.takedown.takedowns import NoClipsError, TakenDownError

_COMMANDS = (sql, tables, collection, get, lineage, takedown, compact, retry)
_TOLD = (
    CatalogError, ClipNameError, ConfigError, ContentLeftError, ExportError, NoClipsError, NotStoredError, ShardError,
    SnapshotError, TakenDownError, duckdb.Error, sql.EmptyQueryError,
)  # fmt: skip
"""Errors whose message says what to do: printed without a traceback."""


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
    for command in _COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        config = load(options.sources, check_files=False)
        options.run(Store(config.data_root), config, options)
    except _TOLD as error:
        print(f"reelhouse: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has left: nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
