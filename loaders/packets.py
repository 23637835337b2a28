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
from warehouse.shards.h264 import is_disposable, nal_length_bytes

# A packet of these is one shown frame. (VP8 also has packets that show nothing, and more of its kind exist.)
_PACKET_IS_FRAME = {"h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"}
# Of these every packet can be decoded alone.
_INTRA = {"mjpeg"}


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
    intra: bool

    def time(self, frame: int) -> int:
        """The timestamp of a frame, given by its index in presentation order."""
        return self.times[self.shown[frame]]

    def needed(self, wanted: Iterable[int]) -> list[int]:
        """The places of the packets to decode for the wanted frames, ascending: enough, and few."""
        places = {self.shown[frame] for frame in wanted}
        if self.intra:
            return sorted(places)
        first_time = min(self.times[place] for place in places)
        # Pictures shown before a keyframe but decoded after it may refer to what lies before it (open GOP), so the
        # keyframe must also be shown no later than the first wanted frame.
        keyframes = [i for i in range(min(places) + 1) if self.packets[i].is_keyframe and self.times[i] <= first_time]
        start = keyframes[-1] if keyframes else 0
        return [i for i in range(start, max(places) + 1) if i in places or self._referred_to(i, start)]

    def _referred_to(self, place: int, start: int) -> bool:
        if self.times[place] < self.times[start]:
            return False
        return not (self.length_bytes and is_disposable(self.packets[place], self.length_bytes))


def index_packets(stream: VideoStream, packets: list[av.Packet], frames: int) -> PacketIndex | None:
    """The index of a stream of so many frames, or ``None`` if its packets do not tell which frame they are.

    They tell if there is one packet a frame, and each has its own timestamp.
    """
    times = [packet.pts for packet in packets if packet.pts is not None and not packet.is_discard]
    one_each = len(packets) == len(times) == len(set(times)) == frames
    codec = stream.codec_context.codec.canonical_name
    if not one_each or codec not in _PACKET_IS_FRAME:
        return None
    shown = sorted(range(frames), key=times.__getitem__)
    return PacketIndex(packets, times, shown, nal_length_bytes(stream.codec_context), codec in _INTRA)
