"""``python -m warehouse.corpus DIR --clips N [--seed S] [--workers W]``."""

import argparse
import sys
from pathlib import Path

from warehouse.corpus.build import build
from warehouse.corpus.plants import LEAST_CLIPS


def main() -> int:
    """Make the corpus; exit status 2 with one line on what is wrong with the arguments."""
    parser = argparse.ArgumentParser(prog="python -m warehouse.corpus", description="Render the embedded corpus.")
    parser.add_argument("dir", type=Path, metavar="DIR", help="a new or empty folder, or this corpus unfinished")
    parser.add_argument("--clips", type=int, required=True, metavar="N", help=f"clips to render, {LEAST_CLIPS} or more")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws another corpus (default 0)")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one for each core)")
    arguments = parser.parse_args()
    try:
        made = build(arguments.dir, arguments.clips, arguments.seed, arguments.workers)
    except (ValueError, FileExistsError) as error:
        print(error, file=sys.stderr)
        return 2
    files = [path for path in arguments.dir.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print(f"{arguments.dir}: {len(files)} files, {megabytes:.1f} MB{'' if made else ', complete already'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
