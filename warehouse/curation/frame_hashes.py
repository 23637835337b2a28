"""Perceptual hashes of frames: 256 bits that survive re-encoding, resizing and grey.

The hash is the sign pattern of the low frequencies of a frame's discrete cosine transform against their median
(the construction of pHash and PDQ): the frame averaged to 64×64 grey levels, of its DCT the rows and columns 1 to 16,
a bit for each of these 256 coefficients. Aspect is given up: a resized copy is a copy. Adding or scaling brightness
changes no bit.

Some variants of a frame are hashed, so that added bars and crops can be found without another decode:

- ``full``: the frame as it is;
- ``trimmed``: without the black bars, only in clips that have bars (judged on frames from all of the clip);
- ``inset``: the picture within the picture, only in clips that have one (:mod:`warehouse.curation.insets`);
- ``centre`` and ``centre_90``: the middle 80 and 90 % of each side of the trimmed frame if there is one, else of the
  full frame: what a crop of a tenth, or a twentieth, at each edge leaves. Only the searching side uses them.

A mirrored frame needs no variant: flipping negates the odd horizontal frequencies, which the search does to the bits
(:mod:`warehouse.curation.hash_bits`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange

from warehouse.curation.insets import Part, inset, part_of
from warehouse.video import quarter_turns

GRID_MS = 125
"""Frames are hashed on a grid of this step: eight a second, whatever the frame rate."""

FRAMES_AT_MOST = 480
"""Frames hashed of one clip (its first minute)."""

_SIDE = 64
_BITS = 16
# Frames are halved (four pixels become their mean, which is fast) while their shorter side stays at least this long: a
# bar's edge is known to a percent, and averaging what is left to 64 × 64 gives what averaging the frame would have.
_LEAST_SIDE = 96
# Studio black is 16; compression adds a little.
_BLACK_MEAN, _BLACK_MAX = 24, 48
# A bar thinner than this is an edge; what is left of the picture must be at least this share of each side.
_BAR_LEAST, _PICTURE_LEAST = 0.02, 0.3
# Bars are looked for on this many frames of a clip, evenly spread (or half as many).
_BAR_FRAMES = 16
# Frames that are transformed together. One array of all would be so large that its memory is asked of the system and
# given back for each clip, which took longer than the arithmetic.
_AT_ONCE = 8
# These variants leave this share of each side out at each of its ends.
_CENTRES = {"centre": 0.1, "centre_90": 0.05}
# 8-bit formats whose first plane is brightness: no conversion needed.
_LUMA_FIRST = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray", "yuva420p")

_frequency, _position = np.arange(1, _BITS + 1)[:, None], np.arange(_SIDE)[None, :]
_DCT = np.cos(np.pi * _frequency * (2 * _position + 1) / (2 * _SIDE))
_INTEGRAL = np.cumsum(_DCT, axis=1) - _DCT

Area = tuple[slice, slice]
"""Rows and columns of a picture."""


@dataclass(frozen=True)
class Thumbnail:
    """A sampled frame: ``t_ms`` since the first frame and its grey levels, uint8 (height, width), made small.

    ``full_range``: black is 0 and white 255; else 16 and 235.
    """

    t_ms: int
    grey: np.ndarray
    full_range: bool = False


def thumbnail(frame: av.VideoFrame, t_ms: int) -> Thumbnail:
    """Shrink a decoded frame to what hashing needs, upright."""
    full_range = frame.color_range == ColorRange.JPEG
    if frame.format.name in _LUMA_FIRST:
        plane = frame.planes[0]
        grey: np.ndarray = np.frombuffer(memoryview(plane), np.uint8)
        grey = grey.reshape(-1, plane.line_size)[: frame.height, : frame.width]
    else:
        grey, full_range = frame.to_ndarray(format="gray"), True
    owned = False
    while min(grey.shape) >= 2 * _LEAST_SIDE:
        grey, owned = _halved(grey), True
    turns = quarter_turns(frame)
    if turns:
        grey = np.rot90(grey, turns).copy()
    elif not owned:  # it lies in the decoder's buffer, which is used again
        grey = grey.copy()
    return Thumbnail(t_ms, grey, full_range)


def examine(frames: list[Thumbnail]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """What a clip's sampled frames (at least one) tell.

    Returns:
        Rows of ``frame_hashes`` (without ``clip_id`` and ``source``), and what filters ask for, by column of ``media``:
        ``motion``, ``brightness`` and ``picture_share``, each from 0 to 1.
    """
    grey = _pictures(frames)
    area = picture_area(grey)
    return _hashes(grey, area, [frame.t_ms for frame in frames]), _facts(grey, area, frames[0].full_range)


def _hashes(grey: Sequence[np.ndarray], trimmed: Area | None, times: list[int]) -> list[dict[str, Any]]:
    height, width = grey[0].shape
    whole = (0.0, 0.0, 1.0, 1.0)
    areas = {"full": whole}
    if trimmed is not None:
        rows, columns = trimmed
        areas["trimmed"] = rows.start / height, columns.start / width, rows.stop / height, columns.stop / width
    picture = areas.get("trimmed", whole)
    within = inset(grey if trimmed is None else [frame[trimmed] for frame in grey])
    if within is not None:
        areas["inset"] = part_of(picture, within)
    areas |= {name: part_of(picture, (m, m, 1 - m, 1 - m)) for name, m in _CENTRES.items()}
    if min(height, width) >= 2 * _SIDE:  # finer than hashing needs
        grey = [_halved(picture) for picture in grey]
    found = _coefficients(grey, list(areas.values()))
    return [
        row
        for number, name in enumerate(areas)
        for row in _rows(times, name, found[:, number])
    ]


def _facts(grey: Sequence[np.ndarray], area: Area | None, full_range: bool) -> dict[str, float]:
    black, white = (0, 255) if full_range else (16, 235)
    pixels, levels = grey[0].size, white - black
    differences = [cv2.norm(a, b, cv2.NORM_L1) / pixels for a, b in pairwise(grey)]
    brightness = sum(cv2.mean(picture)[0] for picture in grey) / len(grey)
    return {
        "motion": min(1.0, sum(differences) / len(differences) / levels) if differences else 0.0,
        "brightness": min(1.0, max(0.0, (brightness - black) / levels)),
        "picture_share": 1.0 if area is None else grey[0][area].size / pixels,
    }


def _halved(grey: np.ndarray) -> np.ndarray:
    """Each two by two pixels become their mean; an odd last line is left out."""
    height, width = grey.shape[0] // 2, grey.shape[1] // 2
    return cv2.resize(grey[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)


def _pictures(frames: list[Thumbnail]) -> list[np.ndarray]:
    """The frames' grey levels, all in the size of the first (sizes may change inside a stream)."""
    shape = frames[0].grey.shape
    return [
        frame.grey if frame.grey.shape == shape
        else cv2.resize(frame.grey, shape[::-1], interpolation=cv2.INTER_AREA)
        for frame in frames
    ]  # fmt: skip


def picture_area(grey: Sequence[np.ndarray]) -> Area | None:
    """Where the picture is between black bars; ``None`` if there are no bars.

    Args:
        grey: uint8 (height, width) for each frame. A line belongs to a bar if it is black in every frame looked at.
    """
    looked_at = grey[:: -(-len(grey) // _BAR_FRAMES)]
    brightest, mean = looked_at[0].copy(), np.zeros(looked_at[0].shape, np.float32)
    for picture in looked_at:
        np.maximum(brightest, picture, out=brightest)
        cv2.accumulate(picture, mean)
    mean /= len(looked_at)
    area, found = [], False
    for axis in (1, 0):
        lit = (brightest.max(axis=axis) > _BLACK_MAX) | (mean.mean(axis=axis) > _BLACK_MEAN)
        lines, side = np.flatnonzero(lit), len(lit)
        if len(lines) == 0 or lines[-1] + 1 - lines[0] < _PICTURE_LEAST * side:
            return None  # black throughout, or a lit spot rather than a picture between bars
        first, last = int(lines[0]), int(lines[-1]) + 1
        first, last = first if first >= _BAR_LEAST * side else 0, last if side - last >= _BAR_LEAST * side else side
        found |= (first, last) != (0, side)
        # The line at a bar's edge is a mixture of both.
        area.append(slice(first + (first > 0), last - (last < side)))
    return (area[0], area[1]) if found else None


def _coefficients(grey: Sequence[np.ndarray], parts: list[Part]) -> np.ndarray:
    """DCT rows and columns 1 to 16 of each part of each frame, float32 (frames, parts, 16, 16): vertical × horizontal.

    Averaging to 64 × 64 and the transform are both linear: one matrix from the left and one from the right do both.
    """
    height, width = grey[0].shape
    left = [_transform(height, top, bottom) for top, _, bottom, _ in parts]
    right = np.ascontiguousarray(np.concatenate([_transform(width, start, stop) for _, start, _, stop in parts]).T)
    found = np.empty((len(grey), len(parts), _BITS, _BITS), np.float32)
    for start in range(0, len(grey), _AT_ONCE):
        pictures = np.stack(grey[start : start + _AT_ONCE]).astype(np.float32)
        columns = (pictures.reshape(-1, width) @ right).reshape(-1, height, right.shape[1])
        for number, rows in enumerate(left):
            found[start : start + _AT_ONCE, number] = rows @ columns[:, :, _BITS * number : _BITS * (number + 1)]
    return found


@lru_cache(256)
def _transform(side: int, start: float, stop: float) -> np.ndarray:
    """float32 (16, side): averages a part of a side's pixels to 64, and takes the cosine transform of these."""
    # Where the pixels' edges lie among the 64, and the integral of each cosine (a step function) up to there.
    place = np.clip((np.arange(side + 1) / side - start) * (_SIDE / (stop - start)), 0, _SIDE)
    whole = np.minimum(place.astype(np.intp), _SIDE - 1)
    integral = _INTEGRAL[:, whole] + (place - whole) * _DCT[:, whole]
    return np.diff(integral).astype(np.float32)


def _rows(times: list[int], variant: str, coefficients: np.ndarray) -> Iterator[dict[str, Any]]:
    flat = coefficients.reshape(len(times), -1)
    # The standard deviation of a picture of these frequencies alone (Parseval), over that of one half black half white.
    spread = np.sqrt(np.einsum("fc,fc->f", flat, flat)) * (2 / _SIDE**2 / 127.5)
    middle = flat.shape[1] // 2
    # The lower of the two in the middle: what is above it is above the median, which lies between them.
    lower = np.partition(flat, middle - 1)[:, middle - 1, None]
    words = np.packbits(flat > lower, axis=1, bitorder="little").view("<u8").tolist()
    for t_ms, quality, (h0, h1, h2, h3) in zip(times, np.minimum(spread, 1).tolist(), words, strict=True):
        yield {"t_ms": t_ms, "variant": variant, "quality": quality, "h0": h0, "h1": h1, "h2": h2, "h3": h3}
