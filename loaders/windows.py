"""What features are extracted from: of each clip the window in its middle, or one every so many frames.

Worker processes import this: it does without torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from loaders.order import Draw
from loaders.sampling import sliding_windows
from loaders.views import TEST_SAMPLINGS, EvaluationConfig, View, evaluation_views, render_views
from warehouse.catalog.sample import Sample
from warehouse.shards.reader import read_sample

PIECE = 8
"""Windows of a clip that a worker does at one time: they share frames, which are decoded once."""


@dataclass(frozen=True)
class WindowConfig:
    """Batches of windows: of ``clips_per_batch`` clips, or pieces of long clips.

    Attributes:
        every: frames from one window of ``frames`` consecutive frames to the next (``sampling.sliding_windows``;
            VideoMAE V2 for temporal detection: 4 and 16, §4.6). None: one window in the middle of the clip, as
            validation takes it.
        sampling: of that one window.
        spatial_views: squares along the long side, one: the middle.
    """

    clips_per_batch: int
    frames: int = 16
    size: int = 224
    every: int | None = None
    sampling: Literal["dense", "segments"] = "dense"
    spatial_views: int = 1
    workers: int = 0
    prefetch_batches: int = 2

    def __post_init__(self) -> None:
        if self.sampling not in TEST_SAMPLINGS:
            raise ValueError(f"sampling is one of {list(TEST_SAMPLINGS)}: {self}")
        numbers = (self.clips_per_batch, self.frames, self.size, self.spatial_views, self.prefetch_batches)
        if min(*numbers, 1 if self.every is None else self.every) < 1 or self.workers < 0:
            raise ValueError(f"all numbers must be at least 1 (workers: 0): {self}")

    @property
    def piece(self) -> int:
        """Windows of a clip in one piece, at most."""
        return 1 if self.every is None else PIECE


def window_count(config: WindowConfig, sample: Sample) -> int:
    """Windows of a clip."""
    return 1 if config.every is None else max(sample.frames - config.frames, 0) // config.every + 1


def window_views(config: WindowConfig, sample: Sample, first: int) -> list[View]:
    """The views of a piece of a clip, from its window ``first`` on: those of a window follow one another.

    Raises:
        DecodeError: the catalog knows no frames or no picture size of the clip.
    """
    middle = evaluation_views(
        EvaluationConfig(1, config.frames, config.size, 1, config.spatial_views, config.sampling), sample
    )
    if config.every is None:
        return list(middle)
    windows = sliding_windows(sample.frames, config.frames, config.every)[first : first + config.piece]
    return [replace(view, frame_ids=frame_ids) for frame_ids in windows for view in middle]


@dataclass(frozen=True)
class WindowPixels:
    """The views of a piece as pixels (V, T, S, S, 3); the last piece of a clip may fill the first of these alone."""

    config: WindowConfig

    @property
    def shape(self) -> tuple[int, ...]:
        config = self.config
        return (config.piece * config.spatial_views, config.frames, config.size, config.size, 3)

    def __call__(self, sample: Sample, draw: Draw, pixels: np.ndarray) -> None:
        views = window_views(self.config, sample, draw.position)
        render_views(sample, read_sample(sample), tuple(views), pixels[: len(views)])


def pieces(config: WindowConfig, sample: Sample) -> Iterator[int]:
    """The first windows of the pieces of a clip."""
    return iter(range(0, window_count(config, sample), config.piece))
