"""What probing costs beside decoding: ``python -m benchmarks.probe [--repetitions N] [--json]``.

The unit of work of the asset `media` (bytes and packets hashed, every packet demuxed, every frame decoded, eight frames
a second hashed, the pictures judged) is timed beside plain decoding of the same files by PyAV, which is FFmpeg on one
thread, in the same processes and turn about. Also timed: decoding of the key frames alone (which sees neither damage
nor motion), and the whole unit with the rendition `np256`, which decodes a second time and encodes.

CPU seconds are user and system time of the process that does the work. The files: an embedded corpus rendered for this,
and real clips where ``--videos`` has them.
"""

import argparse
import json
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
from tqdm import tqdm

from warehouse.corpus.build import build
from warehouse.curation.probe import probe_and_hash
from warehouse.engine import Failure, map_unordered
from warehouse.media_file import MediaFile
from warehouse.shards.encoding import encode

WORK = Path(".reelhouse/benchmarks/probe")
VIDEOS = Path(__file__).parents[2] / "shared" / "data"
CORPUS_CLIPS, CORPUS_SEED, STRIDE = 120, 2, 4
# Of the real sets every n-th file: a repetition takes seconds.
REAL_SETS = {"asl_words": ("**/*.m*", 1), "ut_interaction": ("**/*.avi", 3)}
DECODE, PROBE, UNIT, KEY_FRAMES = "decode", "probe", "probe and rendition", "key frames"
# Encoding takes ten times as long as all else, and is measured in the first repetition alone.
FIRST, AGAIN = (DECODE, PROBE, UNIT, KEY_FRAMES), (DECODE, PROBE, KEY_FRAMES)


@dataclass(frozen=True)
class Task:
    """One way of reading one file."""

    arm: str
    path: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probe", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repetitions", type=int, default=5, help="times that all is measured (default: %(default)s)")
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder with sets of real clips")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    if options.repetitions < 1:
        parser.error("--repetitions must be at least 1")
    result = measure(file_sets(options.videos), options.repetitions)
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def file_sets(videos: Path) -> dict[str, list[Path]]:
    """The files by set; files that cannot be used are left out, as they cost other things than decoding."""
    build(WORK / "corpus", CORPUS_CLIPS, CORPUS_SEED)
    sets = {"rendered": sorted(path for path in WORK.rglob("*") if path.suffix in (".mp4", ".webm"))}
    for name, (pattern, step) in REAL_SETS.items():
        if found := sorted((videos / name).glob(pattern))[::step]:
            sets[name] = found
    return {
        name: [path for path in paths if probe_and_hash(MediaFile(str(path))).media["status"] == "ok"]
        for name, paths in sets.items()
    }


def measure(sets: dict[str, list[Path]], repetitions: int) -> dict[str, Any]:
    """CPU seconds by set, arm and repetition, and the shares that follow from them."""
    seconds: dict[str, dict[str, list[float]]] = {name: {arm: [] for arm in FIRST} for name in sets}
    for repetition in tqdm(range(repetitions), desc="repetitions"):
        for name, paths in sets.items():
            for arm, spent in run(paths, AGAIN if repetition else FIRST).items():
                seconds[name][arm].append(spent)
    total = {arm: [sum(turns) for turns in zip(*(seconds[name][arm] for name in sets), strict=True)] for arm in FIRST}
    clips = {name: len(paths) for name, paths in sets.items()}
    figures = {name: _figures(clips[name], seconds[name]) for name in sets}
    figures["all"] = _figures(sum(clips.values()), total)
    return {
        "benchmark": "probe",
        "repetitions": repetitions,
        "sets": figures,
        "share_of_decode": figures["all"]["share_of_decode"]["mean"],
    }


def run(paths: Sequence[Path], arms: Sequence[str]) -> dict[str, float]:
    """CPU seconds of each arm for these files, in one process of the kind that the steps use, file by file in turn."""
    # Encoding apart, for it leaves nothing of the caches.
    unit = [Task(arm, str(path)) for path in paths for arm in arms if arm != UNIT]
    unit += [Task(UNIT, str(path)) for path in paths if UNIT in arms]
    # The first file once more at the start, unmeasured: imports and caches.
    warm = [Task(arm, str(paths[0])) for arm in arms]
    [(_, results)] = map_unordered(spend, [warm + unit], workers=1, timeout_s=60)
    spent = dict.fromkeys(arms, 0.0)
    for task, result in zip(unit, results[len(warm) :], strict=True):
        if isinstance(result, Failure):
            raise RuntimeError(f"{task.path}: {result.error_class} ({result.detail})")
        spent[task.arm] += result
    return spent


def spend(tasks: list[Task]) -> list[float]:
    """CPU seconds that each task takes."""
    cv2.setNumThreads(1)
    return [_timed(_ARMS[task.arm], task.path) for task in tasks]


def _timed(read: Callable[[str], None], path: str) -> float:
    before = _cpu_seconds()
    read(path)
    return _cpu_seconds() - before


def _cpu_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _decode(path: str) -> None:
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass


def _decode_key_frames(path: str) -> None:
    with av.open(path) as container:
        container.streams.video[0].codec_context.skip_frame = "NONKEY"
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass


def _probe(path: str) -> None:
    probe_and_hash(MediaFile(path))


def _probe_and_encode(path: str) -> None:
    fps = probe_and_hash(MediaFile(path)).media["fps"]
    encode(MediaFile(path), "np256", STRIDE, fps)


_ARMS: dict[str, Callable[[str], None]] = {
    DECODE: _decode,
    PROBE: _probe,
    UNIT: _probe_and_encode,
    KEY_FRAMES: _decode_key_frames,
}


def _figures(clips: int, seconds: dict[str, list[float]]) -> dict[str, Any]:
    shares = [decode / probe for decode, probe in zip(seconds[DECODE], seconds[PROBE], strict=True)]
    return {
        "clips": clips,
        "clips_per_cpu_second": {arm: clips / statistics.mean(spent) for arm, spent in seconds.items()},
        "share_of_decode": {"mean": statistics.mean(shares), "least": min(shares), "most": max(shares)},
        "cpu_seconds": seconds,
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"Clips per CPU-second, {result['repetitions']} repetitions, arms in turn file by file.",
        "",
        f"| files | clips | {DECODE} | {PROBE} | share of decode (least to most) | {UNIT} | {KEY_FRAMES} alone |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, figures in result["sets"].items():
        rate, share = figures["clips_per_cpu_second"], figures["share_of_decode"]
        lines.append(
            f"| {name} | {figures['clips']} | {rate[DECODE]:.1f} | {rate[PROBE]:.1f} | **{share['mean']:.2f}** "
            f"({share['least']:.2f} to {share['most']:.2f}) | {rate[UNIT]:.1f} | {rate[KEY_FRAMES]:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
