"""The loaders that ``benchmarks.loader_scaling`` compares: ours, and what one writes with torch's ``DataLoader``.

All give batches of one view a clip: 16 frames at stride 4 from a random start, a random square, resized to 224 × 224,
uint8. Theirs seek and decode with PyAV on one thread, convert the wanted frames alone, and crop and resize with OpenCV:
a careful script, with one ``VideoReformatter`` a clip.
"""

import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import webdataset
from av.video.reformatter import VideoReformatter
from torch.utils.data import DataLoader, Dataset

from loaders.train_loader import ClipLoader, LoaderConfig
from warehouse.catalog.sample import Sample, Tombstone

FRAMES, STRIDE, SIZE, SHUFFLE = 16, 4, 224, 100
OURS, WEBDATASET, LISTING = "ours", "webdataset + DataLoader", "list of clips + DataLoader"


def ours(samples: Sequence[Sample | Tombstone], workers: int, clips: int) -> ClipLoader:
    """``ClipLoader`` as training uses it."""
    return ClipLoader(samples, LoaderConfig(clips_per_batch=clips, frames=FRAMES, size=SIZE, workers=workers))


def webdataset_loader(shards: Sequence[Path], workers: int, clips: int) -> Iterator[torch.Tensor]:
    """Shards read from the first byte to the last, their order and a buffer of clips shuffled."""
    dataset = (
        webdataset.WebDataset([str(path) for path in shards], shardshuffle=len(shards), seed=0)
        .shuffle(SHUFFLE)
        .map(lambda sample: torch.from_numpy(user_view(sample["mp4"])))
        .repeat()
    )
    return _batches(dataset, workers, clips, shuffle=None)


class Listing(Dataset):
    """A map-style data set: a list with an entry for each clip, as the official code reads from a CSV."""

    def __init__(self, path: Path) -> None:
        with path.open(newline="") as file:
            self._clips = [(row[0], int(row[1]), int(row[2])) for row in csv.reader(file)]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> torch.Tensor:
        path, offset, size = self._clips[number]
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(offset)
            return torch.from_numpy(user_view(file.read(size)))


def write_listing(path: Path, samples: Sequence[Sample], clips: int) -> None:
    """The CSV that ``Listing`` reads: path, first byte and size, of so many clips that are some of ``samples``."""
    with path.open("w", newline="") as file:
        rows = ((samples[i % len(samples)].shard, samples[i % len(samples)].offset, samples[i % len(samples)].size)
                for i in range(clips))  # fmt: skip
        csv.writer(file).writerows(rows)


def listing_loader(path: Path, workers: int, clips: int) -> Iterator[torch.Tensor]:
    """A fresh permutation of the whole list for each epoch, by torch's own sampler."""
    return _batches(Listing(path), workers, clips, shuffle=True)


def _batches(dataset: Dataset, workers: int, clips: int, shuffle: bool | None) -> Iterator[torch.Tensor]:
    # Forked, as scripts have it on Linux: this process was not, and would otherwise start its own as it was started.
    context = "fork" if workers else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores are a case, too
        loader = DataLoader(
            dataset, clips, shuffle, num_workers=workers, collate_fn=torch.stack, multiprocessing_context=context
        )
        return iter(loader)


def user_view(data: bytes) -> np.ndarray:
    """uint8 (16, 224, 224, 3) of an encoded clip."""
    rng = np.random.default_rng()
    pixels = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        rate, base = stream.average_rate, stream.time_base
        assert rate is not None and base is not None
        start = int(rng.integers(max(stream.frames - FRAMES * STRIDE, 0) + 1))
        wanted = np.minimum(start + np.arange(FRAMES) * STRIDE, stream.frames - 1).tolist()
        container.seek(round(start / rate / base), stream=stream)
        side = min(stream.height, stream.width)
        top, left = rng.integers(stream.height - side + 1), rng.integers(stream.width - side + 1)
        reformatter, steps = VideoReformatter(), iter(range(FRAMES))
        step = next(steps)
        for frame in container.decode(stream):
            number = round(float(frame.pts * base * rate)) if frame.pts is not None else -1
            if number < wanted[step]:
                continue
            rgb = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            picture = cv2.resize(rgb[top : top + side, left : left + side], (SIZE, SIZE))
            pixels[step] = picture
            for step in steps:
                if wanted[step] > number:
                    break
                pixels[step] = picture
            else:
                return pixels
    raise ValueError(f"{FRAMES} frames were wanted, {step} came")
