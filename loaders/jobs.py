"""What is done for each clip: pixels for a training batch, pixels for an evaluation, or packets for a GPU's decoder.

A job is a frozen dataclass that travels to the worker processes once. This module and what it imports do without
torch, so that a worker starts in a fraction of a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from loaders.decode import DecodeError
from loaders.failures import SHARD, UNDECODABLE, FailedClip
from loaders.order import Draw
from loaders.trim import TrimmedClip, trim
from loaders.views import EvaluationConfig, LoaderConfig, View, evaluation_views, render_views, training_views
from warehouse.catalog.sample import Sample
from warehouse.shards.errors import ShardError
from warehouse.shards.reader import read_sample


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
        return pack(sample, read_sample(sample), training_views(self.config, sample, draw))


@dataclass(frozen=True)
class EvaluationPackets:
    """The same fixed views, not rendered: trimmed packets and what to take of them."""

    config: EvaluationConfig

    @property
    def shape(self) -> tuple[int, ...]:
        return (0,)

    def __call__(self, sample: Sample, draw: Draw, pixels: np.ndarray) -> PackedViews:
        return pack(sample, read_sample(sample), evaluation_views(self.config, sample))


def attempt(job: Job, sample: Sample, draw: Draw, pixels: np.ndarray) -> PackedViews | FailedClip | None:
    """Do a clip's job; a clip that cannot be read or decoded is an answer, not an error."""
    try:
        return job(sample, draw, pixels)
    except ShardError as error:
        return FailedClip(sample.clip_id, SHARD, str(error))
    except DecodeError as error:
        return FailedClip(sample.clip_id, UNDECODABLE, str(error))


def places(views: Sequence[View]) -> tuple[list[int], tuple[View, ...]]:
    """The frames that views take, ascending, and the views with the places among these as their frames."""
    wanted = np.unique(np.concatenate([view.frame_ids for view in views]))
    return wanted.tolist(), tuple(replace(v, frame_ids=np.searchsorted(wanted, v.frame_ids)) for v in views)


def pack(sample: Sample, data: bytes, views: Sequence[View]) -> PackedViews:
    """A clip trimmed to what its views need, for a decoder that starts at its first packet.

    Raises:
        DecodeError: FFmpeg refuses the bytes, or their packets do not tell which frame they are. Then the clip cannot
            be trimmed, DALI might count its frames otherwise, and some damaged files of this kind crash it.
    """
    wanted, placed = places(views)
    clip = trim(sample, data, wanted)
    if clip.data is data:
        raise DecodeError(
            sample, "its packets do not tell which frame they are, so that DALI cannot be given it. Store its source "
            "in another rendition than `original`, or train on a CPU"
        )  # fmt: skip
    return PackedViews(clip, placed)


def _shape(config: LoaderConfig | EvaluationConfig) -> tuple[int, ...]:
    return (config.views, config.frames, config.size, config.size, 3)
