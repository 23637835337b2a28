"""RandAugment's geometric operations on uint8 frames: bicubic, and only where their result is wanted.

As in Pillow, what comes from outside the frame is grey, and up to the frame's very edge the pixels at it are repeated.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from loaders.augment import Box
from loaders.randaugment import Operation

FILL = 128  # grey of what comes from outside the frame (timm)
_SHARPNESS = -0.75  # of the bicubic kernel in OpenCV and torch; Pillow transforms with -1
_REACH = 3  # pixels that bicubic interpolation reaches beyond a place, and one for rounding


def inverse_affine(operation: Operation, height: int, width: int) -> np.ndarray:
    """Where a geometric operation takes its pixels: float64 (2, 3), place (x, y) in the output → place in the frame.

    The centre of the first pixel is (0.5, 0.5), as Pillow and DALI count.

    Raises:
        KeyError: the operation is not geometric.
    """
    value = operation.value
    cosine, sine = math.cos(math.radians(value)), math.sin(math.radians(value))
    linear = np.array({
        "rotate": [[cosine, -sine], [sine, cosine]],
        "shear_x": [[1, value], [0, 1]],
        "shear_y": [[1, 0], [value, 1]],
        "translate_x": [[1, 0], [0, 1]],
        "translate_y": [[1, 0], [0, 1]],
    }[operation.name], np.float64)  # fmt: skip
    shift = np.zeros(2)
    if operation.name == "rotate":
        centre = np.array([width / 2, height / 2])
        shift = centre - linear @ centre
    elif operation.name == "translate_x":
        shift[0] = value * width
    elif operation.name == "translate_y":
        shift[1] = value * height
    return np.column_stack([linear, shift])


def geometric(
    operation: Operation, height: int, width: int, wanted: Box
) -> tuple[Box, Callable[[np.ndarray], np.ndarray]]:
    """The part of a frame that an operation needs for the wanted part of its result, and what makes that of it."""
    inverse = inverse_affine(operation, height, width)
    if operation.name == "translate_x":
        return _translation(inverse[0, 2], height, width, wanted)
    if operation.name == "translate_y":
        needed, moved = _translation(inverse[1, 2], width, height, _transposed(wanted))
        return _transposed(needed), lambda frame: moved(frame.transpose(1, 0, 2)).transpose(1, 0, 2)
    return _warp(inverse, height, width, wanted)


def _transposed(box: Box) -> Box:
    return Box(box.left, box.top, box.width, box.height)


def _translation(shift: float, height: int, width: int, wanted: Box) -> tuple[Box, Callable[[np.ndarray], np.ndarray]]:
    """Along rows: all pixels lie at one fraction between two others, so one filter of four does."""
    whole = math.floor(shift)
    part = shift - whole
    kernel = np.array([[_weight(1 + part), _weight(part), _weight(1 - part), _weight(2 - part)]], np.float32)
    # Of the wanted columns, those whose place lies in the frame.
    first = max(wanted.left, math.ceil(-shift - 0.5))
    last = min(wanted.left + wanted.width, math.ceil(width - shift - 0.5))
    left, right = max(first + whole - 1, 0), min(last + whole + 2, width)
    if first >= last:  # nothing of the frame is left: any pixel of it stands for what is not looked at
        left, right = 0, 1
    needed = Box(wanted.top, left, wanted.height, right - left)
    # A place in the outer half of the frame's first pixel lies between it and one before, which repeats it.
    before = max(-(first + whole), 0)
    start = first + whole - left + before

    def move(frame: np.ndarray) -> np.ndarray:
        moved = np.full((wanted.height, wanted.width, 3), FILL, np.uint8)
        if first < last:
            padded = cv2.copyMakeBorder(frame, 0, 0, before, 0, cv2.BORDER_REPLICATE)
            filtered = cv2.filter2D(padded, -1, kernel, anchor=(1, 0), borderType=cv2.BORDER_REPLICATE)
            moved[:, first - wanted.left : last - wanted.left] = filtered[:, start : start + last - first]
        return moved

    return needed, move


def _weight(distance: float) -> float:
    """The bicubic kernel at a distance of 0 to 2 pixels (Keys, 1981)."""
    a, x = _SHARPNESS, distance
    return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * (x**3 - 5 * x**2 + 8 * x - 4)


def _warp(inverse: np.ndarray, height: int, width: int, wanted: Box) -> tuple[Box, Callable[[np.ndarray], np.ndarray]]:
    x = np.arange(wanted.left, wanted.left + wanted.width) + 0.5
    y = np.arange(wanted.top, wanted.top + wanted.height)[:, None] + 0.5
    from_x, from_y = (a * x + (b * y + c) for a, b, c in inverse)
    outside = (from_x < 0) | (from_x >= width) | (from_y < 0) | (from_y >= height)
    mask, fill = outside.astype(np.uint8), np.full((*outside.shape, 3), FILL, np.uint8)
    left, right = _extent(from_x, width)
    top, bottom = _extent(from_y, height)
    needed = Box(top, left, bottom - top, right - left)
    # OpenCV's centres have whole coordinates, and its places are relative to the parts.
    linear, shift = inverse[:, :2], inverse[:, 2]
    shift = linear @ (wanted.left + 0.5, wanted.top + 0.5) + shift - (left + 0.5, top + 0.5)
    relative = np.column_stack([linear, shift])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP

    def warp(frame: np.ndarray) -> np.ndarray:
        size = (wanted.width, wanted.height)
        warped = cv2.warpAffine(frame, relative, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return cv2.copyTo(fill, mask, warped)

    return needed, warp


def _extent(places: np.ndarray, size: int) -> tuple[int, int]:
    """First and end of the pixels needed for these places along an axis, at least one."""
    first = min(max(math.floor(places.min()) - _REACH, 0), size - 1)
    return first, max(min(math.ceil(places.max()) + _REACH, size), first + 1)
