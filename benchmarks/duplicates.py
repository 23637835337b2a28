"""How well copies are found: ``python -m benchmarks.duplicates [--json] [--part held_out]``.

Real clips are edited in 18 ways, and the copies are searched among all real clips by the steps of the pipeline. Recall
is the share of copies found as a copy of their original; precision the share of true ones among all pairs of an
original and a copy that were found. Pairs of two originals are none of them copies: near-static scenes and other takes
of the same people in the same place are among them.

Beside it runs what one would pick instead, a bag of frames as vPDQ matches: the same plain 256-bit hashes of the whole
frame, eight a second, without time; two frames match at a distance of at most 31, and two clips if half of the frames
of either match a frame of the other.

Thresholds were chosen on the part ``tuning``; the part ``held_out``, of other scenes, is what is published.
"""

import argparse
import csv
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from benchmarks.duplicate_edits import EDITS, REAL, Original, edited_name, originals, to_be_edited, write_edits
from warehouse import config as configuration
from warehouse import steps
from warehouse.curation.hash_bits import distances
from warehouse.curation.hash_rows import MIN_QUALITY
from warehouse.probing import probe_sources
from warehouse.store import Store, replace_file

WORK = Path(".reelhouse/benchmarks/duplicates")
CLIPS = 40
PLAIN_DISTANCE, PLAIN_SHARE = 31, 0.5

Pair = tuple[str, str]
"""Paths of an original and of a copy, or of two originals."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table, or with ``--json`` one object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duplicates", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=CLIPS, help=f"clips to edit ({CLIPS})")
    parser.add_argument("--part", choices=("held_out", "tuning"), default="held_out", help="whose clips (held_out)")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for copies and hashes, kept ({WORK})")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    asked = parser.parse_args(arguments)
    try:
        result = run(asked.work.absolute() / f"{asked.part}-{asked.clips}", asked.part, asked.clips)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result, indent=1) if asked.json else table(result))
    return 0


def run(work: Path, part: str, clips: int) -> dict[str, Any]:
    """Edit, probe, search and score; the figures, ready for JSON. What is in ``work`` already stays."""
    everything = originals()
    chosen = to_be_edited(part, everything, clips)
    for clip in tqdm(chosen, desc="edit", unit="clip"):
        for _ in write_edits(clip, work / "copies"):
            pass
    store = _searched(work, everything)
    path = {row["clip_id"]: row["native_id"] for row in store.rows("clips")}
    ours = {_pair(path[row["clip_a"]], path[row["clip_b"]]) for row in store.rows("duplicate_edges")}
    plain = set(_plain_matches(store, path, {edited_name(clip, edit) for clip in chosen for edit in EDITS}))
    return {
        "benchmark": "duplicates",
        "part": part,
        "originals": len(everything),
        "edited": len(chosen),
        "scenes_edited": len({clip.scene for clip in chosen}),
        **_scores(ours, plain, chosen),
        **_strangers(ours, plain, everything, part),
    }


def _searched(work: Path, everything: Iterable[Original]) -> Store:
    """The data root in which originals and copies have been probed and searched."""
    rows = [{"path": clip.path} for clip in everything]
    _write_csv(work / "originals.csv", rows)
    replace_file(work / "sources.toml", _TOML.format(real=REAL).encode())
    config = configuration.load(work / "sources.toml")
    store = Store(config.data_root)
    steps.write_sources(store, config)
    for source in config.sources:
        steps.list_source(store, source)
    probe_sources(store, config, config.sources, lambda *_: None)
    steps.search_duplicates(store, config)
    return store


_TOML = """
[reelhouse]
data_root = "data"

[training]
preset = "smoke"
pretrain = "all"
post_pretrain = "all"
finetune = "all"

[collections.all]
splits = ["train", "val"]
taxonomy = "none"

[taxonomies.none]

[sources.originals]
kind = "folder"
media_root = "{real}"
annotations = "originals.csv"
collections = ["all"]
stride = 4
licence = "for testing alone"

[sources.copies]
kind = "folder"
media_root = "copies"
collections = ["all"]
stride = 4
licence = "for testing alone"
"""


def _write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _pair(first: str, second: str) -> Pair:
    """Of an original and its copy the original first; else in the order of their names."""
    return (second, first) if "--" in first and "--" not in second else (first, second) \
        if "--" in second or first < second else (second, first)  # fmt: skip


def _plain_matches(store: Store, path: dict[str, str], copies: set[str]) -> Iterable[Pair]:
    """What the bag of frames finds among originals, and between originals and copies."""
    bags = _bags(store.read("frame_hashes"), path)
    clips = sorted(clip for clip in bags if clip not in copies)
    for place, clip in enumerate(tqdm(clips, desc="bag of frames", unit="clip")):
        others = clips[place + 1 :] + sorted(copies & bags.keys())
        together = np.concatenate([bags[other] for other in others])
        near = distances(bags[clip], together) <= PLAIN_DISTANCE
        start = np.cumsum([0, *(len(bags[other]) for other in others)])
        for other, begin, end in zip(others, start[:-1], start[1:], strict=True):
            table = near[:, begin:end]
            if max(table.any(axis=0).mean(), table.any(axis=1).mean()) >= PLAIN_SHARE:
                yield _pair(clip, other)


def _bags(hashes: pa.Table, path: dict[str, str]) -> dict[str, np.ndarray]:
    """Hashes of the whole frames by clip, uint64 (n, 4)."""
    bags: dict[str, list[list[int]]] = defaultdict(list)
    for row in hashes.to_pylist():
        if row["variant"] == "full" and row["quality"] >= MIN_QUALITY:
            bags[path[row["clip_id"]]].append([row[f"h{i}"] for i in range(4)])
    return {clip: np.array(rows, np.uint64) for clip, rows in bags.items()}


def _scores(ours: set[Pair], plain: set[Pair], chosen: Sequence[Original]) -> dict[str, Any]:
    """Precision and recall by edit, of both methods."""
    result: dict[str, Any] = defaultdict(dict)
    for edit in EDITS:
        truth = {(clip.path, edited_name(clip, edit)) for clip in chosen}
        copies = {copy for _, copy in truth}
        for name, found in (("", ours), ("baseline_", plain)):
            pairs = {pair for pair in found if pair[1] in copies and "--" not in pair[0]}
            result[f"{name}recall"][edit] = len(pairs & truth) / len(truth)
            result[f"{name}precision"][edit] = len(pairs & truth) / len(pairs) if pairs else None
    truth = {(clip.path, edited_name(clip, edit)) for clip in chosen for edit in EDITS}
    for name, found in (("", ours), ("baseline_", plain)):
        pairs = {pair for pair in found if "--" not in pair[0] and "--" in pair[1]}
        result[f"{name}precision_of_all"] = len(pairs & truth) / len(pairs) if pairs else None
    return dict(result)


def _strangers(ours: set[Pair], plain: set[Pair], everything: Sequence[Original], part: str) -> dict[str, Any]:
    """Pairs of originals of the part: how many there are, and those that were wrongly found."""
    scene = {clip.path: clip.scene for clip in everything if clip.part == part}
    sizes = Counter(scene.values())
    wrong = {name: sorted(p for p in found if p[0] in scene and p[1] in scene)
             for name, found in (("wrong_pairs", ours), ("baseline_wrong_pairs", plain))}  # fmt: skip
    return {
        "pairs_of_strangers": len(scene) * (len(scene) - 1) // 2,
        "of_one_scene": sum(size * (size - 1) // 2 for size in sizes.values()),
        **wrong,
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{result['edited']} real clips of {result['scenes_edited']} scenes ({result['part']}), edited in {len(EDITS)} "
        f"ways and searched among {result['originals']} originals.",
        "",
        "| edit | recall | precision | bag of frames: recall | precision |",
        "|---|---:|---:|---:|---:|",
    ]
    columns = ("recall", "precision", "baseline_recall", "baseline_precision")
    for edit in EDITS:
        values = [result[column][edit] for column in columns]
        lines.append(f"| {edit} | " + " | ".join("–" if v is None else f"{v:.3f}" for v in values) + " |")
    overall = (result[f"{name}precision_of_all"] for name in ("", "baseline_"))
    lines.append("| all | | {} | | {} |".format(*("–" if v is None else f"{v:.3f}" for v in overall)))
    lines += [
        "",
        f"Wrongly found among {result['pairs_of_strangers']} pairs of originals, {result['of_one_scene']} of them of "
        f"one scene: {len(result['wrong_pairs'])}; bag of frames: {len(result['baseline_wrong_pairs'])}.",
    ]
    return "\n".join(lines + [f"- {first} = {second}" for first, second in result["wrong_pairs"]])


if __name__ == "__main__":
    sys.exit(main())
