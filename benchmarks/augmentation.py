"""What augmenting costs a fine-tuning view: ``python -m benchmarks.augmentation [--json]``.

CPU time of one thread for a view of 16 × 224² of a clip stored as ``np256``, step by step, each step of every view
measured right after the one before: decoding (once for the two views of a clip), RandAugment, crop and resize, erasing.
RandAugment is done three times over: ours in the official order, on the whole frame before the crop; ours on the crop,
which means something else (shares and angles of another picture, statistics of the crop); and with Pillow on the whole
frame, as the official loader does it. Then each operation alone on whole frames, ours and Pillow's.

The clips are real ones where ``--videos`` has them, else an embedded corpus rendered for this.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.pillow_operations import in_pillow
from loaders import erasing, randaugment
from loaders.augment import Box, crop_resize
from loaders.decode import decode_frames
from loaders.image_operations import Augmenter
from loaders.order import Cursor, Draw
from loaders.randaugment import OPERATIONS, Operation
from loaders.recipes import finetuning
from loaders.views import training_views
from warehouse.catalog.samples import Sample
from warehouse.corpus.build import build
from warehouse.media_file import MediaFile
from warehouse.shards.encoding import encode

VIDEOS = Path(__file__).parents[2] / "shared" / "data"
SETS = ("asl_words/**/*.m*", "ut_interaction/set1/*.avi")
CLIPS_OF_A_SET, DRAWS, STRIDE = 6, 10, 4
WORK = Path(".reelhouse/benchmarks/augmentation")
STEPS = ("decoding", "randaugment", "on the crop", "with Pillow", "crop and resize", "erasing")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures; returns the exit code."""
    about = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation", description=about)
    parser.add_argument("--draws", type=int, default=DRAWS, help="times each clip is drawn (default: %(default)s)")
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder with sets of real clips")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    if options.draws < 1:
        parser.error("--draws must be at least 1")
    result = measure(options.videos, options.draws)
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def measure(videos: Path, draws: int) -> dict[str, Any]:
    """CPU-milliseconds of each step a view, of each operation a frame, and what they were measured on."""
    cv2.setNumThreads(1)
    paths, real = _paths(videos)
    clips = [_stored(path, number) for number, path in enumerate(paths)]
    spent: dict[str, list[float]] = {step: [] for step in STEPS}
    for sample, data in tqdm(clips, desc="clips"):
        for draw in range(draws):
            for step, milliseconds in _one_draw(sample, data, Draw(0, draw * len(clips), 0, Cursor())).items():
                spent[step] += milliseconds
    frames = [next(decode_frames(sample, data, [sample.frames // 2]))[1] for sample, data in clips]
    per_view = {step: mean(times) for step, times in spent.items()}
    plain = per_view["decoding"] + per_view["crop and resize"]
    return {
        "clips": len(clips),
        "real": real,
        "views": len(spent["randaugment"]),
        "ms_a_view": per_view,
        "ms_an_operation": {name: _operation(name, frames) for name in OPERATIONS},
        "ratio_to_pillow": per_view["with Pillow"] / per_view["randaugment"],
        "randaugment_share_of_view": per_view["randaugment"] / (plain + per_view["randaugment"] + per_view["erasing"]),
        "ratio_on_the_crop": per_view["on the crop"] / per_view["randaugment"],
    }


def _paths(videos: Path) -> tuple[list[Path], bool]:
    found = [sorted(videos.glob(pattern)) for pattern in SETS]
    spread = [paths[:: max(1, len(paths) // CLIPS_OF_A_SET)][:CLIPS_OF_A_SET] for paths in found]
    if all(spread):
        return [path for paths in spread for path in paths], True
    build(WORK, clips=24, seed=2)
    return sorted(path for path in WORK.rglob("*") if path.suffix in (".mp4", ".webm"))[: 2 * CLIPS_OF_A_SET], False


def _stored(path: Path, number: int) -> tuple[Sample, bytes]:
    with av.open(path) as container:
        fps = float(container.streams.video[0].average_rate or 25)
    data = encode(MediaFile(str(path)), "np256", STRIDE, fps).data
    target = WORK / "clip.mp4"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    with av.open(target) as container:
        stream = container.streams.video[0]
        place = {"shard": target, "offset": 0, "size": len(data), "sha256": ""}
        seen = {"codec": "h264", "fps": fps, "frames": stream.frames, "width": stream.width, "height": stream.height}
    sample = Sample(f"{number:032x}", "benchmark", "train", 0, 1.0, STRIDE, **place, **seen)  # type: ignore[arg-type]
    return sample, data


def _one_draw(sample: Sample, data: bytes, draw: Draw) -> dict[str, list[float]]:
    """Milliseconds of each step for the views of a draw; decoding is shared out among them."""
    config = finetuning(clips_per_batch=1)
    views = training_views(config, sample, draw)
    frame_ids = views[0].frame_ids.tolist()
    whole, decoding = _timed(lambda: dict(decode_frames(sample, data, set(frame_ids))))
    spent: dict[str, list[float]] = {step: [] for step in STEPS}
    for view in views:
        spent["decoding"].append(decoding / len(views))
        frames = [whole[index] for index in frame_ids]
        changed, taken = _timed(lambda frames=frames, view=view: _augmented(frames, view.operations, view.box))
        spent["randaugment"].append(taken)
        crops, taken = _timed(
            lambda frames=changed, flip=view.flip: [crop_resize(f, _whole(f), config.size, flip) for f in frames]
        )
        spent["crop and resize"].append(taken)
        _, taken = _timed(lambda frames=crops, view=view: _augmented(frames, view.operations))
        spent["on the crop"].append(taken)
        _, taken = _timed(lambda frames=frames, view=view: _with_pillow(frames, view.operations))
        spent["with Pillow"].append(taken)
        erased = view.erased
        _, taken = _timed(lambda erased=erased: erased and erasing.noise(erased, config.frames))
        spent["erasing"].append(taken)
    return spent


def _whole(frame: np.ndarray) -> Box:
    return Box(0, 0, *frame.shape[:2])


def _augmented(
    frames: Sequence[np.ndarray], operations: Sequence[Operation], box: Box | None = None
) -> list[np.ndarray]:
    augmenter = Augmenter(operations, *frames[0].shape[:2], box)
    return [augmenter(frame) for frame in frames]


def _with_pillow(frames: Sequence[np.ndarray], operations: Sequence[Operation]) -> list[np.ndarray]:
    changed = []
    for frame in frames:
        image = Image.fromarray(frame)
        for operation in operations:
            image = in_pillow(image, operation)
        changed.append(np.asarray(image))
    return changed


def _operation(name: str, frames: Sequence[np.ndarray]) -> dict[str, float]:
    """Milliseconds a frame, at magnitude 7."""
    operation = randaugment.operation(name, randaugment.MAGNITUDE, np.random.default_rng(0))
    _, ours = _timed(lambda: [_augmented([frame] * 16, [operation]) for frame in frames])
    _, theirs = _timed(lambda: [_with_pillow([frame] * 16, [operation]) for frame in frames])
    return {"ours": ours / 16 / len(frames), "pillow": theirs / 16 / len(frames)}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and milliseconds of CPU time."""
    started = time.process_time()
    result = work()
    return result, 1000 * (time.process_time() - started)


def table(result: dict[str, Any]) -> str:
    """The figures for people."""
    spent = result["ms_a_view"]
    kind = "real clips" if result["real"] else "rendered clips (no real ones were found)"
    rows = (
        ("decoding, shared by two views", "decoding", ""),
        ("RandAugment, official order", "randaugment", f"{result['randaugment_share_of_view']:.0%} of a view"),
        ("  the same with Pillow", "with Pillow", f"{result['ratio_to_pillow']:.1f} × ours"),
        ("  on the crop: not the same", "on the crop", f"{result['ratio_on_the_crop']:.1f} × ours"),
        ("crop, resize, flip", "crop and resize", ""),
        ("erasing (a quarter of the views)", "erasing", ""),
    )
    lines = [f"{result['clips']} {kind} as np256, {result['views']} fine-tuning views of 16 × 224²: CPU-ms a view"]
    lines += [f"  {words:34}{spent[step]:6.1f}   {note}".rstrip() for words, step, note in rows]
    lines += ["", "CPU-ms a frame         ours  Pillow"]
    lines += [f"  {name:16} {ms['ours']:8.2f}{ms['pillow']:8.2f}" for name, ms in result["ms_an_operation"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
