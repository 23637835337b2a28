"""Decoding just the wanted frames of a clip on a CPU, with PyAV, identical to decoding everything."""

from collections.abc import Collection, Iterator

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from loaders.packets import DecodeError, demuxed, index_packets, opened
from warehouse.catalog.snapshots import Sample

__all__ = ["DecodeError", "decode_frames"]


def decode_frames(sample: Sample, data: bytes, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames as (index in presentation order, RGB uint8 (height, width, 3) of the sample's stored size).

    One frame is held at a time. Frames come in presentation order, except that those which only decoding from the
    first packet shows (streams refreshed gradually behind a keyframe mark) come last.

    Raises:
        DecodeError: FFmpeg refuses the bytes, or a wanted frame is not among the decoded ones.
    """
    missing = set(wanted)
    for decoding in (_decode_needed, _decode_all):
        for index, frame in decoding(sample, data, frozenset(missing)):
            missing.discard(index)
            yield index, frame
        if not missing:
            return
    raise DecodeError(sample, f"frames {sorted(missing)} did not come out; the catalog has {sample.frames} frames")


def _decode_needed(sample: Sample, data: bytes, wanted: frozenset[int]) -> Iterator[tuple[int, np.ndarray]]:
    with opened(sample, data) as (container, stream):
        packets = index_packets(stream, demuxed(container, stream), sample.frames)
        if packets is None or max(wanted) >= sample.frames:
            return
        index_at = {packets.time(index): index for index in wanted}
        to_rgb = _Converter(sample)
        for frame in _frames(stream, [packets.packets[place] for place in packets.needed(wanted)]):
            if frame.pts is None:
                continue
            index = index_at.pop(frame.pts, None)
            if index is not None:
                yield index, to_rgb(frame)


def _decode_all(sample: Sample, data: bytes, wanted: frozenset[int]) -> Iterator[tuple[int, np.ndarray]]:
    with opened(sample, data) as (container, stream):
        last = max(wanted)
        to_rgb = _Converter(sample)
        for index, frame in enumerate(_frames(stream, demuxed(container, stream))):
            if index in wanted:
                yield index, to_rgb(frame)
            if index == last:
                return


def _frames(stream: VideoStream, packets: list[av.Packet]) -> Iterator[av.VideoFrame]:
    for packet in packets:
        yield from stream.decode(packet)
    yield from stream.decode(None)


class _Converter:
    """Frame → RGB; one scaler for all frames of a clip, and no threads (they cost more than such frames do)."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        sample = self._sample
        rgb = self._reformatter.reformat(frame, sample.width, sample.height, "rgb24", threads=1)
        return rgb.to_ndarray()
