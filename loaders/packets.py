"""Which packets of an encoded video have to be decoded to see the frames that are wanted.

All packets of a clip are known before one is decoded, for its bytes are in memory; nothing is sought. Wanted frames are
found by their place in presentation order, decoding starts at the keyframe before them, and H.264 pictures that no
other picture refers to are left out unless they are wanted themselves.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import av
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from loaders.mp4_track import Mp4Track, read_track
from warehouse.catalog.sample import Sample
from warehouse.shards.h264 import is_disposable, nal_length_bytes

# A packet of these is one shown frame. (VP8 also has packets that show nothing, and more of its kind exist.)
_PACKET_IS_FRAME = {"h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"}
# Packets of these formats have no time at which they are shown. Where frames are shown in another order than they are
# decoded in, FFmpeg guesses it, and is wrong for H.264 and for B-frames that are packed together.
_TIMELESS = {"avi"}
# Of these every packet can be decoded alone.
_INTRA = {"mjpeg"}
_PADDING = 64  # bytes that a decoder may read behind a packet (AV_INPUT_BUFFER_PADDING_SIZE)


class DecodeError(RuntimeError):
    """A clip whose bytes are as promised cannot be decoded; names clip and shard."""

    def __init__(self, sample: Sample, reason: str) -> None:
        super().__init__(f"clip {sample.clip_id} in {sample.shard} (bytes {sample.offset}+{sample.size}): {reason}")


@contextmanager
def refusals(sample: Sample) -> Iterator[None]:
    """What FFmpeg raises within becomes ``DecodeError``."""
    try:
        yield
    except (av.error.FFmpegError, UnknownCodecError, UnicodeDecodeError) as error:
        raise DecodeError(sample, f"{type(error).__name__}: {error}") from error


@contextmanager
def opened(sample: Sample, data: bytes) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream, on one thread.

    Raises:
        DecodeError: FFmpeg refuses the bytes, here or within.
    """
    with refusals(sample), av.open(io.BytesIO(data), "r", metadata_errors="replace") as container:
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context is None:
            raise DecodeError(sample, "no video stream that can be decoded")
        stream.codec_context.thread_count = 1
        yield container, stream


def demuxed(container: InputContainer, stream: VideoStream) -> list[av.Packet]:
    """All packets of the stream in decoding order."""
    return [packet for packet in container.demux(stream) if packet.size]


@dataclass(frozen=True)
class PacketIndex:
    """Packets in decoding order, and each shown frame's place among them.

    ``times`` are the packets' timestamps, ``keyframes`` the places of those marked so, ascending, and ``shown`` that of
    each frame in presentation order; ``payload`` gives the bytes of a packet.
    """

    times: list[int]
    keyframes: Sequence[int]
    shown: list[int]
    payload: Callable[[int], memoryview]
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
        times, first, last = self.times, min(places), max(places)
        first_time = min(times[place] for place in places)
        # Pictures shown before a keyframe but decoded after it may refer to what lies before it (open GOP), so the
        # keyframe must also be shown no later than the first wanted frame.
        start = max((i for i in self.keyframes if i <= first and times[i] <= first_time), default=0)
        return [i for i in range(start, last + 1) if i in places or (times[i] >= times[start] and self._referred_to(i))]

    def _referred_to(self, place: int) -> bool:
        return not (self.length_bytes and is_disposable(self.payload(place), self.length_bytes))


@dataclass(frozen=True)
class PacketStream:
    """A video whose packets tell which frame they are, and a decoder that waits for them."""

    decoder: VideoCodecContext
    index: PacketIndex
    packet: Callable[[int], av.Packet]


@contextmanager
def packet_stream(sample: Sample, data: bytes) -> Iterator[PacketStream | None]:
    """The packets of a clip, ``None`` if they do not tell which frame they are.

    They tell if there is one packet a frame, and each has its own timestamp.

    Raises:
        DecodeError: FFmpeg refuses the bytes, here or within.
    """
    track = read_track(data, sample.frames)
    if track is not None:
        with refusals(sample):
            yield track_stream(track, data)
    else:
        with opened(sample, data) as (container, stream):
            packets = demuxed(container, stream)
            index = index_packets(stream, packets, sample.frames)
            yield None if index is None else PacketStream(stream.codec_context, index, packets.__getitem__)


def track_stream(track: Mp4Track, data: bytes) -> PacketStream:
    """The packets of a video whose tables have been read. Raises what PyAV raises."""
    decoder = av.CodecContext.create(track.codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    if track.extradata:
        decoder.extradata = track.extradata
    decoder.colorspace, decoder.color_range = track.matrix, track.colour_range
    view, marks = memoryview(data), frozenset(track.keyframes)

    def payload(place: int) -> memoryview:
        start = track.starts[place]
        return view[start : start + track.sizes[place]]

    def packet(place: int) -> av.Packet:
        source = payload(place)
        if track.starts[place] + len(source) + _PADDING <= len(data):
            made = av.Packet(source)  # type: ignore[arg-type]  # any buffer will do
        else:  # memory of its own, which FFmpeg pads
            made = av.Packet(len(source))
            made.update(source)  # type: ignore[arg-type]
        made.pts, made.is_keyframe = track.times[place], place in marks
        return made

    index = _index(track.times, track.keyframes, payload, decoder)
    return PacketStream(decoder, index, packet)


def index_packets(stream: VideoStream, packets: list[av.Packet], frames: int) -> PacketIndex | None:
    """The index of a demuxed stream of so many frames, or ``None`` if its packets do not tell which frame they are."""
    times = [packet.pts for packet in packets if packet.pts is not None and not packet.is_discard]
    one_each = len(packets) == len(times) == len(set(times)) == frames
    codec, decoder = stream.codec_context.codec.canonical_name, stream.codec_context
    guessed = stream.container.format.name in _TIMELESS and (decoder.has_b_frames or codec in {"h264", "hevc"})
    if not one_each or guessed or codec not in _PACKET_IS_FRAME:
        return None
    keyframes = [place for place, packet in enumerate(packets) if packet.is_keyframe]
    return _index(times, keyframes, lambda place: memoryview(packets[place]), decoder)


def _index(
    times: list[int], keyframes: Sequence[int], payload: Callable[[int], memoryview], decoder: VideoCodecContext
) -> PacketIndex:
    shown = sorted(range(len(times)), key=times.__getitem__)
    return PacketIndex(
        times, keyframes, shown, payload, nal_length_bytes(decoder), decoder.codec.canonical_name in _INTRA
    )
