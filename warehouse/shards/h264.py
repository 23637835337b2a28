"""What the packets of an H.264 stream say of themselves (ITU-T H.264; in MP4, ISO/IEC 14496-15)."""

from collections.abc import Iterator

import av
from av.video.codeccontext import VideoCodecContext

_SLICES = range(1, 6)  # NAL unit types with picture data (table 7-1)
_IDR = 5


def nal_length_bytes(context: VideoCodecContext) -> int:
    """How many bytes give a NAL unit's length, 0 if this is not H.264 laid out like in MP4."""
    extradata = context.extradata
    if context.codec.canonical_name != "h264" or not extradata or len(extradata) < 5 or extradata[0] != 1:
        return 0
    return (extradata[4] & 3) + 1


def is_disposable(packet: av.Packet | memoryview, length_bytes: int) -> bool:
    """Whether no other picture refers to this one: ``nal_ref_idc`` is 0 in all its slices (7.4.1)."""
    slices = 0
    for header in _slice_headers(packet, length_bytes):
        if header & 0x60:
            return False
        slices += 1
    return slices > 0


def is_idr(packet: av.Packet, length_bytes: int) -> bool:
    """Whether this picture makes a decoder forget all before it: all its slices are of type 5."""
    kinds = {header & 0x1F for header in _slice_headers(packet, length_bytes)}
    return kinds == {_IDR}


def _slice_headers(packet: av.Packet | memoryview, length_bytes: int) -> Iterator[int]:
    """The first byte of each NAL unit with picture data."""
    data = memoryview(packet)
    at = 0
    while at + length_bytes < len(data):
        header = data[at + length_bytes]
        if header & 0x1F in _SLICES:
            yield header
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
