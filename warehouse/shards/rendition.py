"""Renditions: named contracts for the encoded bytes that shards hold.

A contract says what a reader may count on in every clip. Clips are encoded to it (:mod:`warehouse.shards.encoding`) or,
where a source's file meets it already, stored untouched; either way the bytes that are stored are probed against it
(:mod:`warehouse.shards.conformance`). ``original`` promises just the source's bytes.
"""

from dataclasses import dataclass

ORIGINAL = "original"
VERSION = 3
"""Part of what a shard was made from: raise it when the same input would give other bytes."""
MOST_BETWEEN = 16
"""Disposable frames that x264 puts between two others at most."""


@dataclass(frozen=True)
class Contract:
    """What every clip of a rendition is: MP4 with one video stream, upright, at a constant frame rate.

    Attributes:
        codec: FFmpeg's name of the codec.
        short_side: the largest short side, in pixels. Clips are never enlarged.
        strided: whether only the frames 0, s, 2s, … of a source with stride s are there, ceil(n / s) of n; else all.
        gop: most frames from one key frame to the next. Groups are closed (nothing refers across a key frame), and as
            long as the largest multiple of the stride up to this; a longer stride is a group of its own.
        disposable: whether no frame refers to one between two that the stride wants, so that it need not be decoded
            (but for the last of a group, which has no later one to be predicted from).
        pixel_format: FFmpeg's name. Matrix BT.601, which is what DALI converts with whatever a stream says.
        full_range: black at 0 and white at 255, as JPEG has it; else 16 to 235.
    """

    codec: str
    short_side: int
    strided: bool
    gop: int
    disposable: bool
    pixel_format: str
    full_range: bool

    def gop_length(self, stride: int) -> int:
        """Frames of a group of pictures of a source with this stride."""
        step = self.stored_stride(stride)
        return max(step, self.gop // step * step)

    def stored_stride(self, stride: int) -> int:
        """Stored frames from one sampled frame to the next."""
        return 1 if self.strided else stride

    def reference_step(self, stride: int) -> int:
        """Frames from one that others may refer to to the next: the stride, or if that is long a part of it."""
        step = self.stored_stride(stride) if self.disposable else 1
        return max(part for part in range(1, MOST_BETWEEN + 2) if step % part == 0)

    def stored_frames(self, frames: int, stride: int) -> int:
        """Frames stored of a clip with so many."""
        return -(-frames // stride) if self.strided else frames


CONTRACTS = {
    "np256": Contract("h264", 256, False, 32, True, "yuv420p", False),
    "strided": Contract("h264", 256, True, 8, False, "yuv420p", False),
    "mjpeg-strided": Contract("mjpeg", 256, True, 1, False, "yuvj420p", True),
}
"""``np256``: every frame, at about half the decoding of ordinary H.264 for a strided view. ``strided``: the frames of
the stride alone, for data that is never sampled otherwise. ``mjpeg-strided``: these, each decoded alone, which takes
the least time, and the only one that DALI decodes without a GPU. Measured in docs/renditions.md."""

RENDITIONS = (*CONTRACTS, ORIGINAL)
SIDE_MULTIPLE = 2
"""Sides are even: 4:2:0 has a sample of colour for two by two pixels, and NVDEC writes even sizes alone."""
SCALED_MULTIPLE = 16
"""Where a picture is scaled anyway its sides become multiples of a macroblock. H.264 codes whole macroblocks and crops:
340 is stored as 352, and DALI's decoder cache, which compares the two, seems to miss on such sizes. The picture is
stretched by at most 8 pixels in 256 or more (3 %). One that keeps its size is not resampled for this."""


def stored_stride(rendition: str, stride: int) -> int:
    """Stored frames from one sampled frame to the next, for a source with this stride: 1 if the others are left out."""
    return stride if rendition == ORIGINAL else CONTRACTS[rendition].stored_stride(stride)


def fit_sides(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The size of a picture with the short side at most ``short_side``, never enlarged; sides as explained above."""
    scale = short_side / min(width, height)
    if scale >= 1:
        return tuple(max(2, SIDE_MULTIPLE * round(side / SIDE_MULTIPLE)) for side in (width, height))  # type: ignore
    return tuple(SCALED_MULTIPLE * round(side * scale / SCALED_MULTIPLE) for side in (width, height))  # type: ignore
