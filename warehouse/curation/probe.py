"""Reading a media file once: what it is, whether it is whole, and the hashes of its frames.

A file that cannot be used is not an exception but a row with an error class (docs/error_classes.md), so that a run
over a million files goes on and every file is accounted for. Decoders may still crash or hang on hostile files:
run :func:`probe_unit` behind :func:`warehouse.engine.map_unordered` and turn its failures into rows with
:func:`failed_row`.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
from av.container import InputContainer

from warehouse import engine
from warehouse.curation.frame_hashes import FRAMES_AT_MOST, GRID_MS, Thumbnail, hash_clip, thumbnail

MISSING = "missing_file"
QUARANTINED = (
    "unreadable_file", "empty_file", "unreadable_container", "no_video_stream", "encrypted", "no_frames", "truncated",
    "decode_error", engine.CRASHED, engine.HUNG,
)  # fmt: skip
"""Error classes of files that are there (docs/error_classes.md says what each means and what helps)."""

TOLERATED_DAMAGE = 0.02
"""Share of packets that may fail to decode, or decode to a frame that the decoder marks corrupt."""

TOLERATED_SHORTAGE = 0.1
"""Share of the declared frames or duration that may be absent: headers often count a frame or two too many."""

# Containers that hold their own data. Playlists and the like (hls, dash, concat, image sequences) would make FFmpeg
# open whatever other files or addresses they name.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,gif,"
    "mxf,nut,rm,wtv,mjpeg,mp3,wav,flac,aac"
)
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}

_LONGEST_MS = 10**12  # 30 years

_FACTS = ("sha256", "container", "codec", "pixel_format", "width", "height", "fps", "frames", "duration_ms",
          "has_audio", "packet_hash")  # fmt: skip


@dataclass(frozen=True)
class ProbeResult:
    """What one file gave.

    Attributes:
        media: a row of ``media`` without ``clip_id`` and ``source``.
        hashes: rows of ``frame_hashes`` without these; empty unless the status is ``ok``.
    """

    media: dict[str, Any]
    hashes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Decoded:
    """Counts of one pass over the packets. Times are in seconds since the file's start."""

    packets: int = 0
    failed: int = 0
    frames: int = 0
    corrupt: int = 0
    reached_s: float = 0.0
    encrypted: bool = False
    error: str = ""
    packet_hash: str = ""
    earliest_s: float = math.inf
    latest_s: float = -math.inf
    last_frame_s: float = 0.0
    sampled: list[Thumbnail] = field(default_factory=list)


def probe_unit(items: list[tuple[str, str, str]]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Probe and hash ``(clip_id, source, absolute path)`` items: a ``media`` row and ``frame_hashes`` rows for each."""
    cv2.setNumThreads(1)
    answers = []
    for clip_id, source, path in items:
        result, key = probe_and_hash(Path(path)), {"clip_id": clip_id, "source": source}
        answers.append((key | result.media, [key | row for row in result.hashes]))
    return answers


def failed_row(item: tuple[str, str, str], error_class: str, detail: str) -> dict[str, Any]:
    """The ``media`` row of an item whose process crashed or hung."""
    return {"clip_id": item[0], "source": item[1]} | _row(error_class, detail, {})


def probe_and_hash(path: Path) -> ProbeResult:
    """Hash the bytes, demux every packet and decode every frame of ``path``; never raises for what is in the file."""
    facts: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                return ProbeResult(_row("empty_file", "the file has no bytes", facts))
            file.seek(0)
            facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ProbeResult(_row(MISSING, "no such file", facts))
    except OSError as error:
        return ProbeResult(_row("unreadable_file", error.strerror or str(error), facts))
    try:
        container = av.open(str(path), metadata_errors="replace", options=_OPEN_OPTIONS)
    except (av.FFmpegError, OSError, ValueError) as error:
        cut = _cut_short(path)
        return ProbeResult(_row("truncated" if cut else "unreadable_container", cut or _words(error), facts))
    with container:
        return _probe_container(container, facts)


def _probe_container(container: InputContainer, facts: dict[str, Any]) -> ProbeResult:
    facts |= {"container": container.format.name.split(",")[0], "has_audio": bool(container.streams.audio)}
    # A cover picture is a video stream to FFmpeg, not to us.
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        kinds = sorted({stream.type or "unknown" for stream in container.streams})
        return ProbeResult(_row("no_video_stream", f"streams: {', '.join(kinds) or 'none'}", facts))
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        return ProbeResult(_row("no_frames", "no decoder for this codec", facts))
    facts |= {"codec": context.codec.canonical_name, "width": context.width, "height": context.height}
    facts["pixel_format"] = context.pix_fmt
    context.thread_count = 1
    decoded = _decode(container, stream)
    facts |= _timing(decoded, stream) | {"frames": decoded.frames}
    facts["packet_hash"] = decoded.packet_hash if decoded.packets else None
    error_class, detail = _judge(decoded, stream, container)
    if error_class:
        return ProbeResult(_row(error_class, detail, facts))
    return ProbeResult(_row(None, None, facts), hash_clip(decoded.sampled))


def _decode(container: InputContainer, stream: av.VideoStream) -> _Decoded:
    """The one pass: packets of sound too tell how far the file reaches, those of ``stream`` are decoded."""
    decoded, digest = _Decoded(), hashlib.blake2b(digest_size=16)
    decoded.encrypted = "enc_key_id" in stream.metadata
    start, next_sample_ms = None, 0
    origin = container.start_time / av.time_base if container.start_time is not None else 0.0
    for packet in _packets(container, stream, decoded):
        if packet.pts is not None and packet.time_base:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            decoded.reached_s = max(decoded.reached_s, end - origin)
        if packet.stream.index != stream.index:  # the last packet, which flushes the decoder, has no stream_index
            continue
        if packet.size:
            decoded.packets += 1
            digest.update(packet)
            decoded.encrypted |= packet.has_sidedata("encryption_info")
        try:
            frames = packet.decode()
        except (av.FFmpegError, OSError, ValueError) as error:
            decoded.failed += 1
            decoded.error = decoded.error or _words(error)
            continue
        for frame in frames:
            decoded.frames += 1
            decoded.corrupt += frame.is_corrupt
            time = frame.time if frame.time is not None else _by_count(decoded, stream)
            start = time if start is None else start
            decoded.earliest_s, decoded.latest_s = min(decoded.earliest_s, time), max(decoded.latest_s, time)
            decoded.last_frame_s = float((frame.duration or 0) * (frame.time_base or 0))
            t_ms = round((time - start) * 1000)
            if next_sample_ms <= t_ms < _LONGEST_MS and len(decoded.sampled) < FRAMES_AT_MOST:
                decoded.sampled.append(thumbnail(frame, t_ms))
                next_sample_ms = (t_ms // GRID_MS + 1) * GRID_MS
    decoded.packet_hash = digest.hexdigest()
    return decoded


def _packets(container: InputContainer, stream: av.VideoStream, decoded: _Decoded) -> Iterator[av.Packet]:
    """Packets of ``stream`` and of the audio; a demuxer that gives up counts as one failure."""
    try:
        yield from container.demux([stream, *container.streams.audio])
    except (av.FFmpegError, OSError, ValueError) as error:
        decoded.failed += 1
        decoded.error = decoded.error or _words(error)


def _by_count(decoded: _Decoded, stream: av.VideoStream) -> float:
    """The time of a frame that carries none: from its number and the stream's rate (25 where even that is absent)."""
    return (decoded.frames - 1) / float(stream.average_rate or stream.guessed_rate or 25)


def _timing(decoded: _Decoded, stream: av.VideoStream) -> dict[str, Any]:
    """``fps`` and ``duration_ms`` from the frames' own times; the container's rate where it agrees with them."""
    declared = float(stream.average_rate) if stream.average_rate else None
    span = decoded.latest_s - decoded.earliest_s
    if not 0 <= span * 1000 < _LONGEST_MS:  # no frame, or timestamps that mean nothing
        return {"fps": declared, "duration_ms": None}
    measured = (decoded.frames - 1) / span if span > 0 else None
    agrees = declared and measured and abs(declared - measured) <= 0.02 * measured
    fps = declared if agrees else measured or declared
    last = decoded.last_frame_s or (1 / fps if fps else 0.0)
    return {"fps": fps, "duration_ms": round((span + last) * 1000)}


def _judge(decoded: _Decoded, stream: av.VideoStream, container: InputContainer) -> tuple[str | None, str | None]:
    """``(error_class, detail)`` of a file that opened; ``(None, None)`` if it is whole."""
    if decoded.encrypted:
        return "encrypted", "packets are marked as encrypted"
    if decoded.frames == 0:
        return "no_frames", decoded.error or f"{decoded.packets} packets, no frame"
    expected = 1 - TOLERATED_SHORTAGE
    if stream.frames and decoded.packets < expected * stream.frames:
        return "truncated", f"{decoded.packets} of {stream.frames} declared frames are there"
    declared_s = container.duration / av.time_base if container.duration else 0.0
    # Half a second is left to containers that round, or count the silence after the last packet.
    if decoded.reached_s < min(expected * declared_s, declared_s - 0.5):
        return "truncated", f"{decoded.reached_s:.2f} s of {declared_s:.2f} s declared are there"
    damaged = decoded.failed + decoded.corrupt
    if damaged > TOLERATED_DAMAGE * decoded.packets:
        return "decode_error", f"{damaged} of {decoded.packets} packets are damaged. {decoded.error}".strip()
    return None, None


def _cut_short(path: Path) -> str | None:
    """How an MP4 whose last box runs past the end of the file was cut; ``None`` for anything else."""
    size, position = path.stat().st_size, 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4]), header[4:8]
            if position == 0 and kind != b"ftyp":
                return None
            if length == 1:
                length = int.from_bytes(header[8:16])
            if length < 8:
                return None
            position += length
    return f"the last box ({kind.decode('ascii', 'replace')}) ends at {position}, the file at {size}" \
        if position > size else None  # fmt: skip


def _words(error: Exception) -> str:
    """The decoder's own words without the path, which may be long and is in ``files``."""
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


def _row(error_class: str | None, detail: str | None, facts: dict[str, Any]) -> dict[str, Any]:
    status = "ok" if error_class is None else "missing" if error_class == MISSING else "quarantined"
    return {"status": status, "error_class": error_class, "detail": detail} | {name: facts.get(name) for name in _FACTS}
