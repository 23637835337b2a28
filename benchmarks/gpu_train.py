"""How fast a GPU pre-trains: ``python -m benchmarks.gpu_train [--json]``. It needs an NVIDIA GPU.

The training loop's own steps (masks, forward, loss, backward, gradient norm, AdamW) of every size on synthetic uint8
clips of 16 × 224² that lie on the GPU, as a run on one GPU takes them: FSDP2, bfloat16 autocast, fused attention; the
blocks as they are, and each compiled. The loader has a benchmark of its own (``benchmarks.gpu_loader``). A batch that
does not fit is tried again with activation checkpointing, and the table says so. Beside the most memory that was
allocated stands what ``model.memory_plan`` has for it; compiled blocks are planned as those that are not.

TFLOP/s are by ``model.flops``: two for each multiply-accumulate, three times over for forward and backward; what
checkpointing computes again is not counted. MFU is their share of the GPU's dense
bfloat16 peak. Also counted is how often the host waits for the GPU in a step: never, if all is well.
"""

import argparse
import gc
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from model.fit_config import FitConfig
from model.flops import peak_tflops, training_flops
from model.memory_plan import memory_plan
from model.objectives import Clips, Draw, Pretraining
from model.optim import OptimConfig
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from model.stepping import Reading, add_gradients, finish_step, prepare

TO_BEAT = {"S": 6000, "B": 2400, "L": 1000, "H": 600, "g": 320}
"""Clips a second and H100 to beat: estimates, made before anything was measured."""
RATE = 1e-4


@dataclass(frozen=True)
class Plan:
    """What is measured: clips in a batch by size, and steps timed after ``warm_steps``."""

    device: torch.device
    batches: dict[str, int]
    frames: int
    image: int
    steps: int
    warm_steps: int


def gpu_plan() -> Plan:
    """The plan of the published figures: batches for 80 GB."""
    return Plan(
        device=torch.device("cuda", 0),
        batches={"S": 256, "B": 256, "L": 128, "H": 64, "g": 48},
        frames=16,
        image=224,
        steps=20,
        warm_steps=5,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_train", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--sizes", nargs="+", choices=tuple(TO_BEAT), default=tuple(TO_BEAT), help="default: S to g")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("benchmarks.gpu_train trains on an NVIDIA GPU, and torch finds none here.", file=sys.stderr)
        return 1
    result = measure(gpu_plan(), options.sizes)
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def measure(plan: Plan, sizes: Sequence[str]) -> dict[str, Any]:
    """All figures."""
    on_gpu = plan.device.type == "cuda"
    name = torch.cuda.get_device_name(plan.device) if on_gpu else "cpu"
    peak = peak_tflops(plan.device)
    with alone(plan.device):
        cases = [figures(plan, size, compiled, peak) for size in sizes for compiled in (False, True)]
    return {
        "benchmark": "gpu_train",
        "device": name,
        "peak_tflops": peak,
        "clips_per_s_to_beat": TO_BEAT,
        "figures": cases,
    }


@contextmanager
def alone(device: torch.device) -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def planned_bytes(plan: Plan, size: str, checkpointing: bool) -> int:
    """Of a step's batch that lies on the device; a run has the next one there too."""
    on_gpu = plan.device.type == "cuda"
    memory = memory_plan(model_config(plan, size), plan.batches[size], checkpointing=checkpointing, on_gpu=on_gpu)
    return memory.total - (memory.frames // 2 if on_gpu else 0)


def figures(plan: Plan, size: str, compiled: bool, peak: float | None) -> dict[str, Any]:
    """Of one size; with activation checkpointing if its batch does not fit without."""
    for checkpointing in (False, True):
        gc.collect()  # what the case before has left, a model that did not fit too
        if plan.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            measured = timed_steps(plan, size, compiled, checkpointing)
        except torch.OutOfMemoryError:
            continue
        tflops = measured["clips_per_s"] * training_flops(model_config(plan, size)) / 1e12
        case = {"size": size, "compiled": compiled, "checkpointing": checkpointing, "batch": plan.batches[size]}
        planned = planned_bytes(plan, size, checkpointing) / 2**30
        return case | measured | {"planned_gib": planned, "tflops": tflops, "mfu": tflops / peak if peak else None}
    raise SystemExit(
        f"ViT-{size}: a batch of {plan.batches[size]} clips does not fit into the GPU's memory, not even with"
        " activation checkpointing; free the GPU of other processes, or leave this size out with --sizes"
    )


def model_config(plan: Plan, size: str) -> PretrainerConfig:
    """The model that is measured."""
    return PretrainerConfig(SIZES[size], plan.frames, plan.image)


def timed_steps(plan: Plan, size: str, compiled: bool, checkpointing: bool) -> dict[str, float]:
    """Clips a second, peak memory in GiB, and how often the host waits in a step."""
    step = training_step(plan, size, compiled, checkpointing)
    for number in range(plan.warm_steps):
        step(number)
    waits = host_waits(plan.device, partial(step, plan.warm_steps))
    on_gpu = plan.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(plan.device)
    _finish(plan.device)
    began = time.perf_counter()
    before: Reading | None = None
    for number in range(plan.steps):  # the host reads a step's numbers while the next is computed, as the loop does
        taken = step(plan.warm_steps + 1 + number)
        if before:
            before.wait()
        before = taken
    _finish(plan.device)
    seconds = time.perf_counter() - began
    return {
        "clips_per_s": plan.steps * plan.batches[size] / seconds,
        "peak_gib": torch.cuda.max_memory_allocated(plan.device) / 2**30 if on_gpu else 0.0,
        "host_waits": waits,
    }


def training_step(plan: Plan, size: str, compiled: bool, checkpointing: bool) -> Callable[[int], Reading]:
    """The training loop's own step on one batch of noise, by its number. Returns its numbers, on their way."""
    generator = torch.Generator().manual_seed(0)
    objective = Pretraining(Pretrainer(model_config(plan, size), generator))
    shape = (plan.batches[size], plan.frames, plan.image, plan.image, 3)
    frames = torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(plan.device)
    clips = Clips(frames, torch.full((len(frames),), -1), ("noise",) * len(frames))
    optim = OptimConfig(peak_rate=RATE, warmup_steps=0)
    steps = plan.warm_steps + 1 + plan.steps
    config = FitConfig(steps, steps, seed=0, optim=optim, checkpointing=checkpointing, compile=compiled)
    trained = prepare(objective, config, plan.device)

    def step(number: int) -> Reading:
        losses = add_gradients(objective, trained, clips, Draw(seed=0, step=number, rank=0, ranks=1), plan.device)
        return finish_step(trained, losses, (0.0,), RATE, config)

    return step


def host_waits(device: torch.device, action: Callable[[], object]) -> int:
    """How often the host waits for the GPU in ``action``, by PyTorch's own watch; 0 on a CPU."""
    if device.type != "cuda":
        action()
        return 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            action()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    peak = result["peak_tflops"]
    lines = [
        f"{result['device']}{f', peak {peak} TFLOP/s' if peak else ''}; bfloat16, whole steps.",
        "",
        "| ViT | blocks | clips in a batch | clips/s | to beat | TFLOP/s | MFU | peak GiB | planned | host waits |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for case in result["figures"]:
        blocks = ", ".join(
            word for word, used in (("compiled", case["compiled"]), ("checkpointed", case["checkpointing"])) if used
        )
        mfu = "?" if case["mfu"] is None else f"{case['mfu']:.1%}"
        lines.append(
            f"| {case['size']} | {blocks or 'as they are'} | {case['batch']} | {case['clips_per_s']:,.0f} "
            f"| {result['clips_per_s_to_beat'].get(case['size'], '')} | {case['tflops']:.1f} | {mfu} "
            f"| {case['peak_gib']:.1f} | {case['planned_gib']:.1f} | {case['host_waits']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
