"""``python -m model memory``: what a training run will need on each GPU."""

import argparse
import json
from dataclasses import asdict

from model.classifier import ClassifierConfig
from model.commands.errors import CommandError
from model.memory_plan import RESERVED, MemoryPlan, in_words, memory_plan, table
from model.pretrainer import PretrainerConfig
from model.sizes import SIZES
from model.step_memory import TrainedConfig
from warehouse.commands.numbers import at_least_one

STAGES = ("pretraining", "classification")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "memory",
        help="what a training run will need on each GPU",
        description="Plan the memory of a training run: weights, gradients and AdamW's moments, shared out over the"
        " GPUs (FSDP2), and what a step makes, with and without activation checkpointing, by taking one without data."
        f" It takes no GPU. A plan fits a GPU if {in_words(RESERVED)} are left for what is not planned: CUDA itself,"
        " NCCL, workspaces, holes between allocations.",
        epilog="VideoMAE V2's ViT-g (32 videos × 4 views on each of 64 GPUs) on 8 to 64 GPUs:"
        " python -m model memory --size g --gpus 8 16 32 64 --clips 32 --views 4",
    )
    parser.add_argument("--size", required=True, choices=tuple(SIZES), help="size of the model")
    parser.add_argument("--stage", choices=STAGES, default=STAGES[0], help="default: %(default)s")
    parser.add_argument(
        "--gpus", type=at_least_one, nargs="+", default=[1], metavar="N", help="a plan for each (default: 1)"
    )
    parser.add_argument(
        "--clips", type=at_least_one, default=32, help="clips of a batch on each GPU (default: %(default)s)"
    )
    parser.add_argument("--views", type=at_least_one, default=1, help="views of each clip (default: %(default)s)")
    parser.add_argument("--accumulate", type=at_least_one, default=1, help="batches in a step (default: %(default)s)")
    parser.add_argument("--averaged", action="store_true", help="with a moving average of the weights")
    parser.add_argument("--frames", type=at_least_one, default=16, help="frames of a view (default: %(default)s)")
    parser.add_argument(
        "--image", type=at_least_one, default=224, help="its width and height in pixels (default: %(default)s)"
    )
    parser.add_argument("--classes", type=at_least_one, default=710, help="of a classifier (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="plan for processes on a CPU, in float32")
    parser.add_argument("--json", action="store_true", help="print one JSON object, in bytes, instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the plans, without and with checkpointing."""
    try:
        config = _config(options)
        plans = [
            memory_plan(
                config,
                options.clips * options.views,
                devices,
                options.accumulate,
                checkpointing,
                options.averaged,
                mixed=options.stage == "classification",
                on_gpu=not options.cpu,
            )
            for checkpointing in (False, True)
            for devices in options.gpus
        ]
    except ValueError as error:
        raise CommandError(str(error)) from error
    if options.json:
        print(json.dumps({"size": options.size, "stage": options.stage, "plans": [_row(plan) for plan in plans]}))
    else:
        print(f"ViT-{options.size}, {options.stage}, {options.clips} clips × {options.views} views; GiB on each\n")
        print(table(plans))


def _config(options: argparse.Namespace) -> TrainedConfig:
    size = SIZES[options.size]
    if options.stage == "pretraining":
        return PretrainerConfig(size, options.frames, options.image)
    names = tuple(f"class {number}" for number in range(options.classes))
    return ClassifierConfig(size, options.frames, options.image, names, drop_path=0.1)


def _row(plan: MemoryPlan) -> dict[str, object]:
    return asdict(plan) | {"total": plan.total, "smallest_gpu": plan.smallest_gpu}
