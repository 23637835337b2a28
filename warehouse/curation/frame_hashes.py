"""Perceptual hashes of frames: 256 bits that survive re-encoding, resizing and grey.

The hash is the sign pattern of the low frequencies of a frame's discrete cosine transform against their median
(the construction of pHash and PDQ): the frame as 64×64 grey levels, of its DCT the rows and columns 1 to 16,
a bit for each of these 256 coefficients. Adding or scaling brightness changes no bit.

Three variants of a frame are hashed, so that cropped-in bars and mirroring can be found without another decode:

- ``full``: the frame as it is;
- ``trimmed``: without the black bars, only in clips that have bars (judged on all sampled frames together);
- ``mirrored``: of the trimmed frame if there is one, else of the full frame, flipped left to right. Flipping negates
  the odd horizontal frequencies, so it costs no second transform. Only the searching side uses it.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

GRID_MS = 250
"""Frames are hashed on a grid of this step: four a second, whatever the frame rate."""

FRAMES_AT_MOST = 240
"""Frames hashed of one clip (its first minute)."""

_SIDE = 64
_BITS = 16
# Frames are kept at three times the hash's side until the clip's bars are known: what is averaged from here is what
# would be averaged from the frame, and a bar's edge is known to half a percent.
_THUMBNAIL = 3 * _SIDE
# Studio black is 16; compression adds a little.
_BLACK_MEAN, _BLACK_MAX = 24, 48
# A bar thinner than this is an edge; what is left of the picture must be at least this share of each side.
_BAR_LEAST, _PICTURE_LEAST = 0.02, 0.3
# 8-bit formats whose first plane is brightness: no conversion needed.
_LUMA_FIRST = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray", "yuva420p")

_frequency, _position = np.arange(1, _BITS + 1)[:, None], np.arange(_SIDE)[None, :]
_DCT = np.cos(np.pi * _frequency * (2 * _position + 1) / (2 * _SIDE)).astype(np.float32)
_FLIP = np.where(np.arange(1, _BITS + 1) % 2 == 1, -1.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class Thumbnail:
    """A sampled frame: ``t_ms`` since the first frame and its grey levels, uint8 (192, 192)."""

    t_ms: int
    grey: np.ndarray


def thumbnail(frame: Any, t_ms: int) -> Thumbnail:
    """Shrink a decoded ``av.VideoFrame`` to what hashing needs. Aspect is given up: a resized copy is a copy."""
    if frame.format.name in _LUMA_FIRST:
        plane = frame.planes[0]
        grey = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    else:
        grey = frame.to_ndarray(format="gray")
    return Thumbnail(t_ms, cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA))


def hash_clip(frames: list[Thumbnail]) -> list[dict[str, Any]]:
    """Rows of ``frame_hashes`` (without ``clip_id`` and ``source``) for a clip's sampled frames."""
    if not frames:
        return []
    picture = picture_area(np.stack([frame.grey for frame in frames]))
    rows = []
    for frame in frames:
        full = _small(frame.grey)
        coefficients = _coefficients(full)
        rows.append(_row(frame.t_ms, "full", full, coefficients))
        if picture is not None:
            trimmed = _small(frame.grey[picture])
            coefficients = _coefficients(trimmed)
            rows.append(_row(frame.t_ms, "trimmed", trimmed, coefficients))
            full = trimmed
        rows.append(_row(frame.t_ms, "mirrored", full, coefficients * _FLIP))
    return rows


def picture_area(grey: np.ndarray) -> tuple[slice, slice] | None:
    """Where the picture is between black bars, rows and columns; ``None`` if there are no bars.

    Args:
        grey: uint8 (frames, height, width). A line belongs to a bar if it is black in every frame.
    """
    brightest, mean = grey.max(axis=0), grey.mean(axis=0, dtype=np.float32)
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


def _small(grey: np.ndarray) -> np.ndarray:
    """float32 (64, 64)."""
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def _coefficients(small: np.ndarray) -> np.ndarray:
    """DCT rows and columns 1 to 16, float32 (16, 16): vertical × horizontal frequency."""
    return _DCT @ small @ _DCT.T


def _row(t_ms: int, variant: str, small: np.ndarray, coefficients: np.ndarray) -> dict[str, Any]:
    flat = coefficients.ravel()
    middle = flat.size // 2
    median = np.partition(flat, [middle - 1, middle])[middle - 1 : middle + 1].mean()
    words = np.packbits(flat > median, bitorder="little").view("<u8")
    quality = min(1.0, float(small.std()) / 127.5)  # 127.5: half black, half white
    return {"t_ms": t_ms, "variant": variant, "quality": quality, **{f"h{i}": int(w) for i, w in enumerate(words)}}
