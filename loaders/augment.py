"""Spatial augmentation: boxes are drawn here, and applied by whoever holds the pixels (cv2 on a CPU, DALI on a GPU).

A box lies in the stored frame, and what it holds is resized to S×S. Sections named are of the VideoMAE V2 facts.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

SCALES = (1.0, 0.875, 0.75, 0.66)  # of the short side (VideoMAE V2, §3.4)
MAX_DISTORT = 1  # height and width of a crop are at most one step of SCALES apart (§3.4)
# Places of a crop in whole quarters of the free room, (down, right): corners, centre, edges, between them (§3.4: 13).
PLACES = tuple((y, x) for y in range(5) for x in range(5) if (y % 2 == x % 2))
AREA = (0.08, 1.0)  # of the frame (§3.4, RandomResizedCrop)
RATIO = (3 / 4, 4 / 3)  # width to height (§3.4)
SHRINKS = 1.25  # from this factor on, pixels are averaged (ours: bilinear starts to skip some, and costs a fifth)
_TRIES = 10  # draws of an area and ratio before the largest box that fits is taken


@dataclass(frozen=True)
class Box:
    """A rectangle of a frame in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def multi_scale(height: int, width: int, rng: np.random.Generator) -> Box:
    """Pre-training's crop: a height and a width out of ``SCALES`` of the short side, at one of 13 fixed places."""
    sides = [max(int(min(height, width) * scale), 1) for scale in SCALES]
    sizes = [(t, w) for i, t in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= MAX_DISTORT]
    tall, wide = sizes[rng.integers(len(sizes))]
    down, right = PLACES[rng.integers(len(PLACES))]
    return Box(down * ((height - tall) // 4), right * ((width - wide) // 4), tall, wide)


def random_resized(height: int, width: int, rng: np.random.Generator) -> Box:
    """Fine-tuning's crop: an area uniform in ``AREA``, a ratio log-uniform in ``RATIO``, anywhere it fits."""
    for _ in range(_TRIES):
        area = rng.uniform(*AREA) * height * width
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
            return Box(int(top), int(left), tall, wide)
    wide, tall = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return Box((height - tall) // 2, (width - wide) // 2, tall, wide)


def square(height: int, width: int, place: int, places: int) -> Box:
    """Testing: the ``place``-th of ``places`` squares on the short side, evenly along the long one; one is central."""
    short, spare = min(height, width), abs(height - width)
    offset = spare // 2 if places == 1 else place * spare // (places - 1)
    return Box(offset, 0, short, short) if height > width else Box(0, offset, short, short)


def crop_resize(frame: np.ndarray, box: Box, size: int, flip: bool) -> np.ndarray:
    """The box of a frame, uint8 (H, W, 3) → (size, size, 3), as ``resize_into`` does it."""
    pixels_SS3 = np.empty((size, size, 3), np.uint8)
    resize_into(frame[box.slices], flip, pixels_SS3)
    return pixels_SS3


def resize_into(crop: np.ndarray, flip: bool, pixels_SS3: np.ndarray) -> None:
    """Write a crop, uint8 (H, W, 3), into contiguous pixels (S, S, 3), mirrored left to right if ``flip``.

    Bilinear, but averages over pixels where both sides shrink by ``SHRINKS`` or more (against aliasing).
    """
    assert pixels_SS3.flags.c_contiguous  # into anything else OpenCV would write nothing, without a word
    size = len(pixels_SS3)
    shrinks = min(crop.shape[:2]) >= SHRINKS * size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if flip:
        cv2.flip(cv2.resize(crop, (size, size), interpolation=how), 1, dst=pixels_SS3)
    else:
        cv2.resize(crop, (size, size), dst=pixels_SS3, interpolation=how)
