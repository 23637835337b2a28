"""Where a picture lies within another: in a corner of a screen, or between bars that are no black but a blurred copy.

The edges of such a picture are straight, in line with the frame, and stay where they are while the picture moves. So
steps between neighbouring lines of pixels, taken over the whole clip, are high along all of an edge; within a moving
picture they are smeared.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

Part = tuple[float, float, float, float]
"""Top, left, bottom and right of a part of a picture, as shares of its sides."""

_FRAMES = 12
# In a smaller picture no edge is told from texture. Frames are so small only of small videos,
# or without wide black bars.
_SIDE_LEAST = 96
# A step this much higher than those two lines away is an edge (quarters of a grey level).
_STEP = 8
# An edge is at least this share of the frame's side, as a picture must be; and one that takes nearly all is no inset.
_LEAST, _MOST = 0.3, 0.96
# Of the edges' length so much must show, and of each alone: where both pictures have one colour there is no step.
# With these, insets were found in 38 of 40 clips that have one (33 of them exactly), and in 5 % of those that have none
# (tuning clips of ``benchmarks.duplicates``). Too many only take time: an inset alone makes no copy.
_SHOWN, _SHOWN_LEAST = 0.6, 0.35
# Straight edges that are looked at in either direction, the best first.
_EDGES = 8
# What lies inside must move: mean difference of successive frames looked at (grey levels).
_MOTION = 0.3


def part_of(whole: Part, part: Part) -> Part:
    """A part of a part, as shares of what ``whole`` is a part of."""
    top, left, bottom, right = whole
    height, width = bottom - top, right - left
    return top + part[0] * height, left + part[1] * width, top + part[2] * height, left + part[3] * width


def inset(grey: Sequence[np.ndarray]) -> Part | None:
    """The part of the frame that holds a picture of its own; ``None`` if there is none.

    Args:
        grey: uint8 (height, width) for each frame.
    """
    looked_at = grey[:: -(-len(grey) // _FRAMES)]
    if len(looked_at) < 3 or min(grey[0].shape) < _SIDE_LEAST:
        return None
    down, across = _steps(looked_at)
    found = _rectangle(_edges(down), _edges(across))
    if found is None:
        return None
    top, left, bottom, right = found
    inside = [picture[top:bottom, left:right] for picture in looked_at]
    motion = [cv2.norm(a, b, cv2.NORM_L1) / a.size for a, b in pairwise(inside)]
    if sum(motion) < _MOTION * len(motion):
        return None
    height, width = grey[0].shape
    return (
        _exactly(top, down[:, left:right]) / height, _exactly(left, across[:, top:bottom]) / width,
        _exactly(bottom, down[:, left:right]) / height, _exactly(right, across[:, top:bottom]) / width,
    )  # fmt: skip


def _steps(grey: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over time of the steps between rows, (height - 1, width), and between columns, (width - 1, height).

    In quarters of a grey level, uint8; 63 levels are enough to tell.
    """
    height, width = grey[0].shape
    down, across = np.zeros((height - 1, width), np.float32), np.zeros((height, width - 1), np.float32)
    for picture in grey:
        cv2.accumulate(cv2.absdiff(picture[1:], picture[:-1]), down)
        cv2.accumulate(cv2.absdiff(picture[:, 1:], picture[:, :-1]), across)
    quarters = 4 / len(grey)
    return cv2.convertScaleAbs(down, alpha=quarters), cv2.convertScaleAbs(cv2.transpose(across), alpha=quarters)


def _edges(steps: np.ndarray) -> np.ndarray:
    """How much of an edge there is before each line and after the last, uint8 0 to ``_STEP``, (lines + 1, length)."""
    padded = cv2.copyMakeBorder(steps, 3, 3, 0, 0, cv2.BORDER_CONSTANT, value=0)
    return np.minimum(cv2.subtract(padded[2:-2], cv2.max(padded[:-4], padded[4:])), np.uint8(_STEP))


def _rectangle(of_rows: np.ndarray, of_columns: np.ndarray) -> tuple[int, int, int, int] | None:
    """Top, left, bottom and right of the rectangle whose edges show best; sides of the frame cost and tell nothing."""
    height, width = len(of_rows) - 1, len(of_columns) - 1
    # Sums along each line from its start.
    along_rows, along_columns = (np.diff(cv2.integral(edges), axis=0) / _STEP for edges in (of_rows, of_columns))
    top, bottom = _pairs(along_rows)
    left, right = _pairs(along_columns)
    if len(top) == len(left) == 1:  # the frame itself
        return None
    tall, wide = (bottom - top)[:, None], (right - left)[None]
    sides = [
        (along_rows[line[:, None], right[None]] - along_rows[line[:, None], left[None]], wide,
         ((line > 0) & (line < height))[:, None])
        for line in (top, bottom)
    ] + [
        (along_columns[line[None], bottom[:, None]] - along_columns[line[None], top[:, None]], tall,
         ((line > 0) & (line < width))[None])
        for line in (left, right)
    ]  # fmt: skip
    holds = tall * wide <= _MOST * height * width
    shown_in_all, length_in_all = np.zeros((2, *holds.shape))
    inner = np.zeros(holds.shape, int)
    for shown, length, within in sides:
        holds &= ~within | (shown >= _SHOWN_LEAST * length)
        shown_in_all += within * shown
        length_in_all += within * length
        inner += within
    holds &= (inner >= 2) & (shown_in_all >= _SHOWN * length_in_all)
    if not holds.any():
        return None
    score = np.where(holds, shown_in_all - _SHOWN_LEAST * length_in_all, -np.inf)
    row, column = np.unravel_index(score.argmax(), score.shape)
    return int(top[row]), int(left[column]), int(bottom[row]), int(right[column])


def _pairs(along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of lines that may bound a picture: of the best edges, and of the frame's own; first and last, (n,)."""
    lines, length = len(along) - 1, along.shape[1] - 1
    stretch = round(_LEAST * length)
    best = (along[:, stretch:] - along[:, :-stretch]).max(axis=1)
    # The outermost lines of many videos are damaged.
    shown = 2 + np.flatnonzero(best[2:-2] >= _SHOWN * stretch)
    chosen: list[int] = []
    for line in shown[np.argsort(-best[shown], kind="stable")].tolist():
        if all(abs(line - other) > 2 for other in chosen):
            chosen.append(line)
    ascending = np.sort([0, *chosen[:_EDGES], lines])
    first, last = ascending[:, None], ascending[None]
    first, last = np.nonzero(last - first >= _LEAST * lines)
    return ascending[first], ascending[last]


def _exactly(line: int, steps: np.ndarray) -> float:
    """Where between the lines an edge lies that was made smaller with its picture, so that one line is a mixture."""
    lines = len(steps) + 1
    if line in (0, lines):
        return line
    mean = np.pad(steps.mean(axis=1), 3)[line : line + 5]
    excess = np.maximum(mean[1:4] - max(mean[0], mean[4]), 0)
    return line + float(excess @ [-1, 0, 1] / excess.sum()) if excess.any() else line
