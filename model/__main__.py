"""``python -m model``: what is done with models outside of a run."""

import argparse
import sys
from collections.abc import Sequence

from model.commands import convert, memory, predict
from model.commands.errors import CommandError
from model.transfer import TransferError
from model.weights import CheckpointError

_COMMANDS = (convert, predict, memory)
_TOLD = (CheckpointError, CommandError, TransferError)
"""Errors whose message says what to do: printed without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, or 1 with a message on standard error)."""
    parser = argparse.ArgumentParser(prog="python -m model", description="What is done with models outside of a run.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in _COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except _TOLD as error:
        print(f"python -m model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
