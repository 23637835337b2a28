"""``reelhouse get``: one clip out of the shards, as a file."""

import argparse
from pathlib import Path

from warehouse.catalog.exporting import ExportError
from warehouse.catalog.stored_clips import get
from warehouse.config import Config
from warehouse.store import Store, replace_file


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "get",
        help="one clip as a file",
        description="Write the stored video of a clip to a file: read from its place in a shard, and checked.",
    )
    parser.add_argument("clip", metavar="CLIP", help="clip id, the beginning of one, or namespace:native_id")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write, which is not there yet")
    parser.set_defaults(run=run)


def run(store: Store, config: Config, options: argparse.Namespace) -> None:
    """Write the file."""
    if options.out.exists():
        raise ExportError(f"{options.out} is there already. Name another file, or remove it")
    data = get(store, options.clip, config.rendition)
    replace_file(options.out, data)
    print(f"{options.out}: {len(data)} bytes")
