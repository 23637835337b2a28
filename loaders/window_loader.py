"""Batches of windows for feature extraction, decoded by worker processes with PyAV. A clip that fails is told of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np
import torch
from torch import Tensor

from loaders.failures import FailedClip
from loaders.order import Cursor, Draw
from loaders.pool import ClipPool
from loaders.windows import WindowConfig, WindowPixels, pieces, window_views
from warehouse.catalog.sample import Sample


@dataclass(frozen=True)
class Window:
    """A window of a clip: its number from 0, and its first frame in the clip as stored."""

    sample: Sample
    number: int
    start_frame: int


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """``frames`` is uint8 (windows × spatial_views, T, S, S, 3), RGB: the views of a window follow one another.

    ``failed`` clips gave no frames, or not all of their windows.
    """

    frames: Tensor
    windows: tuple[Window, ...]
    failed: tuple[FailedClip, ...]


class WindowLoader:
    """Worker processes that make windows of clips. Nothing is padded or replaced."""

    def __init__(self, config: WindowConfig) -> None:
        self.config = config
        under_way = max(config.clips_per_batch * config.prefetch_batches, 2 * config.workers)
        self._pool = ClipPool(WindowPixels(config), config.workers, under_way)

    def batches(self, samples: Iterable[Sample]) -> Iterator[WindowBatch]:
        """The windows of the clips, in order; a batch may be of failed clips alone, and have no frames."""
        config = self.config
        # What a task is about travels in its draw: nothing here is drawn.
        tasks = ((sample, Draw(0, first, 0, Cursor())) for sample in samples for first in pieces(config, sample))
        results = self._pool.results(tasks)
        while True:
            windows: list[Window] = []
            pixels: list[np.ndarray] = []
            failed: list[FailedClip] = []
            for result in islice(results, config.clips_per_batch):
                if isinstance(result.outcome, FailedClip):
                    failed.append(result.outcome)
                    continue
                sample, first = result.sample, result.draw.position
                views = window_views(config, sample, first)
                pixels.append(self._pool.memory.pixels[result.place, : len(views)].copy())
                starts = [int(view.frame_ids[0]) for view in views[:: config.spatial_views]]
                windows += [Window(sample, first + number, start) for number, start in enumerate(starts)]
            if not windows and not failed:
                return
            self._pool.take_on()
            shape = (0, config.frames, config.size, config.size, 3)
            frames = np.concatenate(pixels) if pixels else np.empty(shape, np.uint8)
            yield WindowBatch(torch.from_numpy(frames), tuple(windows), tuple(failed))

    def close(self) -> None:
        """End the worker processes; they also end with this process or when the loader is forgotten."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
