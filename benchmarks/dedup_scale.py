"""How the duplicate search and the decisions scale: ``python -m benchmarks.dedup_scale [--clips N] [--json]``.

Clips of 10 s are made up as their hashes: a walk over 256-bit words, calm and lively by turns, as real frames give it
(successive frames of real clips differ in 4 to 60 bits). The skew of real collections is planted:

- copies (2 %): 3 % of the bits wrong, a quarter to a half cut away, begun beside the original's sampling grid, a third
  of them mirrored and a third as the centre of the original; their pairs are what recall counts;
- one clip copied 500 times;
- title cards: 3 % of the clips begin with two seconds of one of 20 cards;
- tabletops: 2 % show a nearly motionless scene that has 200 takes, 30 bits apart.

Timed are the steps ``search_duplicates`` and ``decide`` on the Parquet files of a data root, in a process of its own.
Peak memory is what it and its workers have resident together, mapped files included. Making the hashes up is not timed.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from benchmarks.dedup_scale_data import SOURCES, Planted, make_up
from benchmarks.peak_memory import PeakMemory
from warehouse import config as configuration
from warehouse import steps
from warehouse.step_result import StepResult
from warehouse.store import Store

WORK = Path(".reelhouse/benchmarks/dedup_scale")
CLIPS = 1_350_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its line of a table, or with ``--json`` one object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dedup_scale", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=CLIPS, help=f"clips, 5000 or more ({CLIPS})")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for the hashes, emptied afterwards ({WORK})")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    asked = parser.parse_args(arguments)
    if asked.clips < 5000:
        parser.error("--clips: 5000 or more, for the 500 copies of one clip to be a few among many")
    work = asked.work.absolute() / f"clips-{asked.clips}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        planted = make_up(work, asked.clips)
        config = configuration.load(work / "sources.toml", check_files=False)
        # A process of its own, begun anew: its peak memory is that of the steps alone.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            result = pool.submit(measure, config, planted).result()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(json.dumps(result, indent=1) if asked.json else table(result))
    return 0


def measure(config: configuration.Config, planted: Planted) -> dict[str, Any]:
    """Search and decide; the figures, ready for JSON."""
    store = Store(config.data_root)
    with PeakMemory() as memory:
        searching, searched = _timed(steps.search_duplicates, store, config)
        deciding, _ = _timed(steps.decide, store, config)
    edges, decisions = store.read("duplicate_edges"), store.read("decisions")
    found = set(zip(edges["clip_a"].to_pylist(), edges["clip_b"].to_pylist(), strict=True))
    reasons = decisions.filter(pc.equal(decisions["collection"], "all"))["reason"].value_counts().to_pylist()
    return {
        "benchmark": "dedup_scale",
        "clips": planted.clips,
        "frame_hashes": planted.rows,
        "sources": len(SOURCES),
        "seconds": searching + deciding,
        "search_seconds": searching,
        "decide_seconds": deciding,
        "peak_gib": memory.peak_bytes / 2**30,
        "recall": _recall(found, [pair for pairs in planted.pairs.values() for pair in pairs]),
        "recall_by_kind": {kind: _recall(found, pairs) for kind, pairs in planted.pairs.items()},
        "pairs_compared": searched.figures["pairs_compared"],
        "edges": len(found),
        "decisions": {row["values"]: row["counts"] for row in reasons},
    }


def _recall(found: set[tuple[str, str]], planted: Sequence[tuple[str, str]]) -> float:
    return sum(pair in found for pair in planted) / len(planted)


def _timed(step: Callable[..., StepResult], store: Store, config: configuration.Config) -> tuple[float, StepResult]:
    began = time.monotonic()
    result = step(store, config)
    return time.monotonic() - began, result


def table(result: dict[str, Any]) -> str:
    """The figures as a Markdown table of one row."""
    kinds = result["recall_by_kind"]
    head = ["clips", "hashes", "seconds", "of it search", "peak GiB", "pairs compared", "edges"]
    head += [f"recall: {kind}" for kind in kinds]
    row = [f"{result['clips']:,}", f"{result['frame_hashes']:,}", f"{result['seconds']:.0f}",
           f"{result['search_seconds']:.0f}", f"{result['peak_gib']:.2f}", f"{result['pairs_compared']:,}",
           f"{result['edges']:,}", *(f"{recall:.3f}" for recall in kinds.values())]  # fmt: skip
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---:"] * len(head), row))


if __name__ == "__main__":
    sys.exit(main())
