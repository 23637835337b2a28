"""Ways to get views of a stored clip, for ``benchmarks.decode``: ours, and what people use instead.

All give the same frames, cropped alike, as uint8 (V, T, S, S, 3). One thread each, the video's bytes in the page cache.
Where views are squares along the long side of the same frames (5 × 3 views), the others decode each frame once, resize
it once and cut the squares out of that, which is less than they do by themselves: the official loader decodes the whole
clip for each of the 15.
"""

import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from loaders.views import View, render_views
from warehouse.catalog.sample import Sample
from warehouse.shards.reader import read_sample

INSTALL = "pip install -e '.[bench]'"
_FFMPEG, _AGAIN = Path(".reelhouse/benchmarks/ffmpeg").absolute(), "REELHOUSE_BENCHMARK_FFMPEG"


@dataclass(frozen=True)
class Clip:
    """A clip in a shard, and the same bytes in a file of their own."""

    sample: Sample
    path: Path


Views = Sequence[View]
Arm = Callable[[Clip, Views, np.ndarray], None]


def require_others() -> None:
    """Import decord and torchcodec, or end with what to do.

    torchcodec looks for FFmpeg's libraries under their plain names when it is imported. PyAV has them under names of
    its own, so the process starts once more where they are found: then both decode with the same FFmpeg.
    """
    try:
        import decord  # noqa: F401
        import torchcodec  # noqa: F401
    except ImportError as error:
        raise SystemExit(f"{error}. The benchmark compares with decord and torchcodec: {INSTALL}") from error
    except (OSError, RuntimeError) as error:
        if os.environ.get(_AGAIN):
            raise SystemExit(f"torchcodec cannot be loaded: {error}") from error
        libraries = Path(av.__file__).parents[1] / "av.libs"
        _FFMPEG.mkdir(parents=True, exist_ok=True)
        for library in (*libraries.glob("libav*.so.*"), *libraries.glob("libsw*.so.*")):
            name = library.name.split("-")[0] + ".so." + library.name.split(".so.")[1].split(".")[0]
            link = _FFMPEG / f"{name}.{os.getpid()}"
            link.symlink_to(library)
            link.replace(_FFMPEG / name)
        paths = [str(_FFMPEG), str(libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        os.environ |= {"LD_LIBRARY_PATH": os.pathsep.join(paths), _AGAIN: "1"}
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def ours(clip: Clip, views: Views, pixels: np.ndarray) -> None:
    """As a loader's worker does it: from the shard, the bytes checked."""
    render_views(clip.sample, read_sample(clip.sample), tuple(views), pixels)


def decord(clip: Clip, views: Views, pixels: np.ndarray) -> None:
    """As the official VideoMAE V2 loader does it: decord on one thread; crops by Pillow, for a test by OpenCV."""
    from decord import VideoReader, cpu

    reader = VideoReader(str(clip.path), num_threads=1, ctx=cpu(0))
    if len(views) > 1:
        wanted = _distinct(views)
        _cut(dict(zip(wanted, reader.get_batch(wanted).asnumpy(), strict=True)), views, pixels)
        return
    [view], box, size = views, views[0].box, pixels.shape[2]
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    for step, frame in enumerate(reader.get_batch(view.frame_ids.tolist()).asnumpy()):
        image = Image.fromarray(frame).convert("RGB").crop(corners)
        pixels[0, step] = image.resize((size, size), Image.Resampling.BILINEAR)


def torchcodec(clip: Clip, views: Views, pixels: np.ndarray) -> None:
    """Its faster way of seeking, which is right for clips of a constant frame rate; crops by OpenCV."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(clip.path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate")
    wanted = _distinct(views)
    _cut(dict(zip(wanted, decoder.get_frames_at(wanted).data.numpy(), strict=True)), views, pixels)


def opencv(clip: Clip, views: Views, pixels: np.ndarray) -> None:
    """``VideoCapture``: seek to the first wanted frame, retrieve those that are wanted."""
    capture = cv2.VideoCapture(str(clip.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    wanted = _distinct(views)
    capture.set(cv2.CAP_PROP_POS_FRAMES, wanted[0])
    frames = {}
    for index in range(wanted[0], wanted[-1] + 1):
        if not capture.grab():
            raise RuntimeError(f"OpenCV gives no frame {index} of {clip.path}")
        if index in wanted:
            frames[index] = cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
    _cut(frames, views, pixels)


class WebDatasetLoader:
    """The shard through ``webdataset`` and a ``DataLoader`` without workers: PyAV seeks and decodes."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        import webdataset
        from torch.utils.data import DataLoader

        self._wanted: tuple[Views, np.ndarray] | None = None
        dataset = webdataset.WebDataset(str(clips[0].sample.shard), shardshuffle=False).repeat().map(self._decode)
        self._batches: Iterator[Any] = iter(DataLoader(dataset, batch_size=1, num_workers=0))

    def __call__(self, clip: Clip, views: Views, pixels: np.ndarray) -> None:
        self._wanted = views, np.empty_like(pixels)
        [key], batch = next(self._batches)
        if key != clip.sample.clip_id:
            raise RuntimeError(f"{clip.sample.shard} gave clip {key} in the place of {clip.sample.clip_id}")
        pixels[:] = batch[0].numpy()

    def _decode(self, stored: dict[str, Any]) -> tuple[str, np.ndarray]:
        assert self._wanted is not None
        views, pixels = self._wanted
        wanted, frames = _distinct(views), {}
        with av.open(io.BytesIO(stored["mp4"])) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            rate, clock = stream.average_rate, stream.time_base
            assert rate is not None and clock is not None
            container.seek(round(wanted[0] / rate / clock), stream=stream)
            for frame in container.decode(stream):
                assert frame.pts is not None
                index = round(frame.pts * clock * rate)
                if index in wanted:
                    frames[index] = frame.to_ndarray(format="rgb24")
                if index == wanted[-1]:
                    break
        _cut(frames, views, pixels)
        return stored["__key__"], pixels


def _distinct(views: Views) -> list[int]:
    return np.unique(np.concatenate([view.frame_ids for view in views])).tolist()


def _cut(frames: dict[int, np.ndarray], views: Views, pixels: np.ndarray) -> None:
    """Crops of whole frames: resized each, or of frames resized once where the views are squares on the short side."""
    size = pixels.shape[2]
    if len(views) == 1:
        for step, index in enumerate(views[0].frame_ids.tolist()):
            pixels[0, step] = cv2.resize(frames[index][views[0].box.slices], (size, size))
        return
    side = views[0].box.height
    small = {
        index: cv2.resize(frame, tuple(round(length * size / side) for length in frame.shape[1::-1]))
        for index, frame in frames.items()
    }
    for number, view in enumerate(views):
        top, left = (min(round(at * size / side), length - size) for at, length in
                     zip((view.box.top, view.box.left), next(iter(small.values())).shape, strict=False))  # fmt: skip
        for step, index in enumerate(view.frame_ids.tolist()):
            pixels[number, step] = small[index][top : top + size, left : left + size]
