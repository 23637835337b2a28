"""What a view takes to decode on a CPU: ``python -m benchmarks.decode [--turns N] [--json]``, 4 minutes.

Clips per CPU-second for 16 × 224 × 224 uint8 from clips of ten seconds, ours beside decord in the manner of the
official VideoMAE V2 loader, torchcodec, OpenCV, and webdataset with a torch DataLoader: the arms in turn clip by clip,
for the same frames and crops, from the same bytes. The clips are stored in three ways (:mod:`benchmarks.decode_clips`):
ordinary H.264 with GOP 32 and with GOP 250, and the rendition ``np256``, all three at about the same PSNR. Frames are
drawn in four ways: dense at stride 4 from uniform starts (pre-training) and from starts on the rendition's grid, spread
over 64 frames (fine-tuning), and 5 × 3 views (testing; a clip is then all 15).

- ``ratio_vs_decord_same``: ours on ``np256`` by decord on GOP 32 of the same scenes, uniform starts.
- ``ratio_vs_decord_gop250``: the same by decord on GOP 250, which is what people have downloaded.
- ``share_of_bound``: ``ClipLoader`` from end to end on ``np256``, uniform starts, by PyAV opening and decoding files of
  just the packets that it decodes (:mod:`benchmarks.decode_bound`); ``share_of_decoder``: by the decoder alone.

CPU seconds are user and system time of the process and its children. That all arms show the same is checked.
"""

import argparse
import itertools
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.decode_arms import Arm, Clip, WebDatasetLoader, decord, opencv, ours, require_others, torchcodec
from benchmarks.decode_bound import bound, cpu_seconds
from benchmarks.decode_clips import GOP32, GOP250, NP256, STRIDE, Stored, rendered, scenes, store
from loaders import augment, sampling
from loaders.views import EvaluationConfig, View, evaluation_views
from warehouse.catalog.sample import Sample
from warehouse.shards.reader import read_sample

WORK = Path(".reelhouse/benchmarks/decode")
VIDEOS = Path(__file__).parents[2] / "shared" / "data"
FRAMES, SIZE = 16, 224
OURS, DECORD, WEBDATASET = "ours", "decord", "webdataset"
ARMS: dict[str, Arm] = {OURS: ours, DECORD: decord, "torchcodec": torchcodec, "OpenCV": opencv}
UNIFORM, MULTI_VIEW = "uniform starts", "5 × 3 views"
_TRAINING: dict[str, Callable[[int, int, int, np.random.Generator], np.ndarray]] = {
    UNIFORM: sampling.dense,
    "aligned starts": sampling.dense_aligned,
    "linspace": sampling.linspace,
}
SAMPLINGS = (*_TRAINING, MULTI_VIEW)
TOLERANCE = 4.0
"""Grey levels of 255 that an arm's views may be off from ours, in the mean over a clip: they resize differently."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--turns", type=int, default=3, help="times that all is measured (default: %(default)s)")
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder with sets of real clips")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    if options.turns < 1:
        parser.error("--turns must be at least 1")
    require_others()
    result = measure(options.videos, options.turns)
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def measure(videos: Path, turns: int) -> dict[str, Any]:
    """The ratios, and CPU seconds by way of storing, way of sampling, arm and turn."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    found, real = scenes(videos)
    if not real:
        print(f"no real video in {videos}: the scenes are rendered ones", file=sys.stderr)
        found = rendered(WORK / "corpus")
    stored = store(found, WORK)
    seconds = spent(stored, turns)
    limits = {name: bound(found.samples, turns) for name, found in stored.items()}
    shutil.rmtree(WORK)

    def ratio(slow: str, fast: str = NP256, way: str = UNIFORM) -> dict[str, float]:
        return spread(seconds[slow][way][DECORD], seconds[fast][way][OURS])

    return {
        "benchmark": "decode",
        "turns": turns,
        "real": real,
        "scenes": [scene.name for scene in found],
        "ratio_vs_decord_same": ratio(GOP32)["median"],
        "ratio_vs_decord_gop250": ratio(GOP250)["median"],
        "share_of_bound": spread(limits[NP256]["pyav"], limits[NP256]["loader"])["median"],
        "share_of_decoder": spread(limits[NP256]["decoder"], limits[NP256]["loader"])["median"],
        "ratios": {
            "same": {way: ratio(GOP32, way=way) for way in SAMPLINGS},
            "gop250": {way: ratio(GOP250, way=way) for way in SAMPLINGS},
            "identical_bytes": {name: {way: ratio(name, name, way) for way in SAMPLINGS} for name in stored},
        },
        "bound": limits,
        "stored": {name: {"bytes_per_clip": s.bytes / len(s.samples), "psnr": s.psnr} for name, s in stored.items()},
        "clips_per_cpu_second": {
            name: {
                way: {arm: turns * len(found) / sum(took) for arm, took in arms.items()} for way, arms in ways.items()
            }
            for name, ways in seconds.items()
        },
        "cpu_seconds": seconds,
    }


def spent(stored: dict[str, Stored], turns: int) -> dict[str, dict[str, dict[str, list[float]]]]:
    """CPU seconds for all clips once, by way of storing, way of sampling and arm: a number for each turn."""
    clips = {name: _files(name, found.samples) for name, found in stored.items()}
    arms: dict[str, dict[str, Arm]] = {n: {**ARMS, WEBDATASET: WebDatasetLoader(found)} for n, found in clips.items()}
    seconds = {name: {way: {arm: [0.0] * turns for arm in arms[name]} for way in SAMPLINGS} for name in stored}
    # What comes first is not counted: imports, and what each arm makes once.
    rounds = [(-1, UNIFORM), *itertools.product(range(turns), SAMPLINGS)]
    for turn, way in tqdm(rounds, desc="arms in turn, clip by clip"):
        for number, name in itertools.product(range(len(clips[NP256])), clips):
            clip = clips[name][number]
            drawn = views(way, clip.sample, np.random.default_rng([turn + 1, number]))
            shape = (len(drawn), FRAMES, SIZE, SIZE, 3)
            pixels, expected = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
            ours(clip, drawn, expected)
            order = list(arms[name].items())
            first = (turn + number) % len(order)
            for arm, run in order[first:] + order[:first]:
                pixels.fill(0)  # none has memory given to it while it is timed, or finds another's pixels there
                before = cpu_seconds()
                run(clip, drawn, pixels)
                took = cpu_seconds() - before
                if turn >= 0:
                    seconds[name][way][arm][turn] += took
                if (off := float(np.mean(cv2.absdiff(pixels.ravel(), expected.ravel())))) > TOLERANCE:
                    raise RuntimeError(f"{arm}, {way}, {name}: clip {number} is off by {off:.1f} grey levels")
    return seconds


def views(way: str, sample: Sample, rng: np.random.Generator) -> tuple[View, ...]:
    """The views of a clip for a way of sampling; crops of training are those of pre-training."""
    if way == MULTI_VIEW:
        return evaluation_views(EvaluationConfig(1, FRAMES, SIZE, temporal_views=5, spatial_views=3), sample)
    frame_ids = _TRAINING[way](sample.frames, FRAMES, STRIDE, rng)
    return (View(frame_ids, augment.multi_scale(sample.height, sample.width, rng), False),)


def _files(name: str, samples: Sequence[Sample]) -> list[Clip]:
    clips = []
    for sample in samples:
        path = WORK / name.replace(" ", "") / f"{sample.clip_id}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(read_sample(sample))
        clips.append(Clip(sample, path))
    return clips


def spread(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """How many times as fast, of each turn: median, least and most."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    rates, ratios, turns = result["clips_per_cpu_second"], result["ratios"], result["turns"]
    kind = "real" if result["real"] else "rendered"
    arms = list(next(iter(next(iter(rates.values())).values())))
    lines = [
        f"Clips per CPU-second; {len(result['scenes'])} {kind} clips, {turns} turns. Ratios are medians of the turns'.",
        "",
        f"| stored as | frames | {' | '.join(arms)} | ours / decord, identical bytes (least to most) |",
        "|---|---|" + "---:|" * (len(arms) + 1),
    ]
    for name, ways in rates.items():
        for way, found in ways.items():
            cells = [f"{found[arm]:.1f}" for arm in arms] + [_shown(ratios["identical_bytes"][name][way])]
            lines.append(f"| {' | '.join([name, way, *cells])} |")
    lines += ["", "| ours on np256 by decord on | " + " | ".join(SAMPLINGS) + " |", "|---|" + "---:|" * len(SAMPLINGS)]
    for label, key in ((f"{GOP32} (same)", "same"), (GOP250, "gop250")):
        lines.append(f"| {label} | " + " | ".join(_shown(ratios[key][way]) for way in SAMPLINGS) + " |")
    lines += [
        "",
        "| stored as | kB a clip | PSNR, dB | ClipLoader, share of bare PyAV | of the decoder alone |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, found in result["stored"].items():
        limits = result["bound"][name]
        shares = [_shown(spread(limits[bare], limits["loader"])) for bare in ("pyav", "decoder")]
        lines.append(f"| {name} | {found['bytes_per_clip'] / 1000:.0f} | {found['psnr']:.1f} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _shown(ratio: dict[str, float]) -> str:
    return f"**{ratio['median']:.2f}** ({ratio['least']:.2f} to {ratio['most']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
