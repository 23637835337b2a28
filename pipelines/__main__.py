"""``python -m pipelines plan``: what a run would take. ``python -m pipelines summary``: what came of it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from assets.amounts import bytes_text, seconds_text
from pipelines.plan import Plan, make_plan
from pipelines.presets import recipe_of
from pipelines.source_plan import TRIED, SourcePlan
from pipelines.summary import print_summary
from warehouse.catalog.build import CatalogError
from warehouse.config import Config, ConfigError, load
from warehouse.sources import SourceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, or 1 with a message on standard error)."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines",
        description="Before and after a run. The run itself: dagster job execute -m pipelines -j full_run",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--sources", type=Path, help="configuration (default: $REELHOUSE_SOURCES, else sources.toml of the project)"
    )
    commands.add_parser(
        "plan",
        parents=[shared],
        help="clips, hours, expected time and disk, and what is already done",
        description=f"What a run would take. Lists the sources, tries {TRIED} clips of each and some steps of each "
        "training stage on made-up clips, and writes nothing.",
    )
    commands.add_parser(
        "summary",
        parents=[shared],
        help="composition, exclusions, training and accuracy of what has run",
        description="What the collections are made of, what is out and why, and what came of training.",
    )
    options = parser.parse_args(arguments)
    try:
        if options.command == "plan":
            config = load(options.sources)
            print_plan(config, make_plan(config, recipe_of(config)))
        else:
            config = load(options.sources, check_files=False)
            print_summary(config, recipe_of(config))
    except (CatalogError, ConfigError, SourceError) as error:
        print(f"reelhouse: {error}", file=sys.stderr)
        return 1
    return 0


def print_plan(config: Config, plan: Plan) -> None:
    """Print a plan for people; ``~`` marks what is estimated."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    workers = f"{config.workers} worker{'' if config.workers == 1 else 's'}"
    console.print(f"\nSources of {config.path.name} (rendition {config.rendition}, {workers})\n")
    sources = _table("source", *("clips", "files", "bad rows", "size", "hours"), "probe", "shards", "new on disk")
    for source in plan.sources:
        sources.add_row(
            source.name,
            f"{source.clips:,}",
            f"{source.files:,}",
            f"{source.rejected_rows:,}",
            bytes_text(source.bytes),
            _hours(source),
            _work(source.to_probe, source.probe_s),
            _work(source.to_store, source.store_s),
            _size(source.bytes_to_write),
        )
    console.print(sources)
    console.print(f"\nTraining (preset {config.training.preset}, on this machine's {plan.device})\n")
    stages = _table("stage", "steps left", "a step", "time", "new on disk", "")
    for stage in plan.stages:
        stages.add_row(
            stage.name,
            f"{stage.steps:,}" if stage.steps else "–",
            f"~{stage.step_s:.3g} s" if stage.step_s is not None else "–",
            "?" if stage.seconds is None else f"~{seconds_text(stage.seconds)}" if stage.seconds else "–",
            _size(stage.bytes_to_write),
            stage.remark,
        )
    console.print(stages)
    time = f"{'' if plan.complete else 'at least '}~{seconds_text(plan.seconds)}"
    todo = f"{time}, {_size(plan.bytes_to_write)} on disk" if plan.seconds or not plan.complete else "nothing to do"
    console.print(f"\nIn all: {todo}. Free under {config.data_root}: {bytes_text(plan.free_bytes)}.")
    if plan.bytes_to_write > plan.free_bytes:
        console.print("That does not fit: free some space, or set another `data_root`.")
    console.print(
        f"~ is estimated from {TRIED} clips of each source and some steps on made-up clips. Shards: at most, as copies "
        "are not stored.\nNot counted: waiting for data in training, the search for copies, the start of each stage "
        "(some seconds)."
    )


def _table(first: str, *others: str) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right" if name else "left")
    return table


def _hours(source: SourcePlan) -> str:
    if source.hours is None:
        return "?"
    return f"{'' if source.hours_known else '~'}{source.hours:.3g}"


def _work(clips: int, seconds: float | None) -> str:
    if not clips:
        return "done"
    return f"{clips:,} clips, {'?' if seconds is None else f'~{seconds_text(seconds)}'}"


def _size(count: int) -> str:
    return f"~{bytes_text(count)}" if count else "–"


if __name__ == "__main__":
    sys.exit(main())
