"""Random erasing: one box of a view, the same in all frames, filled with noise (VideoMAE V2 facts, §3.4).

The noise is normal in normalised colours, as in the official code, stored as uint8: the tails beyond black (2 to 4 %,
by channel) and white (1 %) are cut off. It is a function of a seed and the place alone, made of integers, so that a GPU
can make the same bits.
"""

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from loaders.augment import Box

AREA = (0.02, 1 / 3)  # of the view (official code, as timm's RandomErasing),
MIN_ASPECT = 0.3  # height to width log-uniform from this to its inverse
# Mean and standard deviation of ImageNet's RGB in [0, 1], which the model normalises with.
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TRIES = 100  # draws of a shape before nothing is erased
_LEVEL_BITS = 12  # of the random word: more levels than uint8 can tell apart


@dataclass(frozen=True)
class Erased:
    """A box in pixels of the finished view, and a seed of 32 bits for its noise."""

    box: Box
    seed: int


def draw(size: int, rng: np.random.Generator) -> Erased | None:
    """A box for views of size × size, smaller than these; ``None`` if none fits (a view of a few pixels)."""
    for _ in range(_TRIES):
        area = rng.uniform(*AREA) * size * size
        aspect = math.exp(rng.uniform(math.log(MIN_ASPECT), -math.log(MIN_ASPECT)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < height < size and 0 < width < size:
            top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
            return Erased(Box(int(top), int(left), height, width), int(rng.integers(2**32)))
    return None


def noise(erased: Erased, frames: int) -> np.ndarray:
    """What fills the box: uint8 (frames, height, width, 3), RGB.

    Value *i* (in C order) of channel *c* is ``noise_levels()[c, h >> 20]``, where *h* is the 32-bit mix ``lowbias32``
    (https://github.com/skeeto/hash-prospector) of seed and *i*.
    """
    shape = (frames, erased.box.height, erased.box.width, 3)
    word = np.arange(math.prod(shape), dtype=np.uint32)
    word *= np.uint32(0x9E3779B9)  # odd, so that no two places share a word; the golden ratio spreads them
    word += np.uint32(erased.seed)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word ^= word >> np.uint32(shift)
        word *= np.uint32(factor)
    level = ((word ^ (word >> np.uint32(16))) >> np.uint32(32 - _LEVEL_BITS)).reshape(shape)
    return noise_levels()[np.arange(3), level]


@cache
def noise_levels() -> np.ndarray:
    """Quantiles of the noise for each colour channel, ascending: uint8 (3, 4096)."""
    count = 2**_LEVEL_BITS
    normal = np.array([NormalDist().inv_cdf((number + 0.5) / count) for number in range(count)])
    levels = 255 * (np.array(PIXEL_MEAN)[:, None] + np.array(PIXEL_STD)[:, None] * normal)
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)
