"""From a decoded frame to RGB: all of it, or just the part that a view takes.

Where a frame's sides are even, swscale converts colours without scaling, and treats every block of 2×2 pixels alike.
So a part that begins at even places, cut out of the planes before, is bit for bit what it is in the whole frame, and
costs less. (Of odd sides it interpolates the chroma.)
"""

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from loaders.augment import Box

_CUT = {"yuv420p", "yuvj420p"}  # planes of 8 bits, chroma of half the sides


class Converter:
    """Turns the frames of one clip into RGB of its stored size; keeps what can be kept from frame to frame."""

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        self._reformatter = VideoReformatter()
        self._cuttings: dict[tuple[str, int, int], _Cutting] = {}

    def whole(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 (height, width, 3)."""
        return self._rgb(frame, self._height, self._width)

    def crop(self, frame: av.VideoFrame, box: Box) -> np.ndarray:
        """The box of ``whole``, uint8 (box.height, box.width, 3)."""
        odd = (self._height | self._width) & 1
        if odd or frame.format.name not in _CUT or (frame.height, frame.width) != (self._height, self._width):
            return self.whole(frame)[box.slices]
        top, left = box.top & ~1, box.left & ~1
        height, width = (box.top + box.height + 1 & ~1) - top, (box.left + box.width + 1 & ~1) - left
        key = (frame.format.name, height, width)
        cutting = self._cuttings.get(key) or self._cuttings.setdefault(key, _Cutting(*key))
        cutting.take(frame, top, left)
        down, right = box.top - top, box.left - left
        return self._rgb(cutting.frame, height, width)[down : down + box.height, right : right + box.width]

    def _rgb(self, frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
        # No threads: they cost more than such frames do.
        return self._reformatter.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()


class _Cutting:
    """A frame that parts of others are copied into, to be converted."""

    def __init__(self, pixel_format: str, height: int, width: int) -> None:
        self.frame = av.VideoFrame(width, height, pixel_format)
        self._planes = [_part(plane, 0, 0, plane.height, plane.width) for plane in self.frame.planes]
        self._colours: tuple[int, int] | None = None

    def take(self, frame: av.VideoFrame, top: int, left: int) -> None:
        """Copy the part that begins there; both numbers are even."""
        colours = frame.colorspace, frame.color_range
        if colours != self._colours:
            self.frame.colorspace, self.frame.color_range = self._colours = colours
        luma, *chroma = self._planes
        plane, *others = frame.planes
        luma[:] = _part(plane, top, left, *luma.shape)
        for target, plane in zip(chroma, others, strict=True):
            target[:] = _part(plane, top // 2, left // 2, *target.shape)


def _part(plane: VideoPlane, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A view of a part of a plane of bytes, uint8 (height, width)."""
    row = plane.line_size
    return np.ndarray((height, width), np.uint8, plane, top * row + left, (row, 1))  # type: ignore[arg-type]
