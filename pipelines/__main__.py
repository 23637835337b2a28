"""``python -m pipelines``: what a run would do and take, what came of it, and the same with one thing replaced."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from assets.amounts import bytes_text, seconds_text
from pipelines.ablation_table import print_list, print_measured
from pipelines.ablations import AblationError, run_all
from pipelines.plan import Plan, make_plan
from pipelines.presets import recipe_of
from pipelines.recipe import resolve
from pipelines.recipe_text import as_json, print_recipe
from pipelines.source_plan import TRIED, SourcePlan
from pipelines.summary import print_summary
from warehouse.catalog.build import CatalogError
from warehouse.catalog.snapshots import SnapshotError
from warehouse.commands.numbers import at_least_one
from warehouse.config import Config, ConfigError, load
from warehouse.sources import SourceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, or 1 with a message on standard error)."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines",
        description="Before and after a run: recipe, plan, the run itself (dagster job execute -m pipelines -j "
        "full_run), summary.",
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
    recipe = commands.add_parser(
        "recipe",
        parents=[shared],
        help="every number of the training stages: schedule, batches, rates, memory, expected time",
        description="The resolved recipe of each training stage, before anything runs and before there is any data: "
        "what it follows, and where paper and released scripts differ; epochs and steps; how a step's videos are dealt "
        "over GPUs; rates by the linear rule; memory of each GPU; expected time. Writes nothing.",
        epilog="For the preset `paper`, `size` in [training] is S, B, L, H or g. On another number of GPUs a step has "
        "the same videos, and the run is the same run.",
    )
    recipe.add_argument(
        "--gpus", type=at_least_one, metavar="N", help="for a machine with N GPUs (default: this machine, tried)"
    )
    recipe.add_argument("--json", action="store_true", help="one object with all of it")
    ablations = commands.add_parser(
        "ablations",
        parents=[shared],
        help="the paper's ablations at the scale of one's own recipe, in one table",
        description="Runs the recipe with one thing replaced, each up to its evaluation, and prints one table beside "
        "the paper's figures. What is finished is not repeated; the snapshots have to be there (job full_run).",
    )
    ablations.add_argument("names", nargs="*", help="which (default: the recipe itself, decoder masks and data)")
    ablations.add_argument("--list", action="store_true", help="print which there are, and run nothing")
    ablations.add_argument("--seeds", type=at_least_one, default=1, metavar="N", help="runs of each (1)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "recipe":
            config = load(options.sources, check_files=False)
            resolved = resolve(config, recipe_of(config, options.gpus), here=options.gpus is None)
            if options.json:
                print(json.dumps(as_json(resolved)))
            else:
                print_recipe(resolved)
        elif options.command == "ablations":
            if options.list:
                print_list()
            else:
                config = load(options.sources, check_files=False)
                print_measured(run_all(options.names, config, recipe_of(config), options.seeds))
        elif options.command == "plan":
            config = load(options.sources)
            print_plan(config, make_plan(config, recipe_of(config)))
        else:
            config = load(options.sources, check_files=False)
            print_summary(config, recipe_of(config))
    except (AblationError, CatalogError, ConfigError, SnapshotError, SourceError) as error:
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
