"""Which packets of an encoded video have to be decoded to see the frames that are wanted.

Everything is demuxed (cheap: the bytes are in memory), nothing is sought in the file. Wanted frames are found by their
place in presentation order, decoding starts at the keyframe before them, and H.264 pictures that no other picture
refers to are left out unless they are wanted themselves.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.video.stream import VideoStream

from warehouse.catalog.snapshots import Sample

# A packet of these is one shown frame. (VP8 also has packets that show nothing, and more of its kind exist.)
_PACKET_IS_FRAME = {"h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"}
_H264_SLICES = range(1, 6)  # NAL unit types with picture data (ITU-T H.264, table 7-1)


class DecodeError(RuntimeError):
    """A clip whose bytes are as promised cannot be decoded; names clip and shard."""

    def __init__(self, sample: Sample, reason: str) -> None:
        super().__init__(f"clip {sample.clip_id} in {sample.shard} (bytes {sample.offset}+{sample.size}): {reason}")


@contextmanager
def opened(sample: Sample, data: bytes) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream, on one thread; what FFmpeg raises within becomes ``DecodeError``."""
    try:
        with av.open(io.BytesIO(data), "r", metadata_errors="replace") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None or stream.codec_context is None:
                raise DecodeError(sample, "no video stream that can be decoded")
            stream.codec_context.thread_count = 1
            yield container, stream
    except (av.error.FFmpegError, UnknownCodecError, UnicodeDecodeError) as error:
        raise DecodeError(sample, f"{type(error).__name__}: {error}") from error


def demuxed(container: InputContainer, stream: VideoStream) -> list[av.Packet]:
    """All packets of the stream in decoding order."""
    return [packet for packet in container.demux(stream) if packet.size]


@dataclass(frozen=True)
class PacketIndex:
    """Packets in decoding order, their timestamps, and each shown frame's place among them."""

    packets: list[av.Packet]
    times: list[int]
    shown: list[int]
    length_bytes: int

    def time(self, frame: int) -> int:
        """The timestamp of a frame, given by its index in presentation order."""
        return self.times[self.shown[frame]]

    def needed(self, wanted: Iterable[int]) -> list[int]:
        """The places of the packets to decode for the wanted frames, ascending: enough, and few."""
        places = {self.shown[frame] for frame in wanted}
        first_time = min(self.times[place] for place in places)
        # Pictures shown before a keyframe but decoded after it may refer to what lies before it (open GOP), so the
        # keyframe must also be shown no later than the first wanted frame.
        keyframes = [i for i in range(min(places) + 1) if self.packets[i].is_keyframe and self.times[i] <= first_time]
        start = keyframes[-1] if keyframes else 0
        return [i for i in range(start, max(places) + 1) if i in places or self._referred_to(i, start)]

    def _referred_to(self, place: int, start: int) -> bool:
        if self.times[place] < self.times[start]:
            return False
        return not (self.length_bytes and _disposable(self.packets[place], self.length_bytes))


def index_packets(stream: VideoStream, packets: list[av.Packet], frames: int) -> PacketIndex | None:
    """The index of a stream of so many frames, or ``None`` if its packets do not tell which frame they are.

    They tell if there is one packet a frame, and each has its own timestamp.
    """
    times = [packet.pts for packet in packets if packet.pts is not None and not packet.is_discard]
    one_each = len(packets) == len(times) == len(set(times)) == frames
    if not one_each or stream.codec_context.codec.canonical_name not in _PACKET_IS_FRAME:
        return None
    return PacketIndex(packets, times, sorted(range(frames), key=times.__getitem__), _nal_length_bytes(stream))


def _nal_length_bytes(stream: VideoStream) -> int:
    """How many bytes give a NAL unit's length, 0 if this is not H.264 laid out like in MP4 (ISO/IEC 14496-15)."""
    extradata = stream.codec_context.extradata
    if stream.codec_context.codec.canonical_name != "h264" or not extradata or len(extradata) < 5 or extradata[0] != 1:
        return 0
    return (extradata[4] & 3) + 1


def _disposable(packet: av.Packet, length_bytes: int) -> bool:
    """Whether no other picture refers to this one: ``nal_ref_idc`` is 0 in all its slices (H.264, 7.4.1)."""
    data = memoryview(packet)
    at, slices = 0, 0
    while at + length_bytes < len(data):
        header = data[at + length_bytes]
        if header & 0x1F in _H264_SLICES:
            if header & 0x60:
                return False
            slices += 1
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
    return slices > 0
