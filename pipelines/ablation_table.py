"""What ``python -m pipelines ablations`` prints."""

import statistics
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pipelines.ablations import ABLATIONS, QUERY, Measured


def print_list() -> None:
    """The ablations that there are, with the paper's figures."""
    console, table = _console(), _table("ablation", "replaces", "paper: top-1 %", "GMACs")
    for name, ablation in ABLATIONS.items():
        table.add_row(name, ablation.question, _number(ablation.paper), _number(ablation.paper_gmacs))
    console.print(table)


def print_measured(found: Sequence[Measured]) -> None:
    """A row for each ablation, over its seeds, and how to ask the catalog for the same."""
    console = _console()
    table = _table("ablation", "GMACs", "top-1 %", "± sd", "by seed", "s a step", "paper: top-1 %", "GMACs")
    for name in dict.fromkeys(each.name for each in found):
        own = [each for each in found if each.name == name]
        top1 = [100 * each.top1 for each in own]
        table.add_row(
            name,
            f"{own[0].gmacs:.3g}",
            f"{statistics.mean(top1):.1f}",
            f"{statistics.stdev(top1):.1f}" if len(top1) > 1 else "–",
            ", ".join(f"{value:.1f}" for value in top1),
            f"{statistics.mean(each.seconds_per_step for each in own):.3g}",
            _number(ABLATIONS[name].paper),
            _number(ABLATIONS[name].paper_gmacs),
        )
    console.print(table)
    console.print(
        "\ns a step: wall time of pre-training × GPUs, its start included. GMACs: of pre-training, a view. The paper's "
        "figures are of other models and data: see `pipelines/ablations.py`.\nFrom the catalog (`reelhouse sql`), for "
        f"the runs of each row:\n{QUERY}"
    )
    for each in found:
        console.print(f"{each.name}, seed {each.seed}: {each.runs['evaluation']}, {each.runs['pretrained']}")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)


def _table(first: str, *others: str) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name == "replaces" else "right")
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")
