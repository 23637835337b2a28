"""Mixup and CutMix on clips, on the device: each row of a batch with the row opposite (VideoMAE V2's batch mode, §3.4).

One draw serves a batch. It is a function of the configuration's seed, the rank and the batch's cursor: a resumed run
mixes as an uninterrupted one, and a CPU as a GPU.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from loaders.augment import Box
from loaders.batch import Batch
from loaders.order import Cursor, batch_generator
from loaders.views import LoaderConfig

CUTMIX_CHANCE = 0.5  # where both are on (§3.4: switch .5)


@dataclass(frozen=True)
class Mix:
    """``share`` of each row's pixels is its own. ``box``: those of the opposite row lie there (CutMix), in all frames;
    ``None``: they shine through everywhere (mixup)."""

    share: float
    box: Box | None


def draw_mix(config: LoaderConfig, rank: int, cursor: Cursor) -> Mix | None:
    """What is done to the batch that the rank's stream continues at ``cursor`` after; ``None`` where nothing is on."""
    if not config.mixup and not config.cutmix:
        return None
    rng = batch_generator(config.seed, rank, cursor)
    cut = config.cutmix > 0 and (config.mixup == 0 or rng.random() < CUTMIX_CHANCE)
    share = float(rng.beta(config.cutmix, config.cutmix) if cut else rng.beta(config.mixup, config.mixup))
    return _cut(share, config.size, rng) if cut else Mix(share, None)


def _cut(share: float, size: int, rng: np.random.Generator) -> Mix:
    """A box with a centre anywhere, cut off at the edges; the share is that of the pixels it leaves."""
    half = int(size * math.sqrt(1 - share)) // 2
    (top, left), (bottom, right) = (np.clip(rng.integers(size, size=2) + np.array([[-half], [half]]), 0, size)).tolist()
    box = Box(top, left, bottom - top, right - left)
    return Mix(1 - box.height * box.width / size**2, box)


def mix_frames(frames_BTSS3: Tensor, mix: Mix) -> Tensor:
    """Mixed clips on the same scale 0..255: uint8 stays uint8 in CutMix, and becomes float32 in mixup."""
    if mix.box is None:
        frames = frames_BTSS3.float()
        return frames.lerp(frames.flip(0), 1 - mix.share)
    rows, columns = mix.box.slices
    mixed = frames_BTSS3.clone()
    mixed[:, :, rows, columns] = frames_BTSS3.flip(0)[:, :, rows, columns]
    return mixed


def mixed(batches: Iterable[Batch], config: LoaderConfig, rank: int, device: torch.device) -> Iterator[Batch]:
    """The batches with their frames on the device, mixed as configured; ``Batch.share`` says how."""
    for batch in batches:
        mix = draw_mix(config, rank, batch.cursor)
        if mix is None:
            yield batch
        else:
            frames = batch.frames.to(device, non_blocking=True)
            yield replace(batch, frames=mix_frames(frames, mix), share=mix.share)
