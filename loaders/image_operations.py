"""RandAugment's operations on uint8 frames, with OpenCV: what ``loaders.randaugment`` draws becomes pixels.

Each does what Pillow's does in timm, up to rounding; ``tests/loaders/test_image_operations.py`` states by how much the
two may differ. Statistics (of autocontrast, equalize and contrast) are those of each frame alone, as there.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from loaders.augment import Box
from loaders.image_geometry import geometric
from loaders.randaugment import Operation

_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # Pillow's ImageFilter.SMOOTH
_TRUNCATE = -0.49  # added before OpenCV rounds: Pillow truncates blended values
_VALUES = np.arange(256)

Change = Callable[[np.ndarray], np.ndarray]


class Augmenter:
    """The operations of a view, prepared for frames of one size; call it with each.

    ``wanted`` is the part of the frame that the view takes after them, by default all of it. No more is worked out than
    that needs.
    """

    def __init__(self, operations: Sequence[Operation], height: int, width: int, wanted: Box | None = None) -> None:
        self._needed = wanted or Box(0, 0, height, width)
        self._changes: list[Change] = []
        for operation in reversed(operations):
            self._needed, change = _change(operation, height, width, self._needed)
            self._changes.insert(0, change)

    def __call__(self, frame_HW3: np.ndarray) -> np.ndarray:
        """The wanted part of a frame after all operations, uint8 (H, W, 3); the given frame is not written to."""
        part = frame_HW3[self._needed.slices]
        for change in self._changes:
            part = change(part)
        return part


def _change(operation: Operation, height: int, width: int, wanted: Box) -> tuple[Box, Change]:
    """The part of the frame that an operation needs for the wanted part of its result, and what makes that of it."""
    value, whole = operation.value, Box(0, 0, height, width)
    match operation.name:
        case "autocontrast":
            return whole, lambda frame: cv2.LUT(_part(frame, wanted), _autocontrast(frame))
        case "equalize":
            return whole, lambda frame: cv2.LUT(_part(frame, wanted), _equalize(frame))
        case "contrast":
            return whole, lambda frame: cv2.LUT(_part(frame, wanted), _contrast(frame, value))
        case "invert":
            return wanted, _table(255 - _VALUES)
        case "posterize":
            return wanted, _table(_VALUES & (255 << (8 - int(value))))
        case "solarize":
            return wanted, _table(np.where(value > _VALUES, _VALUES, 255 - _VALUES))
        case "solarize_add":
            return wanted, _table(np.where(_VALUES < 128, np.minimum(_VALUES + value, 255), _VALUES))
        case "brightness":
            return wanted, _table(_blend(0, value))
        case "color":
            return wanted, lambda frame: _color(frame, value)
        case "sharpness":
            return _sharpness(value, height, width, wanted)
        case _:
            return geometric(operation, height, width, wanted)


def _part(frame: np.ndarray, box: Box) -> np.ndarray:
    return np.ascontiguousarray(frame[box.slices])


def _table(values: np.ndarray) -> Change:
    table = values.astype(np.uint8)
    return lambda frame: cv2.LUT(np.ascontiguousarray(frame), table)


def _blend(grey: int, factor: float) -> np.ndarray:
    """Values as Pillow blends them with a grey: 1 is the value itself, 0 the grey, beyond 1 away from it."""
    return np.clip(grey + np.float32(factor) * (_VALUES - grey).astype(np.float32), 0, 255)


def _autocontrast(frame: np.ndarray) -> np.ndarray:
    """The table of a frame, uint8 (1, 256, 3)."""
    table = np.empty((256, 3), np.uint8)
    for channel, pixels in enumerate(cv2.split(frame)):
        low, high = cv2.minMaxLoc(pixels)[:2]
        scale = 255 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        table[:, channel] = np.clip((_VALUES * scale + offset).astype(int), 0, 255)
    return table[None]


def _equalize(frame: np.ndarray) -> np.ndarray:
    """The table of a frame, uint8 (1, 256, 3)."""
    table = np.empty((256, 3), np.uint8)
    for channel, pixels in enumerate(cv2.split(frame)):
        counts = cv2.calcHist([pixels], [0], None, [256], [0, 256]).ravel().astype(int)
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        below = np.cumsum(counts) - counts
        table[:, channel] = np.minimum((step // 2 + below) // step, 255) if step else _VALUES
    return table[None]


def _color(frame: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(frame, factor, grey, 1 - factor, _TRUNCATE)


def _contrast(frame: np.ndarray, factor: float) -> np.ndarray:
    """The table of a frame, uint8 (256,)."""
    grey = int(cv2.mean(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return _blend(grey, factor).astype(np.uint8)


def _sharpness(factor: float, height: int, width: int, wanted: Box) -> tuple[Box, Change]:
    kernel = _SMOOTH * np.float32(1 - factor)
    kernel[1, 1] += factor
    top, left = max(wanted.top - 1, 0), max(wanted.left - 1, 0)
    bottom, right = min(wanted.top + wanted.height + 1, height), min(wanted.left + wanted.width + 1, width)
    within = Box(wanted.top - top, wanted.left - left, wanted.height, wanted.width)
    # Pillow's filter leaves the border of the frame as it is.
    rows = [row for row in (0, height - 1) if wanted.top <= row < wanted.top + wanted.height]
    columns = [column for column in (0, width - 1) if wanted.left <= column < wanted.left + wanted.width]

    def sharpen(frame: np.ndarray) -> np.ndarray:
        filtered = cv2.filter2D(
            np.ascontiguousarray(frame), -1, kernel, delta=_TRUNCATE, borderType=cv2.BORDER_REPLICATE
        )
        sharpened, before = filtered[within.slices], frame[within.slices]
        for row in rows:
            sharpened[row - wanted.top] = before[row - wanted.top]
        for column in columns:
            sharpened[:, column - wanted.left] = before[:, column - wanted.left]
        return sharpened

    return Box(top, left, bottom - top, right - left), sharpen
