"""What a step of pre-training costs on a CPU: ``python -m benchmarks.train_step [--json]``.

Forward, loss and backward in float32 of clips of 16 × 224², without the optimiser, which is the same for all. Beside
ours run a plain dual-masked implementation, whose loss is the same (``benchmarks/train_step_arms.py``), and VideoMAE of
``transformers``, which has no decoder mask. Ours also runs without oneDNN, to tell what is owed to how a step is laid
out and what to the library that multiplies matrices.

Times are of steps taken in turns in one process; a ratio is the median over the turns of the ratio within a turn. They
need a quiet machine: threads that wait for one another wait long where others run, and then all figures are noise.

Memory is that of one step, after a first one, in a process of its own: the most that was resident (``VmHWM``) less what
was resident before, which is weights, clips and libraries. Gradients are part of it. How much of what has been freed
stays resident is a matter of glibc's allocator; it is told to return blocks of 64 KiB and more at once, and the figure
that its defaults give stands beside.
"""

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import train_step_arms as arms
from benchmarks.train_step_arms import ARMS, OURS, OURS_ENCODER_ONLY, PLAIN, PLAIN_ENCODER_ONLY
from model.sizes import SIZES

FRAMES, IMAGE = 16, 224
PAPER = {"B": {"speedup": 28.4 / 15.9, "memory": 328 / 631}, "g": {"speedup": 356 / 241, "memory": 1050 / 1753}}
"""Dual masking against encoder masking in VideoMAE V2: hours of 1,200 epochs and memory of feature maps on 64 A100."""
_RETURN_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": str(64 * 1024)}
_MIB = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=["S", "B"], help="default: S B")
    parser.add_argument("--turns", type=int, default=5, help="timed steps of each (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=2, help="clips in a step (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames of a clip (default: %(default)s)")
    parser.add_argument("--image", type=int, default=IMAGE, help="side of a frame (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    if min(options.turns, options.batch, options.threads) < 1:
        parser.error("all numbers must be at least 1")
    clips = (options.frames, options.image, options.batch)
    figures = {size: measure(size, *clips, options.turns, options.threads) for size in options.sizes}
    result = {
        "benchmark": "train_step",
        "cores": len(os.sched_getaffinity(0)),
        "threads": options.threads,
        "turns": options.turns,
        "clips": dict(zip(("frames", "image", "batch"), clips, strict=True)),
        "speedup_vs_plain": {size: ratios["speedup"][PLAIN] for size, ratios in figures.items()},
        "memory_vs_plain": {size: ratios["memory"][PLAIN] for size, ratios in figures.items()},
        "sizes": figures,
        "paper": PAPER,
    }
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def measure(size: str, frames: int, image: int, batch: int, turns: int, threads: int) -> dict[str, Any]:
    """A size's figures: of each arm, and of ours against the others."""
    clips = (frames, image, batch)
    seconds = _in_fresh_process({}, step_times, size, clips, turns, threads)
    memory: dict[str, dict[str, float]] = {}
    for name in tqdm(ARMS, desc=f"memory of {size}"):
        needed = fresh_memory(name, size, clips, threads)
        memory[name] = {"mib": needed, "default_mib": _in_fresh_process({}, step_memory, name, size, clips, threads)}
    return {
        "arms": {name: {"step_s": statistics.median(seconds[name]), **memory[name]} for name in ARMS},
        "speedup": {name: _times_faster(seconds[OURS], seconds[name]) for name in ARMS if name != OURS},
        "memory": {name: memory[OURS]["mib"] / memory[name]["mib"] for name in ARMS if name != OURS},
        "default_memory": {
            name: memory[OURS]["default_mib"] / memory[name]["default_mib"] for name in ARMS if name != OURS
        },
        "dual_against_encoder_masking": {
            who: {
                "speedup": _times_faster(seconds[dual], seconds[encoder_only]),
                "memory": memory[dual]["mib"] / memory[encoder_only]["mib"],
            }
            for who, dual, encoder_only in (("ours", OURS, OURS_ENCODER_ONLY), ("plain", PLAIN, PLAIN_ENCODER_ONLY))
        },
    }


def _times_faster(ours: list[float], others: list[float]) -> float:
    return statistics.median(other / own for own, other in zip(ours, others, strict=True))


def step_times(size: str, clips: tuple[int, int, int], turns: int, threads: int) -> dict[str, list[float]]:
    """Seconds of each arm's step in each turn, after a first one that is not counted."""
    torch.set_num_threads(threads)
    built = {name: arms.build(name, size, *clips) for name in ARMS}
    for arm in built.values():
        arm.step()
        arm.clear()
    seconds: dict[str, list[float]] = {name: [] for name in ARMS}
    for turn in tqdm(range(turns), desc=f"turns of {size}"):
        for name in ARMS[:: -1 if turn % 2 else 1]:
            began = time.perf_counter()
            built[name].step()
            seconds[name].append(time.perf_counter() - began)
            built[name].clear()
    return seconds


def step_memory(name: str, size: str, clips: tuple[int, int, int], threads: int) -> float:
    """MiB that a step has at most, above what is resident before it. For a process of its own (Linux, glibc)."""
    torch.set_num_threads(threads)
    arm = arms.build(name, size, *clips)
    arm.step()
    arm.clear()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident_mib("VmRSS")
    arm.step()
    return _resident_mib("VmHWM") - before


def fresh_memory(name: str, size: str, clips: tuple[int, int, int], threads: int) -> float:
    """:func:`step_memory` of a process whose allocator returns at once what is freed."""
    return _in_fresh_process(_RETURN_AT_ONCE, step_memory, name, size, clips, threads)


def _resident_mib(figure: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{figure}:")) * 1024 / _MIB


def _in_fresh_process(environment: dict[str, str], function: Any, *arguments: Any) -> Any:
    with _variables(environment), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def _variables(environment: dict[str, str]) -> Iterator[None]:
    """What a process started in here finds in its environment: glibc reads it before any code of ours runs."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    clips = result["clips"]
    lines = [
        f"{result['cores']} cores, {result['threads']} threads, batches of {clips['batch']} clips of {clips['frames']} "
        f"× {clips['image']}², float32; forward, loss and backward. Medians of {result['turns']} turns.",
    ]
    for size, figures in result["sizes"].items():
        lines += [
            "",
            f"| ViT-{size} | s a step | ours is faster | MiB | ours needs of it | by glibc's defaults: MiB | of it |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for name, arm in figures["arms"].items():
            faster, of_it, of_default = (
                f"{figures[key][name]:.2f}" if name != OURS else "" for key in ("speedup", "memory", "default_memory")
            )
            lines.append(
                f"| {name} | {arm['step_s']:.3f} | {faster and faster + ' ×'} | {arm['mib']:.0f} | {of_it} "
                f"| {arm['default_mib']:.0f} | {of_default} |"
            )
    lines += ["", "| dual masking against encoder masking | faster | memory |", "|---|---:|---:|"]
    for size, figures in result["sizes"].items():
        for who, ratio in figures["dual_against_encoder_masking"].items():
            lines.append(f"| ViT-{size}, {who} | {ratio['speedup']:.2f} × | {ratio['memory']:.2f} |")
    for size, ratio in result["paper"].items():
        name = f"ViT-{size}, the paper (hours, memory of feature maps)"
        lines.append(f"| {name} | {ratio['speedup']:.2f} × | {ratio['memory']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
