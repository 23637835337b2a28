"""How the catalog scales: ``python -m benchmarks.catalog [--clips N ...] [--json]``.

The tables of a data root with N clips are made up, as they are when shards are written: six sources, three collections,
decisions, labels, copies, shards (``benchmarks/catalog_data.py``). Not made up are ``frame_hashes``, which the catalog
leaves out. Timed on them, in a process of its own:

- building the catalog, and taking, and opening, a snapshot of ``unlabeled_hybrid``, the largest collection;
- questions on composition: for each the median of 5, in an open connection;
- looking up a clip by its id: 200 clips, each in a fresh connection and each in one that stays open;
- 1,000 such questions and look-ups of a second process, each in a fresh connection, while the catalog is rebuilt over
  and over: how many failed.

Beside it what else one could ask for the composition of the collections: a CSV with a row for each clip and
collection, read by Python's ``csv`` module; and, where there are no more than 10,000 clips, a JSON file for each clip,
which is what data sets in WebDataset form come with. All three have to give the same answer.
"""

import argparse
import csv
import json
import multiprocessing
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.catalog_data import make_up
from benchmarks.peak_memory import PeakMemory
from warehouse import config as configuration
from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.snapshots import open_snapshot, take_snapshot
from warehouse.catalog.stored_clips import find
from warehouse.store import Store

WORK = Path(".reelhouse/benchmarks/catalog")
CLIPS = (10_000, 100_000, 1_350_000)
LOOKUPS, REPEATS, QUERIES, MOST_SIDECARS = 200, 5, 1000, 10_000
COMPOSITION = {
    "collection, source, split": "SELECT * FROM composition",
    "why clips are out": "SELECT * FROM exclusions",
    "one snapshot": "SELECT * FROM snapshot_composition",
    "class": "SELECT class_name, split, count(*) FROM snapshot_clips GROUP BY ALL",
    "class, by the rules": "SELECT class_name, split, count(*) FROM collection_clips "
    "WHERE collection = 'labeled_hybrid' GROUP BY ALL",
    "duration": "SELECT source, duration_ms // 1000, count(*) FROM media WHERE status = 'ok' GROUP BY ALL",
    "resolution": "SELECT source, least(width, height), count(*) FROM media WHERE status = 'ok' GROUP BY ALL",
    "licence": "SELECT licence, split, count(*) FROM memberships GROUP BY ALL",
    "overlap of collections": "SELECT * FROM collection_overlaps",
    "leaks by evaluation set": "SELECT protected_source, how, outcome, count(DISTINCT clip_id) FROM leaks_found "
    "GROUP BY ALL",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print a line of a table for each number of clips, or with ``--json`` one object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=CLIPS, help=f"numbers of clips ({CLIPS})")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for the tables, emptied afterwards ({WORK})")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    asked = parser.parse_args(arguments)
    if min(asked.clips) < 1000:
        parser.error("--clips: 1000 or more, for each source to have some of every kind")
    results = []
    for clips in asked.clips:
        work = asked.work.absolute() / f"clips-{clips}"
        shutil.rmtree(work, ignore_errors=True)
        try:
            make_up(work, clips)
            # A process of its own, begun anew: its peak memory is that of the catalog alone.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                figures = pool.submit(measure, work, clips, QUERIES).result()
                results.append(figures | pool.submit(alternatives, work, clips).result())
        finally:
            shutil.rmtree(work, ignore_errors=True)
    last = results[-1]
    print(json.dumps(last | {"all": results}, indent=1) if asked.json else table(results))
    return 0


def measure(work: Path, clips: int, queries: int) -> dict[str, Any]:
    """The figures of the catalog: seconds, milliseconds for look-ups, GiB. ``queries``: those of the second process."""
    config = configuration.load(work / "sources.toml", check_files=False)
    store, [largest, *_] = Store(config.data_root), config.collections
    with PeakMemory() as memory:
        build_catalog(store)
        snapshot_s, taken = _timed(lambda: take_snapshot(store, config, largest))
        open_s, samples = _timed(lambda: open_snapshot(store, taken["snapshot_id"], "train"))
        rebuild_s, _ = _timed(lambda: build_catalog(store))
    chosen = random.Random(0).sample(range(len(samples)), min(LOOKUPS, len(samples)))
    ids = [samples[place].clip_id for place in chosen]
    with connect(store) as connection:
        composition = {
            name: statistics.median(_timed(lambda query=query: _ask(connection, query))[0] for _ in range(REPEATS))
            for name, query in COMPOSITION.items()
        }
        opened = [1000 * _timed(lambda clip=clip: find(connection, store, clip))[0] for clip in ids]
    fresh = [1000 * _timed(lambda clip=clip: _look_up(store, clip))[0] for clip in ids]
    failed, rebuilds = _while_rebuilding(store, ids, queries)
    return {
        "clips": clips,
        "snapshot_clips": len(samples),
        "catalog_gb": store.catalog.stat().st_size / 1e9,
        "composition_s": max(composition.values()),
        "composition_s_by_question": composition,
        "lookup_ms": statistics.median(fresh),
        "lookup_ms_slowest": max(fresh),
        "lookup_open_ms": statistics.median(opened),
        "snapshot_s": snapshot_s,
        "open_snapshot_s": open_s,
        "rebuild_s": rebuild_s,
        "queries": queries,
        "rebuilds_meanwhile": rebuilds,
        "failed_queries": failed,
        "peak_gib": memory.peak_bytes / 2**30,
    }


def _timed(action: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


def _ask(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def _look_up(store: Store, clip: str) -> bool:
    with connect(store) as connection:
        return find(connection, store, clip).clip_id == clip


def _while_rebuilding(store: Store, ids: Sequence[str], queries: int) -> tuple[int, int]:
    """Failures among the queries of a second process, and how often the catalog was built meanwhile."""
    rebuilds = 0
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as person:
        asking = person.submit(ask_many, store.root, ids, queries)
        while not asking.done():
            build_catalog(store)
            rebuilds += 1
    return asking.result(), rebuilds


def ask_many(root: Path, ids: Sequence[str], queries: int) -> int:
    """Ask in turn for the composition and for clips, each in a fresh connection; returns how often that failed."""
    store, failed = Store(root), 0
    with connect(store) as connection:
        expected = _ask(connection, "SELECT * FROM composition")
    for number in range(queries):
        try:
            if number % 2:
                right = _look_up(store, ids[number % len(ids)])
            else:
                with connect(store) as connection:
                    right = _ask(connection, "SELECT * FROM composition") == expected
            failed += not right
        except Exception as error:  # whatever goes wrong is what is counted
            print(f"query {number}: {error!r}", file=sys.stderr)
            failed += 1
    return failed


def alternatives(work: Path, clips: int) -> dict[str, float | None]:
    """Seconds to the same composition from one CSV, and from a JSON file for each clip; ``None``: too many clips."""
    store = Store(work / "data")
    with connect(store) as connection:
        expected = {tuple(row[:3]): (row[3], row[5]) for row in _ask(connection, "SELECT * FROM composition")}
        rows = connection.execute(
            "SELECT d.clip_id, collection, d.source, split, duration_ms, size FROM decisions d JOIN media m "
            "USING (clip_id) JOIN samples s USING (clip_id) WHERE keep ORDER BY d.clip_id"
        )
        names = [column[0] for column in rows.description or ()]
        flat, sidecars = work / "clips.csv", work / "sidecars"
        with flat.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            while some := rows.fetchmany(100_000):
                writer.writerows(some)
    csv_s, found = _timed(lambda: _from_csv(flat))
    _require_same("the CSV", found, expected)
    if clips > MOST_SIDECARS:
        return {"csv_s": csv_s, "sidecars_s": None}
    _write_sidecars(flat, sidecars)
    sidecars_s, found = _timed(lambda: _from_sidecars(sidecars))
    _require_same("the JSON files", found, expected)
    return {"csv_s": csv_s, "sidecars_s": sidecars_s}


def _from_csv(path: Path) -> dict[tuple[str, ...], list[float]]:
    found: dict[tuple[str, ...], list[float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            _count(found, (row["collection"], row["source"], row["split"]), int(row["duration_ms"]), int(row["size"]))
    return found


def _write_sidecars(flat: Path, folder: Path) -> None:
    clips: dict[str, dict[str, Any]] = {}
    with flat.open(newline="") as file:
        for row in csv.DictReader(file):
            clip = clips.setdefault(row["clip_id"], {"source": row["source"], "duration_ms": int(row["duration_ms"]),
                                                     "size": int(row["size"]), "in": []})  # fmt: skip
            clip["in"].append([row["collection"], row["split"]])
    folder.mkdir()
    for clip_id, clip in clips.items():
        (folder / f"{clip_id}.json").write_text(json.dumps(clip))


def _from_sidecars(folder: Path) -> dict[tuple[str, ...], list[float]]:
    found: dict[tuple[str, ...], list[float]] = {}
    for path in folder.iterdir():
        clip = json.loads(path.read_text())
        for collection, split in clip["in"]:
            _count(found, (collection, clip["source"], split), clip["duration_ms"], clip["size"])
    return found


def _count(found: dict[tuple[str, ...], list[float]], place: tuple[str, ...], duration_ms: int, size: int) -> None:
    total = found.setdefault(place, [0, 0.0, 0])
    total[0] += 1
    total[1] += duration_ms / 3.6e6
    total[2] += size


def _require_same(
    what: str, found: dict[tuple[str, ...], list[float]], expected: dict[tuple[str, ...], tuple[int, int]]
) -> None:
    counted = {place: (clips, size) for place, (clips, _, size) in found.items()}
    if counted != expected:
        raise RuntimeError(f"{what} and the catalog tell different compositions: {counted} and {expected}")


def table(results: Sequence[dict[str, Any]]) -> str:
    """The figures as Markdown: a row for each number of clips, and below it the questions one by one."""
    head = ["clips", "composition, slowest of 10 s", "look-up ms (slowest)", "in an open connection ms", "snapshot s",
            "open it s", "rebuild s", "peak GiB", f"failed of {QUERIES:,} queries (rebuilds)", "composition: catalog s",
            "from a CSV s", "from JSON files s"]  # fmt: skip
    rows = [
        [f"{r['clips']:,}", f"{r['composition_s']:.3f}", f"{r['lookup_ms']:.1f} ({r['lookup_ms_slowest']:.1f})",
         f"{r['lookup_open_ms']:.1f}", f"{r['snapshot_s']:.2f}", f"{r['open_snapshot_s']:.2f}", f"{r['rebuild_s']:.2f}",
         f"{r['peak_gib']:.2f}", f"{r['failed_queries']} ({r['rebuilds_meanwhile']})",
         f"{r['composition_s_by_question']['collection, source, split']:.4f}", f"{r['csv_s']:.2f}",
         "" if r["sidecars_s"] is None else f"{r['sidecars_s']:.2f}"]
        for r in results
    ]  # fmt: skip
    questions = [["composition by", *(f"{r['clips']:,} clips: s" for r in results)]]
    questions += [[name, *(f"{r['composition_s_by_question'][name]:.4f}" for r in results)] for name in COMPOSITION]
    return "\n\n".join(
        "\n".join("| " + " | ".join(cells) + " |" for cells in (lines[0], ["---"] * len(lines[0]), *lines[1:]))
        for lines in ([head, *rows], questions)
    )


if __name__ == "__main__":
    sys.exit(main())
