"""How fast DALI feeds a GPU: ``python -m benchmarks.gpu_loader [--json]``. It needs an NVIDIA GPU.

Three tables, of clips of ten seconds (np256: H.264, 340 × 256, 30 frames a second), 16 frames at stride 4 of each, four
views of 224 × 224, batches of 32 clips, as VideoMAE V2 pre-trains. A clip counts once, however many views it gives.

- Decoding: the packets lie in memory. By where the clip starts, with the packets trimmed and not, with its disposable
  B-frames left out, kept, and with none in the stream, 340 and 352 wide, and by DALI's threads. In turns, medians.
- Loading: ``DaliClipLoader`` from the shard to the batch on the GPU, beside ``ClipLoader`` (PyAV) with as many workers
  and ``DeviceBatches``.
- Pre-training S and B, with each loader, and with one batch over and over: what the model could do, and the share of
  its time that it waits. V-SWIFT's own figure is printed beside.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.gpu_loader_data import NO_B, NP256, STRIDE, WIDE, ClipShape, store
from loaders.batch import Batch
from loaders.dali import DaliClipLoader
from loaders.dali_decoder import THREADS, DaliDecoder
from loaders.jobs import PackedViews, places
from loaders.order import Cursor, Draw
from loaders.recipes import pretraining
from loaders.to_device import DeviceBatches
from loaders.train_loader import ClipLoader
from loaders.trim import TrimmedClip, trim
from loaders.views import LoaderConfig, training_views
from model.objectives import Pretraining
from model.optim import OptimConfig
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from model.training import FitConfig, Progress, fit
from warehouse.catalog.sample import Sample
from warehouse.shards.reader import read_sample

WORK = Path(".reelhouse/benchmarks/gpu_loader")
V_SWIFT = 280
"""Videos a second and A100 in pre-training ViT-B, by the README of github.com/deepglint/OpenVFM (V-SWIFT)."""
GOP = 32  # of np256 at stride 4
Pack = Callable[[Sample, bytes, list[int]], TrimmedClip]


@dataclass(frozen=True)
class Plan:
    """What is measured. ``starts`` are frames; ``batches`` are timed in each turn of decoding, after a first one."""

    device: torch.device
    shape: ClipShape
    clips: int
    loader: LoaderConfig
    starts: tuple[int, ...]
    threads: tuple[int, ...]
    batches: int
    turns: int
    models: tuple[str, ...]
    steps: int
    warm_steps: int


def gpu_plan() -> Plan:
    """The plan of the published figures."""
    cores = len(os.sched_getaffinity(0))
    return Plan(
        device=torch.device("cuda", 0),
        shape=ClipShape("h264", 300, (340, 256)),
        clips=32,
        loader=replace(pretraining(32), workers=max(1, cores - 2)),
        starts=(0, 59, 118, 177, 236),
        threads=(1, 2, 4, 8, 16),
        batches=8,
        turns=3,
        models=("S", "B"),
        steps=60,
        warm_steps=15,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_loader", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("benchmarks.gpu_loader measures decoding on an NVIDIA GPU, and torch finds none here.", file=sys.stderr)
        return 1
    result = measure(gpu_plan())
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def measure(plan: Plan) -> dict[str, Any]:
    """All figures, clips a second if nothing else is said."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    stored = store(WORK, plan.clips, plan.shape)
    cases = decoding_cases(plan, stored)
    by_threads = {f"{count} threads": (cases["trimmed, uniform starts"], count) for count in plan.threads}
    rates = in_turns(plan, {name: (packed, THREADS) for name, packed in cases.items()} | by_threads)
    result = {
        "benchmark": "gpu_loader",
        "device": torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else "cpu",
        "cores": len(os.sched_getaffinity(0)),
        "workers": plan.loader.workers,
        "threads": THREADS,
        "clips_per_batch": plan.loader.clips_per_batch,
        "views": plan.loader.views,
        "bytes_of_a_clip": statistics.mean(sample.size for sample in stored[NP256]),
        "decoding": {name: rates[name] for name in cases},
        "decoding_by_threads": {count: rates[f"{count} threads"] for count in plan.threads},
        "loading": {name: loading_rate(plan, source) for name, source in _sources(plan, stored[NP256]).items()},
        "pretraining": {size: pretraining_rates(plan, stored[NP256], size) for size in plan.models},
        "v_swift_videos_per_s_and_a100": V_SWIFT,
    }
    shutil.rmtree(WORK)
    return result


def decoding_cases(plan: Plan, stored: dict[str, list[Sample]]) -> dict[str, list[PackedViews]]:
    """What is handed to the decoder in each case; uniform starts are the same in all."""
    rng = np.random.default_rng(0)
    last = plan.shape.frames - plan.loader.frames * STRIDE
    uniform = rng.integers(0, last + 1, plan.clips).tolist()

    def packed(way: str, pack: Pack, starts: list[int]) -> list[PackedViews]:
        return [_packed(plan.loader, s, pack, start) for s, start in zip(stored[way], starts, strict=True)]

    cases = {f"whole clip, start {start}": packed(NP256, _whole, [start] * plan.clips) for start in plan.starts}
    cases |= {f"trimmed, start {start}": packed(NP256, trim, [start] * plan.clips) for start in plan.starts}
    return cases | {
        "whole clip, uniform starts": packed(NP256, _whole, uniform),
        "trimmed, uniform starts": packed(NP256, trim, uniform),
        "trimmed, disposable B-frames kept": packed(NP256, _trim_keeping, uniform),
        "trimmed, a stream without B-frames": packed(NO_B, trim, uniform),
        "trimmed, sides multiples of 16": packed(WIDE, trim, uniform),
    }


def _packed(config: LoaderConfig, sample: Sample, pack: Pack, start: int) -> PackedViews:
    frame_ids = start + np.arange(config.frames) * STRIDE
    drawn = training_views(config, sample, Draw(0, start, 0, Cursor()))
    wanted, views = places([replace(view, frame_ids=frame_ids) for view in drawn])
    return PackedViews(pack(sample, read_sample(sample), wanted), views)


def _whole(sample: Sample, data: bytes, wanted: list[int]) -> TrimmedClip:
    return TrimmedClip(data, tuple(wanted))


def _trim_keeping(sample: Sample, data: bytes, wanted: list[int]) -> TrimmedClip:
    """From the keyframe on with every frame, as if all were wanted."""
    first = wanted[0] // GOP * GOP
    clip = trim(sample, data, range(first, wanted[-1] + 1))
    return TrimmedClip(clip.data, tuple(clip.frame_ids[frame - first] for frame in wanted))


def in_turns(plan: Plan, cases: dict[str, tuple[list[PackedViews], int]]) -> dict[str, float]:
    """Median of clips a second of each case, (packets, DALI's threads)."""
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(plan.turns):
        for name, (packed, threads) in cases.items():
            rates[name].append(decoding_rate(plan, packed, threads))
    return {name: statistics.median(of_case) for name, of_case in rates.items()}


def decoding_rate(plan: Plan, packed: Sequence[PackedViews], threads: int) -> float:
    """Clips a second, with the next batch handed over while one is decoded."""
    size = plan.loader.clips_per_batch
    batches = [packed[first : first + size] for first in range(0, len(packed), size)]
    decoder = DaliDecoder(plan.loader, plan.device, threads)
    decoder.submit(batches[0])
    decoder.collect()
    work = list(islice(cycle(batches), plan.batches))
    began = time.perf_counter()
    decoder.submit(work[0])
    for following in work[1:]:
        decoder.submit(following)
        decoder.collect()
    decoder.collect()
    return sum(map(len, work)) / (time.perf_counter() - began)


def _sources(plan: Plan, samples: list[Sample]) -> dict[str, Callable[[], AbstractContextManager[Iterator[Batch]]]]:
    return {"DALI": lambda: _from_dali(plan, samples), "PyAV": lambda: _from_pyav(plan, samples)}


@contextmanager
def _from_dali(plan: Plan, samples: list[Sample]) -> Iterator[Iterator[Batch]]:
    with DaliClipLoader(samples, plan.loader, device=plan.device) as loader:
        yield iter(loader)


@contextmanager
def _from_pyav(plan: Plan, samples: list[Sample]) -> Iterator[Iterator[Batch]]:
    with ClipLoader(samples, plan.loader) as loader, DeviceBatches(loader, plan.device) as batches:
        yield iter(batches)


def loading_rate(plan: Plan, source: Callable[[], AbstractContextManager[Iterator[Batch]]]) -> float:
    """Clips a second that arrive on the device, with nothing else to do."""
    with source() as batches:
        for _ in islice(batches, plan.warm_steps):
            pass
        began = time.perf_counter()
        for _ in islice(batches, plan.steps):
            pass
        return plan.steps * plan.loader.clips_per_batch / (time.perf_counter() - began)


def pretraining_rates(plan: Plan, samples: list[Sample], size: str) -> dict[str, dict[str, float]]:
    """Of each source of batches: clips and views a second, and the share of its time that the model waits."""
    rates = {}
    for name, source in _sources(plan, samples).items():
        with source() as batches:
            rates[name] = _fit_rate(plan, size, batches)
            batch = next(batches)
            again = replace(batch, frames=batch.frames.clone(), data_wait_s=0.0)
    return rates | {"one batch over and over": _fit_rate(plan, size, repeat(again))}


def _fit_rate(plan: Plan, size: str, batches: Iterable[Batch]) -> dict[str, float]:
    """The project's own training loop: bfloat16 on CUDA, AdamW, FSDP2 with one process."""
    loader = plan.loader
    config = PretrainerConfig(SIZES[size], loader.frames, loader.size)
    objective = Pretraining(Pretrainer(config, torch.Generator().manual_seed(0)))
    steps = plan.warm_steps + plan.steps + 1  # the last one is not counted: it saves a checkpoint
    optim = OptimConfig(peak_rate=1e-4, warmup_steps=0)
    seen: list[tuple[float, Progress]] = []
    with _process_group(plan.device):
        fit(
            objective, batches, FitConfig(steps, steps, 0, optim, keep=1), WORK / "checkpoints", plan.device,
            report=lambda progress: seen.append((time.perf_counter(), progress)),
        )  # fmt: skip
    shutil.rmtree(WORK / "checkpoints")
    counted = seen[plan.warm_steps : -1]
    taken_s = counted[-1][0] - seen[plan.warm_steps - 1][0]
    views_per_s = len(counted) * loader.clips_per_batch * loader.views / taken_s
    # Of each step's own time: steps take unlike long where a batch has to be waited for.
    seconds = [loader.clips_per_batch / progress.clips_per_s for _, progress in counted]
    waited_s = sum(s * progress.data_wait_share for s, (_, progress) in zip(seconds, counted, strict=True))
    return {
        "clips_per_s": views_per_s / loader.views,
        "views_per_s": views_per_s,
        "waiting_share": waited_s / sum(seconds),
    }


@contextmanager
def _process_group(device: torch.device) -> Iterator[None]:
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{result['device']}, {result['cores']} cores, {result['workers']} workers; clips of "
        f"{result['bytes_of_a_clip'] / 1000:.0f} kB; batches of {result['clips_per_batch']} clips × "
        f"{result['views']} views. Clips a second.",
        "",
        f"| decoding, {result['threads']} threads | clips/s |",
        "|---|---:|",
        *(f"| {name} | {rate:.0f} |" for name, rate in result["decoding"].items()),
        "",
        "| threads, trimmed, uniform starts | clips/s |",
        "|---|---:|",
        *(f"| {count} | {rate:.0f} |" for count, rate in result["decoding_by_threads"].items()),
        "",
        "| loading | clips/s |",
        "|---|---:|",
        *(f"| {name} | {rate:.0f} |" for name, rate in result["loading"].items()),
        "",
        "| pre-training | batches from | clips/s | views/s | waiting |",
        "|---|---|---:|---:|---:|",
    ]
    for size, rates in result["pretraining"].items():
        for name, figures in rates.items():
            lines.append(
                f"| ViT-{size} | {name} | {figures['clips_per_s']:.0f} | {figures['views_per_s']:.0f} "
                f"| {figures['waiting_share']:.0%} |"
            )
    lines.append(
        f"| ViT-B | V-SWIFT, by its README, an A100 | {result['v_swift_videos_per_s_and_a100']} videos/s | | |"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
