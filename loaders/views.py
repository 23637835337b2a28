"""What the model sees of a clip: views (frames, box, mirrored or not), drawn first, rendered to pixels afterwards.

Drawing needs no pixels and gives the same views in any process, so the CPU and the GPU path share it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from loaders import augment, sampling
from loaders.augment import Box, crop_resize
from loaders.decode import decode_frames
from loaders.order import Draw, clip_generator
from loaders.packets import DecodeError
from warehouse.catalog.snapshots import Sample

CROPS = {"multi_scale": augment.multi_scale, "random_resized": augment.random_resized}
SAMPLINGS = {"dense": sampling.dense, "linspace": sampling.linspace}


@dataclass(frozen=True)
class View:
    """Frame indices int64 (T,) of the clip, the box taken of each, and whether it is mirrored left to right."""

    frame_ids: np.ndarray
    box: Box
    flip: bool


@dataclass(frozen=True)
class LoaderConfig:
    """Training batches: ``clips_per_batch`` clips with ``views`` views each.

    ``dense`` sampling with ``multi_scale`` crops and no flip is VideoMAE V2's pre-training, ``linspace`` with
    ``random_resized`` crops its fine-tuning (§3.3, §3.4). Leave ``flip`` off where direction is the label.
    ``workers`` and ``prefetch_batches`` change speed and memory, never what comes out.
    """

    clips_per_batch: int
    frames: int = 16
    size: int = 224
    views: int = 1
    seed: int = 0
    crop: Literal["multi_scale", "random_resized"] = "multi_scale"
    sampling: Literal["dense", "linspace"] = "dense"
    flip: bool = False
    workers: int = 0
    prefetch_batches: int = 2
    max_failed_share: float = 0.05  # of the clips tried; the run stops above it,
    min_tries: int = 20  # but not before so many were tried

    def __post_init__(self) -> None:
        if self.crop not in CROPS or self.sampling not in SAMPLINGS:
            raise ValueError(f"crop is one of {list(CROPS)}, sampling one of {list(SAMPLINGS)}: {self}")
        if min(self.clips_per_batch, self.frames, self.size, self.views, self.prefetch_batches) < 1:
            raise ValueError(f"clips_per_batch, frames, size, views and prefetch_batches must be at least 1: {self}")
        if self.workers < 0 or self.seed < 0:
            raise ValueError(f"workers and seed must not be negative: {self}")


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation batches: ``clips_per_batch`` clips, ``temporal_views`` · ``spatial_views`` views each.

    One temporal view is validation's centred window; several are the test protocol's (VideoMAE V2: 5 × 3 on
    Kinetics, §3.3). Spatial views are squares along the long side, one central. Rows run temporal-major per clip.
    """

    clips_per_batch: int
    frames: int = 16
    size: int = 224
    temporal_views: int = 1
    spatial_views: int = 1
    workers: int = 0
    prefetch_batches: int = 2

    def __post_init__(self) -> None:
        numbers = (self.frames, self.size, self.temporal_views, self.spatial_views, self.prefetch_batches)
        if min(self.clips_per_batch, *numbers) < 1 or self.workers < 0:
            raise ValueError(f"all numbers must be at least 1 (workers: 0): {self}")

    @property
    def views(self) -> int:
        return self.temporal_views * self.spatial_views


def training_views(config: LoaderConfig, sample: Sample, draw: Draw) -> tuple[View, ...]:
    """The random views of one draw, fixed by (seed, epoch, position, number of the view).

    Raises:
        DecodeError: the catalog knows no frames or no picture size of the clip.
    """
    _check(sample)
    views = []
    for number in range(config.views):
        rng = clip_generator(config.seed, draw.epoch, draw.position, number)
        frame_ids = SAMPLINGS[config.sampling](sample.frames, config.frames, sample.stride, rng)
        box = CROPS[config.crop](sample.height, sample.width, rng)
        views.append(View(frame_ids, box, config.flip and rng.random() < 0.5))
    return tuple(views)


def evaluation_views(config: EvaluationConfig, sample: Sample) -> tuple[View, ...]:
    """The fixed views of a clip: for each window in time, each square along the long side.

    Raises:
        DecodeError: the catalog knows no frames or no picture size of the clip.
    """
    _check(sample)
    if config.temporal_views == 1:
        windows = [sampling.centred(sample.frames, config.frames, sample.stride)]
    else:
        windows = list(sampling.multi_view(sample.frames, config.frames, sample.stride, config.temporal_views))
    places = range(config.spatial_views)
    boxes = [augment.square(sample.height, sample.width, place, config.spatial_views) for place in places]
    return tuple(View(frame_ids, box, False) for frame_ids in windows for box in boxes)


def render_views(sample: Sample, data: bytes, views: tuple[View, ...], pixels_VTSS3: np.ndarray) -> None:
    """Write the views of an encoded clip into uint8 (V, T, S, S, 3); each frame is decoded once for all views.

    Raises:
        DecodeError: see ``decode_frames``.
    """
    size = pixels_VTSS3.shape[2]
    places: dict[int, dict[int, list[int]]] = {}  # frame → view → where in the view
    for number, view in enumerate(views):
        for step, index in enumerate(view.frame_ids.tolist()):
            places.setdefault(index, {}).setdefault(number, []).append(step)
    for index, frame in decode_frames(sample, data, places.keys()):
        for number, steps in places[index].items():
            view = views[number]
            pixels_VTSS3[number, steps] = crop_resize(frame, view.box, size, view.flip)


def _check(sample: Sample) -> None:
    if min(sample.frames, sample.width, sample.height, sample.stride) < 1:
        raise DecodeError(sample, f"{sample.frames} frames of {sample.width}×{sample.height}, stride {sample.stride}")
