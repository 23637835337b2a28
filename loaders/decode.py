"""Decoding just the wanted frames of a clip on a CPU, with PyAV, identical to decoding everything."""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from loaders.augment import Box
from loaders.packets import DecodeError, demuxed, opened, packet_stream
from loaders.pictures import Converter
from warehouse.catalog.sample import Sample

__all__ = ["DecodeError", "Picture", "decode_frames", "decode_pictures"]

# Decoding some frames in a row, then converting them, leaves either's code and tables in the processor's caches: a view
# takes 4 % less than frame by frame. With 16 frames the pictures themselves have no room there.
_IN_A_ROW = 4


class Picture:
    """A decoded frame, turned into RGB as far as it is asked for."""

    def __init__(self, frame: av.VideoFrame, converter: Converter) -> None:
        self._frame, self._converter = frame, converter
        self._whole: np.ndarray | None = None

    def whole(self) -> np.ndarray:
        """uint8 (height, width, 3) of the sample's stored size."""
        if self._whole is None:
            self._whole = self._converter.whole(self._frame)
        return self._whole

    def crop(self, box: Box) -> np.ndarray:
        """The box of ``whole``, uint8 (box.height, box.width, 3); costs less if that was not asked for before."""
        return self._converter.crop(self._frame, box) if self._whole is None else self._whole[box.slices]


def decode_frames(sample: Sample, data: bytes, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """``decode_pictures``, each in RGB, uint8 (height, width, 3) of the sample's stored size."""
    for index, picture in decode_pictures(sample, data, wanted):
        yield index, picture.whole()


def decode_pictures(sample: Sample, data: bytes, wanted: Collection[int]) -> Iterator[tuple[int, Picture]]:
    """The wanted frames as (index in presentation order, picture).

    A few frames are held at a time. Frames come in presentation order, except that those which only decoding from the
    first packet shows (streams refreshed gradually behind a keyframe mark) come last.

    Raises:
        DecodeError: FFmpeg refuses the bytes, or a wanted frame is not among the decoded ones.
    """
    converter = Converter(sample.height, sample.width)
    missing = set(wanted)
    for decoding in (_decode_needed, _decode_all):
        found = decoding(sample, data, frozenset(missing))
        while few := list(islice(found, _IN_A_ROW)):
            missing.difference_update(index for index, _ in few)
            yield from ((index, Picture(frame, converter)) for index, frame in few)
        if not missing:
            return
    raise DecodeError(sample, f"frames {sorted(missing)} did not come out; the catalog has {sample.frames} frames")


def _decode_needed(sample: Sample, data: bytes, wanted: frozenset[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    with packet_stream(sample, data) as stream:
        if stream is None or max(wanted) >= sample.frames:
            return
        index_at = {stream.index.time(index): index for index in wanted}
        for frame in _frames(stream.decoder, map(stream.packet, stream.index.needed(wanted))):
            index = None if frame.pts is None else index_at.pop(frame.pts, None)
            if index is not None:
                yield index, frame


def _decode_all(sample: Sample, data: bytes, wanted: frozenset[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    with opened(sample, data) as (container, stream):
        last = max(wanted)
        for index, frame in enumerate(_frames(stream.codec_context, demuxed(container, stream))):
            if index in wanted:
                yield index, frame
            if index == last:
                return


def _frames(decoder: VideoCodecContext, packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
    for packet in packets:
        yield from decoder.decode(packet)
    yield from decoder.decode(None)
