"""Opening untrusted video: the one place where a media file meets FFmpeg.

:func:`open_video` gives the same small interface for a file, a tar's member, an interval of a longer video and a folder
of frames: packets in order, the frames that each of them gives, and the declared facts. Probing, hashing and encoding
all read through it, so what one refuses, all refuse.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext

from warehouse.error_classes import TOO_LARGE, MediaError, words
from warehouse.media_bytes import frame_images, image_bytes, image_codec, image_size, open_bytes
from warehouse.media_file import MediaFile
from warehouse.mp4_boxes import cut_short, is_protected

MOST_PIXELS = 2**26
"""Pixels of a frame: twice those of 8K video (7680 × 4320). A file that declares more is not decoded."""

# Containers that hold their own data. Playlists and the like (hls, dash, concat, image sequences) would make FFmpeg
# open whatever other files or addresses they name.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,gif,"
    "mxf,nut,rm,wtv,mjpeg,mp3,wav,flac,aac"
)
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
_READ_BYTES = 2**18
# Where no keyframe is found before an interval at first, this far before it.
_SEEK_BACK_S = (0.0, 15.0, 60.0)

def packet_digest() -> hashlib.blake2b:
    """An empty digest of packets, for ``media.packet_hash``."""
    return hashlib.blake2b(digest_size=16)


DECODER_ERRORS = (av.FFmpegError, OSError, ValueError)
"""What PyAV raises for what is in a file."""


class Video(ABC):
    """An opened video stream. Times are in seconds since the start of the file; sizes in pixels as coded, not as shown.

    Attributes:
        frame_rate: frames per second as declared, or the decoder's guess; None where neither is known.
        declared_frames, declared_s: of the whole file, as the container says; None where it does not.
        is_interval: whether the clip is a part of the file.
    """

    container: str
    codec: str
    pixel_format: str | None
    width: int
    height: int
    frame_rate: Fraction | None
    declared_frames: int | None = None
    declared_s: float | None = None
    has_audio = False
    encrypted = False
    is_interval = False

    @abstractmethod
    def packets(self) -> Iterator[av.Packet]:
        """All packets that the clip needs, in order; those without bytes flush the decoder."""

    @abstractmethod
    def decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        """The frames of the clip that a packet completes, none for sound. Raises one of ``DECODER_ERRORS``."""

    def belongs(self, packet: av.Packet) -> bool:
        """Whether a packet is one of the clip's video, and not sound, empty, or on the way to an interval."""
        return packet.size > 0

    @abstractmethod
    def reached_s(self, packet: av.Packet) -> float:
        """How far a packet reaches."""

    def frames(self, digest: hashlib.blake2b) -> Iterator[av.VideoFrame]:
        """The frames of the clip; damaged packets are left out, as they are when it is probed.

        ``digest`` takes the packets in: at the end it stands where ``media.packet_hash`` was read off.
        """
        for packet in self.packets():
            if self.belongs(packet):
                digest.update(packet)
            try:
                frames = self.decode(packet)
            except DECODER_ERRORS as error:
                if isinstance(error, MemoryError):
                    raise
                continue
            yield from frames


@contextmanager
def open_video(media: MediaFile) -> Iterator[Video]:
    """Open a media file of any kind for reading.

    Raises:
        MediaError: it cannot be opened, holds no video, or declares frames larger than ``MOST_PIXELS``.
    """
    if media.is_folder:
        yield _Folder(media)
        return
    with open_bytes(media) as file:
        # FFmpeg reads a plain file faster itself.
        source = media.path if media.member is None else file
        try:
            container = av.open(source, "r", metadata_errors="replace", options=_OPEN_OPTIONS, buffer_size=_READ_BYTES)
        except DECODER_ERRORS as error:
            if isinstance(error, MemoryError):
                raise
            cut = cut_short(file)
            raise MediaError("truncated" if cut else "unreadable_container", cut or words(error)) from error
        with container:
            video = _Stream(container, media)
            video.encrypted |= video.container == "mov" and is_protected(file)
            yield video


def quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise (0 to 3) after which a frame stands as a player shows it: for ``np.rot90``."""
    degrees = frame.rotation
    return round(degrees / 90) % 4 if abs(degrees) <= 180 else 0  # a damaged matrix gives INT_MIN


def _refuse_large(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise MediaError(TOO_LARGE, f"frames of {width} x {height} pixels are declared")


class _Stream(Video):
    """The first video stream of a container, or an interval of it."""

    def __init__(self, container: InputContainer, media: MediaFile) -> None:
        self.container = container.format.name.split(",")[0]
        self.has_audio = bool(container.streams.audio)
        # A cover picture is a video stream to FFmpeg, not to us.
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            kinds = sorted({stream.type or "unknown" for stream in container.streams})
            raise MediaError("no_video_stream", f"streams: {', '.join(kinds) or 'none'}")
        stream = streams[0]
        context = stream.codec_context
        if context is None:
            raise MediaError("no_frames", "no decoder for this codec")
        _refuse_large(context.width, context.height)
        context.thread_count = 1
        context.options = {"max_pixels": str(MOST_PIXELS)}  # frames may turn out larger than the header says
        self.codec, self.pixel_format = context.codec.canonical_name, context.pix_fmt
        self.width, self.height = context.width, context.height
        self.frame_rate = stream.average_rate or stream.guessed_rate
        self.declared_frames = stream.frames if stream.frames > 0 else None
        self.declared_s = container.duration / av.time_base if container.duration else None
        self.encrypted = "enc_key_id" in stream.metadata
        self.is_interval = media.is_interval
        self._from_ms = media.from_ms if media.from_ms is not None else -math.inf
        self._to_ms = media.to_ms if media.to_ms is not None else math.inf
        self._origin_s = container.start_time / av.time_base if container.start_time is not None else 0.0
        self._opened, self._stream, self._index = container, stream, stream.index
        # Seconds; as floats, for fractions are slow.
        self._ticks = {each.index: float(each.time_base or 0) for each in container.streams}

    def packets(self) -> Iterator[av.Packet]:
        if not self.is_interval:
            yield from self._opened.demux([self._stream, *self._opened.streams.audio])
            return
        for packet in self._from_keyframe():
            # Packets come in the order of their dts, and no frame is shown before it.
            at = packet.dts if packet.dts is not None else packet.pts
            if at is not None and self._ms(at) >= self._to_ms:
                break
            yield packet
        flush = av.Packet(0)
        flush.stream, flush.time_base = self._stream, self._stream.time_base or Fraction(0)
        yield flush

    def decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        # The last packet, which flushes the decoder, has no stream_index.
        if packet.stream.index != self._index:
            return []
        frames = packet.decode()
        if self.is_interval:
            return [f for f in frames if f.pts is not None and self._in_interval(f.pts)]
        return frames

    def belongs(self, packet: av.Packet) -> bool:
        if not packet.size or packet.stream.index != self._index:
            return False
        return not self.is_interval or (packet.pts is not None and self._in_interval(packet.pts))

    def reached_s(self, packet: av.Packet) -> float:
        tick = self._ticks[packet.stream.index]
        return (packet.pts + (packet.duration or 0)) * tick - self._origin_s if packet.pts is not None else 0.0

    def _in_interval(self, pts: int) -> bool:
        return self._from_ms <= self._ms(pts) < self._to_ms

    def _ms(self, pts: int) -> int:
        """Milliseconds since the file's start."""
        return round((pts * self._ticks[self._index] - self._origin_s) * 1000)

    def _from_keyframe(self) -> Iterator[av.Packet]:
        """Video packets from the keyframe before the interval on; from the start where seeking does not find one."""
        if self._from_ms > 0:
            for back_s in _SEEK_BACK_S:
                if not self._seek(self._from_ms / 1000 - back_s):
                    break
                packets = self._opened.demux(self._stream)
                # Some containers have no index: seeking ends at any packet.
                key = next((packet for packet in packets if packet.is_keyframe), None)
                if key is not None and key.pts is not None and self._ms(key.pts) <= self._from_ms:
                    yield key
                    yield from packets
                    return
            # Well before the start: seeking goes by decoding times, which begin before the first frame is shown.
            if not self._seek(-10.0):
                self._opened.seek(0)
        yield from self._opened.demux(self._stream)

    def _seek(self, seconds: float) -> bool:
        try:
            self._opened.seek(round((seconds + self._origin_s) * av.time_base))
        except DECODER_ERRORS:
            return False
        return True


class _Folder(Video):
    """A folder of frames: each image is a packet that gives one frame, at a time that follows from its number."""

    container = "images"

    def __init__(self, media: MediaFile) -> None:
        assert media.frame_rate is not None
        self._images = frame_images(media)
        self.frame_rate = self._frame_rate = Fraction(media.frame_rate).limit_denominator(1001)
        self.declared_frames = media.frame_count
        first = image_bytes(self._images[0][1])
        self.codec, self.pixel_format = image_codec(first), None
        self.width, self.height = image_size(first) or (0, 0)
        _refuse_large(self.width, self.height)
        self._decoders: dict[str, VideoCodecContext] = {}

    def packets(self) -> Iterator[av.Packet]:
        for place, path in self._images:
            packet = av.Packet(image_bytes(path))
            packet.pts, packet.duration, packet.time_base = place, 1, 1 / self._frame_rate
            packet.is_keyframe = True  # else the PNG decoder paints over the image before
            yield packet

    def reached_s(self, packet: av.Packet) -> float:
        return (packet.pts + 1) / float(self._frame_rate) if packet.pts is not None else 0.0

    def decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        codec = image_codec(bytes(packet))
        if codec not in self._decoders:
            decoder = av.CodecContext.create(codec, "r")
            assert isinstance(decoder, VideoCodecContext)
            self._decoders[codec] = decoder
            decoder.thread_count = 1
            decoder.options = {"max_pixels": str(MOST_PIXELS)}
        return self._decoders[codec].decode(packet)
