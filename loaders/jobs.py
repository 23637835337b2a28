"""What is done for each clip: pixels for a training batch, pixels for an evaluation, or packets for a GPU's decoder.

A job is a frozen dataclass that travels to the worker processes once. This module and what it imports do without
torch, so that a worker starts in a fraction of a second.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from loaders.decode import DecodeError
from loaders.failures import FailedClip
from loaders.order import Draw
from loaders.trim import TrimmedClip, trim
from loaders.views import EvaluationConfig, LoaderConfig, View, evaluation_views, render_views, training_views
from warehouse.catalog.snapshots import Sample
from warehouse.shards.reader import ShardError, read_sample


@dataclass(frozen=True)
class PackedViews:
    """A trimmed clip and its views, whose frame indices are places in ``clip.frame_ids``."""

    clip: TrimmedClip
    views: tuple[View, ...]


class Job(Protocol):
    """``shape`` is that of the uint8 pixels it writes, all 0 if none; the call returns what else it has to hand over.

    The call may raise ShardError or DecodeError.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __call__(self, sample: Sample, draw: Draw, pixels: np.ndarray) -> PackedViews | None: ...


@dataclass(frozen=True)
class TrainingPixels:
    """Random views as pixels (V, T, S, S, 3)."""

    config: LoaderConfig

    @property
    def shape(self) -> tuple[int, ...]:
        return _shape(self.config)

    def __call__(self, sample: Sample, draw: Draw, pixels: np.ndarray) -> None:
        render_views(sample, read_sample(sample), training_views(self.config, sample, draw), pixels)


@dataclass(frozen=True)
class EvaluationPixels:
    """Fixed views as pixels (V, T, S, S, 3)."""

    config: EvaluationConfig

    @property
    def shape(self) -> tuple[int, ...]:
        return _shape(self.config)

    def __call__(self, sample: Sample, draw: Draw, pixels: np.ndarray) -> None:
        render_views(sample, read_sample(sample), evaluation_views(self.config, sample), pixels)


@dataclass(frozen=True)
class TrainingPackets:
    """The same random views, not rendered: trimmed packets and what to take of them."""

    config: LoaderConfig

    @property
    def shape(self) -> tuple[int, ...]:
        return (0,)

    def __call__(self, sample: Sample, draw: Draw, pixels: np.ndarray) -> PackedViews:
        views = training_views(self.config, sample, draw)
        wanted = np.unique(np.concatenate([view.frame_ids for view in views]))
        clip = trim(sample, read_sample(sample), wanted.tolist())
        return PackedViews(clip, tuple(View(np.searchsorted(wanted, v.frame_ids), v.box, v.flip) for v in views))


def attempt(job: Job, sample: Sample, draw: Draw, pixels: np.ndarray) -> PackedViews | FailedClip | None:
    """Do a clip's job; a clip that cannot be read or decoded is an answer, not an error."""
    try:
        return job(sample, draw, pixels)
    except (ShardError, DecodeError) as error:
        return FailedClip(sample.clip_id, str(error))


def _shape(config: LoaderConfig | EvaluationConfig) -> tuple[int, ...]:
    return (config.views, config.frames, config.size, config.size, 3)
