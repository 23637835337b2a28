"""How the loader scales, with workers and with clips: ``python -m benchmarks.loader_scaling [--json]``.

With workers: batches of 16 × 224 × 224 uint8 from shards in the rendition ``np256``, by 0 to 4 worker processes, beside
``webdataset`` with a torch ``DataLoader`` on the same shards (``benchmarks/loader_scaling_arms.py``). Each is measured
in processes of its own, both in turn. CPU time is that of the process and all its workers; it varies less than wall
time on a machine that others use, and more workers than cores can only cost. Memory of a worker is what it does not
share with others.

With clips: from a snapshot's id to its first batch, in a fresh process after its imports, for snapshots of three sizes
whose clips are those of the shards over and over; beside it a map-style data set that is a list, with a ``DataLoader``,
as the official code of VideoMAE V2 has it. Then the order of the next epoch, as all orders are made: global shuffle,
with a share for each source, and in runs of 16. Clips are real ones where ``--videos`` has some.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import loader_scaling_arms as arms
from benchmarks.loader_scaling_data import make_shards, make_snapshot
from benchmarks.peak_memory import children
from loaders.mixture import mixture_weights
from loaders.order import epoch_order
from loaders.runs import Runs
from warehouse.catalog.sample import Sample
from warehouse.catalog.samples import order_columns
from warehouse.catalog.snapshots import open_places
from warehouse.store import Store

WORK = Path(".reelhouse/benchmarks/loader_scaling")
VIDEOS = Path(__file__).parents[2] / "shared" / "data"
CLIPS, WORKERS = (10_000, 100_000, 1_350_000), (0, 1, 2, 4)
BATCH_CLIPS, START_WORKERS, RUN_CLIPS = 8, 2, 16
_MIB = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader_scaling", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--repetitions", type=int, default=3, help="turns that each is measured (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=12, help="batches of 8 clips in a turn (default: %(default)s)")
    parser.add_argument("--clips", type=int, nargs="+", default=CLIPS, help=f"sizes of snapshots ({CLIPS})")
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder with sets of real clips")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for shards, emptied afterwards ({WORK})")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    if min(options.repetitions, options.batches, *options.clips) < 1:
        parser.error("all numbers must be at least 1")
    work = options.work.absolute()
    shutil.rmtree(work, ignore_errors=True)
    try:
        samples = make_shards(options.videos, work)
        scaling = with_workers(samples, options.repetitions, options.batches)
        starts = [with_clips(work, samples, clips) for clips in options.clips]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    result = {
        "benchmark": "loader_scaling",
        "cores": len(os.sched_getaffinity(0)),
        "turns": options.repetitions,
        "clips_a_turn": options.batches * BATCH_CLIPS,
        "epoch_start_s": {str(start["clips"]): start["ours"]["start_s"] for start in starts},
        "scaling": scaling,
        "starts": starts,
    }
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def with_workers(samples: Sequence[Sample], repetitions: int, batches: int) -> list[dict[str, Any]]:
    """For each number of workers and loader: medians over the turns of clips/s, CPU-ms a clip, MiB and start-up."""
    cases = [(workers, arm) for workers in WORKERS for arm in (arms.OURS, arms.WEBDATASET)]
    turns: dict[tuple[int, str], list[dict[str, float]]] = {case: [] for case in cases}
    for number in tqdm(range(repetitions), desc="turns"):
        for workers, arm in cases[:: 1 if number % 2 else -1]:
            turns[workers, arm].append(_in_fresh_process(scaling_turn, arm, samples, workers, batches))
    return [
        {"workers": workers, "loader": arm,
         **{name: statistics.median(turn[name] for turn in turns[workers, arm]) for name in turns[workers, arm][0]}}
        for workers, arm in cases
    ]  # fmt: skip


def scaling_turn(arm: str, samples: Sequence[Sample], workers: int, batches: int) -> dict[str, float]:
    """A loader's first batch, and then its speed."""
    began = time.perf_counter()
    if arm == arms.OURS:
        loader: Iterator[Any] = arms.ours(samples, workers, BATCH_CLIPS)
    else:
        loader = arms.webdataset_loader(sorted({sample.shard for sample in samples}), workers, BATCH_CLIPS)
    next(loader)
    first_s = time.perf_counter() - began
    # What was made ahead by then is taken first, and memory is written to for the first time.
    for _ in islice(loader, 6):
        pass
    began, before = time.perf_counter(), _cpu_seconds()
    for _ in islice(loader, batches):
        pass
    wall_s, cpu_s = time.perf_counter() - began, _cpu_seconds() - before
    clips = batches * BATCH_CLIPS
    return {"clips_per_s": clips / wall_s, "cpu_ms": 1000 * cpu_s / clips, "first_batch_s": first_s,
            "worker_mib": _own_mib(children(os.getpid()))}  # fmt: skip


def with_clips(work: Path, samples: Sequence[Sample], clips: int) -> dict[str, Any]:
    """What it takes to begin an epoch of so many clips, ours and by a list."""
    snapshot_id, listing = make_snapshot(work, samples, clips), work / "listing.csv"
    arms.write_listing(listing, samples, clips)
    return {
        "clips": clips,
        "ours": _in_fresh_process(start_ours, work, snapshot_id),
        "listing": _in_fresh_process(start_listing, listing),
    }


def start_ours(root: Path, snapshot_id: str) -> dict[str, float]:
    """From a snapshot's id to its first batch, and the order of the next epoch in three ways, seconds and MiB."""
    began = time.perf_counter()
    places = open_places(Store(root), snapshot_id, "train")
    opened = time.perf_counter()
    loader = arms.ours(places, START_WORKERS, BATCH_CLIPS)
    next(loader)
    started = time.perf_counter()
    figures = {
        "open_s": opened - began,
        "start_s": started - began,
        "peak_mib": _peak_mib(),  # with what DuckDB needed to open the snapshot
        "worker_mib": _own_mib(children(os.getpid())),
        "sent_to_worker_bytes": float(len(pickle.dumps(arms.ours(places, 0, BATCH_CLIPS).config))),
    }
    loader.close()
    columns = order_columns(places)
    shares = {name: 1.0 + number for number, name in enumerate(columns.source_names)}
    runs = Runs.of(RUN_CLIPS, columns.shard, columns.offset)
    equal = np.ones(len(places))
    return figures | {
        "next_epoch_s": _seconds(lambda: epoch_order(equal, 0, 1)),
        "next_epoch_shares_s": _seconds(lambda: epoch_order(mixture_weights(columns, shares), 0, 1, columns.source)),
        "next_epoch_runs_s": _seconds(lambda: epoch_order(equal, 0, 1, runs=runs)),
    }


def start_listing(path: Path) -> dict[str, float]:
    """From the file of a list to the first batch."""
    began = time.perf_counter()
    loader = arms.listing_loader(path, START_WORKERS, BATCH_CLIPS)
    for _ in islice(loader, 2 * START_WORKERS):  # each worker has had some of the list by then
        pass
    return {
        "start_s": time.perf_counter() - began,
        "peak_mib": _peak_mib(),
        "worker_mib": _own_mib(children(os.getpid())),
    }


def _in_fresh_process(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _cpu_seconds() -> float:
    """Of this process and of its children, those that live and those that have ended."""
    ticks = 0
    for process in (os.getpid(), *children(os.getpid())):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15] if process == os.getpid() else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_mib() -> float:
    # Not getrusage's figure: that begins with the memory of the process which started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _own_mib(processes: Sequence[int]) -> float:
    """Memory that a process has for itself alone, on average, MiB, without what batches lie in; 0 without processes."""
    total = 0
    for process in processes:
        counts = True
        for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
            first, *fields = line.split()
            if "-" in first:  # a mapping: addresses, …, and the file if it has one
                counts = not any(name in line for name in ("/memfd:", "/dev/shm/"))
            elif counts and first.startswith("Private_"):
                total += int(fields[0]) * 1024
    return total / _MIB / max(len(processes), 1)


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{result['cores']} cores; medians of {result['turns']} turns of {result['clips_a_turn']} clips.",
        "",
        "| workers | loader | clips/s | CPU-ms a clip | first batch s | a worker's own MiB |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for case in result["scaling"]:
        own = f"{case['worker_mib']:.0f}" if case["workers"] else ""
        lines.append(
            f"| {case['workers']} | {case['loader']} | {case['clips_per_s']:.1f} | {case['cpu_ms']:.1f} "
            f"| {case['first_batch_s']:.2f} | {own} |"
        )
    lines += [
        "",
        f"First batch of a snapshot, {START_WORKERS} workers; and from one epoch to the next.",
        "",
        "| clips | ours s | of that opening s | main process, peak MiB | a worker's own MiB | next epoch s "
        "| with shares s | in runs s | a list of clips s | its main process, peak MiB | its worker's own MiB |",
        "|---:" * 11 + "|",
    ]
    for start in result["starts"]:
        ours, listing = start["ours"], start["listing"]
        lines.append(
            f"| {start['clips']:,} | **{ours['start_s']:.2f}** | {ours['open_s']:.2f} | {ours['peak_mib']:.0f} "
            f"| {ours['worker_mib']:.0f} | {ours['next_epoch_s']:.3f} | {ours['next_epoch_shares_s']:.3f} "
            f"| {ours['next_epoch_runs_s']:.3f} | {listing['start_s']:.2f} | {listing['peak_mib']:.0f} "
            f"| {listing['worker_mib']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
