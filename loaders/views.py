"""What the model sees of a clip: views, drawn first, rendered to pixels afterwards.

Drawing needs no pixels and gives the same views in any process, so the CPU and the GPU path share it. Rendering, in the
order of the official code: RandAugment on the whole frame, crop and resize, flip, erasing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loaders import augment, erasing, randaugment, sampling
from loaders.augment import Box, resize_into
from loaders.decode import decode_pictures
from loaders.erasing import Erased, noise
from loaders.image_operations import Augmenter
from loaders.order import Draw, clip_generator
from loaders.packets import DecodeError
from loaders.randaugment import Operation
from warehouse.catalog.sample import Sample

CROPS = {"multi_scale": augment.multi_scale, "random_resized": augment.random_resized}
SAMPLINGS = {
    "dense": sampling.dense,
    "dense_aligned": sampling.dense_aligned,
    "linspace": sampling.linspace,
    "segments": sampling.segments,
}
TEST_SAMPLINGS = {"dense": sampling.multi_view, "segments": sampling.segment_views}


@dataclass(frozen=True)
class View:
    """What is taken of a clip, and what is done to it.

    Attributes:
        frame_ids: indices of the clip's frames, int64 (T,), non-decreasing.
        box: what is taken of each frame, in pixels of the stored frame, and resized to the size of the view.
        flip: whether it is mirrored left to right then.
        operations: RandAugment's, on the whole frame before the box is taken.
        erased: what is filled with noise at last, in pixels of the view.
    """

    frame_ids: np.ndarray
    box: Box
    flip: bool
    operations: tuple[Operation, ...] = ()
    erased: Erased | None = None


@dataclass(frozen=True)
class LoaderConfig:
    """Training batches: ``clips_per_batch`` clips with ``views`` views each, made of the same frames.

    ``loaders.recipes`` has VideoMAE V2's pre-training and fine-tuning (§3.3, §3.4).
    ``workers`` and ``prefetch_batches`` change speed and memory, never what comes out.

    Attributes:
        sampling: a name of ``SAMPLINGS``. ``dense_aligned`` starts on the grid that the rendition decodes fastest.
        own_windows: each view of a clip has frames of its own, which costs the decoding of each.
        flip: half of the views are mirrored, except those of clips of the sources in ``unflipped``.
        randaugment: ``loaders.randaugment`` on each view.
        erasing: probability that a box of a view is erased (``loaders.erasing``).
        mixup, cutmix: parameters of the Beta distributions of ``loaders.mixing``, 0 for none.
        source_shares: of the draws, source → number on any scale (``loaders.mixture``); ``None``: by weights alone.
        run_clips: clips that are read one after the other from one shard (``loaders.runs``); 1: global shuffle.
    """

    clips_per_batch: int
    frames: int = 16
    size: int = 224
    views: int = 1
    seed: int = 0
    crop: Literal["multi_scale", "random_resized"] = "multi_scale"
    sampling: Literal["dense", "dense_aligned", "linspace", "segments"] = "dense"
    own_windows: bool = False
    flip: bool = False
    unflipped: tuple[str, ...] = ()
    randaugment: bool = False
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    source_shares: Mapping[str, float] | None = None
    run_clips: int = 1
    workers: int = 0
    prefetch_batches: int = 2
    max_failed_share: float = 0.05  # of the clips tried; the run stops well above it (loaders.failures),
    min_tries: int = 20  # but not before so many were tried

    def __post_init__(self) -> None:
        if self.crop not in CROPS or self.sampling not in SAMPLINGS:
            raise ValueError(f"crop is one of {list(CROPS)}, sampling one of {list(SAMPLINGS)}: {self}")
        counts = (self.frames, self.size, self.views, self.prefetch_batches, self.run_clips)
        if min(self.clips_per_batch, *counts) < 1:
            names = "clips_per_batch, frames, size, views, prefetch_batches and run_clips"
            raise ValueError(f"{names} must be at least 1: {self}")
        if min(self.workers, self.seed, self.mixup, self.cutmix) < 0:
            raise ValueError(f"workers, seed, mixup and cutmix must not be negative: {self}")
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"erasing is a probability: {self}")


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation batches: ``clips_per_batch`` clips, ``temporal_views`` · ``spatial_views`` views each.

    One temporal view is validation's, in the middle; several are the test protocol's (VideoMAE V2: 5 × 3 of ``dense``
    sampling on Kinetics, 2 × 3 of ``segments`` on Something-Something, §3.3). Spatial views are squares along the long
    side, one central. Rows run temporal-major per clip.
    """

    clips_per_batch: int
    frames: int = 16
    size: int = 224
    temporal_views: int = 1
    spatial_views: int = 1
    sampling: Literal["dense", "segments"] = "dense"
    workers: int = 0
    prefetch_batches: int = 2

    def __post_init__(self) -> None:
        if self.sampling not in TEST_SAMPLINGS:
            raise ValueError(f"sampling is one of {list(TEST_SAMPLINGS)}: {self}")
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
    views: list[View] = []
    for number in range(config.views):
        rng = clip_generator(config.seed, draw.epoch, draw.position, number)
        if number == 0 or config.own_windows:
            frame_ids = SAMPLINGS[config.sampling](sample.frames, config.frames, sample.stride, rng)
        box = CROPS[config.crop](sample.height, sample.width, rng)
        flip = config.flip and sample.source not in config.unflipped and rng.random() < 0.5
        operations = randaugment.draw(rng) if config.randaugment else ()
        erased = erasing.draw(config.size, rng) if rng.random() < config.erasing else None
        views.append(View(frame_ids, box, flip, operations, erased))
    return tuple(views)


def evaluation_views(config: EvaluationConfig, sample: Sample) -> tuple[View, ...]:
    """The fixed views of a clip: for each window in time, each square along the long side.

    Raises:
        DecodeError: the catalog knows no frames or no picture size of the clip.
    """
    _check(sample)
    if config.temporal_views > 1:
        take = TEST_SAMPLINGS[config.sampling]
        windows = list(take(sample.frames, config.frames, sample.stride, config.temporal_views))
    else:
        middle = sampling.centred if config.sampling == "dense" else sampling.segment_centres
        windows = [middle(sample.frames, config.frames, sample.stride)]
    places = range(config.spatial_views)
    boxes = [augment.square(sample.height, sample.width, place, config.spatial_views) for place in places]
    return tuple(View(frame_ids, box, False) for frame_ids in windows for box in boxes)


def render_views(sample: Sample, data: bytes, views: tuple[View, ...], pixels_VTSS3: np.ndarray) -> None:
    """Write the views of an encoded clip into uint8 (V, T, S, S, 3); each frame is decoded once for all views.

    Raises:
        DecodeError: see ``decode_pictures``.
    """
    places: dict[int, dict[int, list[int]]] = {}  # frame → view → where in the view
    for number, view in enumerate(views):
        for step, index in enumerate(view.frame_ids.tolist()):
            places.setdefault(index, {}).setdefault(number, []).append(step)
    augmenters = [Augmenter(view.operations, sample.height, sample.width, view.box) for view in views]
    for index, picture in decode_pictures(sample, data, places.keys()):
        if len(places[index]) > 1:
            picture.whole()  # once for all: parts of it would cost more together
        for number, (step, *again) in places[index].items():
            view = views[number]
            crop = augmenters[number](picture.whole()) if view.operations else picture.crop(view.box)
            resize_into(crop, view.flip, pixels_VTSS3[number, step])
            if again:
                pixels_VTSS3[number, again] = pixels_VTSS3[number, step]
    for number, view in enumerate(views):
        if view.erased is not None:
            rows, columns = view.erased.box.slices
            pixels_VTSS3[number, :, rows, columns] = noise(view.erased, len(view.frame_ids))


def _check(sample: Sample) -> None:
    if min(sample.frames, sample.width, sample.height, sample.stride) < 1:
        raise DecodeError(sample, f"{sample.frames} frames of {sample.width}×{sample.height}, stride {sample.stride}")
