"""Tables for people, on standard output."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def counted(count: int, thing: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


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
    console.print(counted(len(rows), "row"))
