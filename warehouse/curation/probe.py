"""Reading a media file once: what it is, whether it is whole, and the hashes of its frames.

A file that cannot be used is not an exception but a row with an error class (docs/error_classes.md), so that a run
over a million files goes on and every file is accounted for. Decoders may still crash or hang on hostile files:
run :func:`probe_unit` behind :func:`warehouse.engine.map_unordered` and turn its failures into rows with
:func:`failed_row`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import cv2
import numpy as np

from warehouse.curation.frame_hashes import FRAMES_AT_MOST, GRID_MS, Thumbnail, examine, thumbnail
from warehouse.error_classes import MISSING, TOO_LARGE, MediaError, words
from warehouse.media_bytes import sha256
from warehouse.media_file import MediaFile
from warehouse.video import DECODER_ERRORS, Video, open_video, packet_digest, quarter_turns

TOLERATED_DAMAGE = 0.02
"""Share of packets that may fail to decode, or decode to a frame that the decoder marks corrupt."""

TOLERATED_SHORTAGE = 0.1
"""Share of the declared frames or duration that may be absent: headers often count a frame or two too many."""

UNEVEN = 0.5
"""A step from frame to frame that differs from the median by more than this share of it makes the rate variable."""

_LONGEST_MS = 10**12  # 30 years
_FRAME_RATE = 25  # of a stream that says nothing of times

_FACTS = ("sha256", "container", "codec", "pixel_format", "width", "height", "rotation", "size_changes", "fps",
          "variable_rate", "frames", "declared_frames", "duration_ms", "has_audio", "video_bytes", "packet_hash",
          "motion", "brightness", "picture_share")  # fmt: skip

Item = tuple[str, str, MediaFile]
"""Clip id, source and where its video lies."""


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
    """What one pass over the packets found. ``times`` are those of all frames in seconds; ``reached_s`` is since the
    file's start.
    """

    packets: int = 0
    packet_bytes: int = 0
    failed: int = 0
    corrupt: int = 0
    reached_s: float = 0.0
    encrypted: bool = False
    error: str = ""
    packet_hash: str = ""
    times: list[float] = field(default_factory=list)
    last_frame_s: float = 0.0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    first_frame: av.VideoFrame | None = None
    sampled: list[Thumbnail] = field(default_factory=list)

    def fail(self, error: Exception) -> None:
        """Count a packet that did not decode. Raises it again if memory ran out: that is not the packet's fault."""
        if isinstance(error, MemoryError):
            raise error
        self.failed += 1
        self.error = self.error or words(error)


def probe_unit(items: list[Item]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Probe and hash items: a ``media`` row and ``frame_hashes`` rows for each."""
    cv2.setNumThreads(1)
    answers = []
    for clip_id, source, media in items:
        result, key = probe_and_hash(media), {"clip_id": clip_id, "source": source}
        answers.append((key | result.media, [key | row for row in result.hashes]))
    return answers


def failed_row(item: Item, error_class: str, detail: str) -> dict[str, Any]:
    """The ``media`` row of an item whose process crashed or hung."""
    return {"clip_id": item[0], "source": item[1]} | _row(error_class, detail, {})


def probe_and_hash(media: MediaFile) -> ProbeResult:
    """Hash the bytes, demux every packet and decode every frame of a clip; never raises for what is in the file."""
    facts: dict[str, Any] = {}
    try:
        facts["sha256"] = sha256(media)
        with open_video(media) as video:
            return _probe(video, media, facts)
    except MediaError as error:
        return ProbeResult(_row(error.error_class, error.detail, facts))
    except MemoryError:
        return ProbeResult(_row(TOO_LARGE, "decoding it takes more memory than a process may have", facts))


def _probe(video: Video, media: MediaFile, facts: dict[str, Any]) -> ProbeResult:
    facts |= {
        "container": video.container,
        "has_audio": video.has_audio,
        "codec": video.codec,
        "declared_frames": video.declared_frames,
    }
    decoded = _decode(video)
    facts |= _shown(decoded, video) | _timing(decoded, video)
    facts |= {
        "frames": len(decoded.times),
        "video_bytes": decoded.packet_bytes,
        "packet_hash": decoded.packet_hash if decoded.packets else None,
    }
    error_class, detail = _judge(decoded, video, media)
    if error_class:
        return ProbeResult(_row(error_class, detail, facts))
    hashes, pictures = examine(decoded.sampled)
    return ProbeResult(_row(None, None, facts | pictures), hashes)


def _decode(video: Video) -> _Decoded:
    """The one pass: packets of sound too tell how far the file reaches, those of the video are decoded."""
    decoded, digest = _Decoded(encrypted=video.encrypted), packet_digest()
    times, next_sample_ms = decoded.times, 0
    frame = None
    for packet in _packets(video, decoded):
        decoded.reached_s = max(decoded.reached_s, video.reached_s(packet))
        belongs = video.belongs(packet)
        if belongs:
            decoded.packets += 1
            decoded.packet_bytes += packet.size
            digest.update(packet)
            # Of encrypted packets the key frames are always some.
            decoded.encrypted |= packet.is_keyframe and packet.has_sidedata("encryption_info")
        try:
            frames = video.decode(packet)
        except DECODER_ERRORS as error:
            if belongs:  # on the way to an interval, frames that lack their references are no damage of the clip
                decoded.fail(error)
            continue
        for frame in frames:
            decoded.corrupt += frame.is_corrupt
            time = frame.time if frame.time is not None else len(times) / float(video.frame_rate or _FRAME_RATE)
            times.append(time)
            decoded.sizes.add((frame.width, frame.height))
            t_ms = round((time - times[0]) * 1000)
            if next_sample_ms <= t_ms < _LONGEST_MS and len(decoded.sampled) < FRAMES_AT_MOST:
                decoded.first_frame = decoded.first_frame or frame
                decoded.sampled.append(thumbnail(frame, t_ms))
                next_sample_ms = (t_ms // GRID_MS + 1) * GRID_MS
    if frame is not None:
        decoded.last_frame_s = float((frame.duration or 0) * (frame.time_base or 0))
    decoded.packet_hash = digest.hexdigest()
    return decoded


def _packets(video: Video, decoded: _Decoded) -> Iterator[av.Packet]:
    """The packets; a demuxer that gives up counts as one failure."""
    try:
        yield from video.packets()
    except DECODER_ERRORS as error:
        decoded.fail(error)


def _shown(decoded: _Decoded, video: Video) -> dict[str, Any]:
    """Size and pixel format of the first frame as a player shows it; those declared if there is no frame."""
    frame = decoded.first_frame
    if frame is None:
        return {"width": video.width, "height": video.height, "pixel_format": video.pixel_format}
    turns = quarter_turns(frame)
    width, height = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    return {
        "width": width,
        "height": height,
        "pixel_format": frame.format.name,
        "rotation": 90 * turns,
        "size_changes": len(decoded.sizes) > 1,
    }


def _timing(decoded: _Decoded, video: Video) -> dict[str, Any]:
    """``fps``, ``variable_rate`` and ``duration_ms`` from the frames' own times; the declared rate where it agrees."""
    declared = float(video.frame_rate) if video.frame_rate else None
    times = np.sort(np.array(decoded.times))
    span = times[-1] - times[0] if len(times) else math.nan
    if not span * 1000 < _LONGEST_MS:  # no frame, or timestamps that mean nothing
        return {"fps": declared}
    measured = float((len(times) - 1) / span) if span > 0 else None
    agrees = declared and measured and abs(declared - measured) <= 0.02 * measured
    fps = declared if agrees else measured or declared
    last = decoded.last_frame_s or (1 / fps if fps else 0.0)
    steps = np.sort(np.diff(times))
    typical = steps[len(steps) // 2] if len(steps) else 0.0
    uneven = len(steps) > 0 and bool(max(typical - steps[0], steps[-1] - typical) > UNEVEN * typical)
    return {"fps": fps, "variable_rate": uneven, "duration_ms": round((span + last) * 1000)}


def _judge(decoded: _Decoded, video: Video, media: MediaFile) -> tuple[str | None, str | None]:
    """``(error_class, detail)`` of a file that opened; ``(None, None)`` if the clip is whole."""
    frames = len(decoded.times)
    if decoded.encrypted:
        return "encrypted", "the video is marked as encrypted"
    if frames == 0 and (decoded.packets or not video.is_interval):
        return "no_frames", decoded.error or f"{decoded.packets} packets, no frame"
    short = _interval_shortage(decoded, media) if video.is_interval else None
    if short:
        return "interval_missing", short
    expected = 1 - TOLERATED_SHORTAGE
    if not video.is_interval:
        if video.declared_frames and decoded.packets < expected * video.declared_frames:
            return "truncated", f"{decoded.packets} of {video.declared_frames} declared frames are there"
        declared_s = video.declared_s or 0.0
        # Half a second is left to containers that round, or count the silence after the last packet.
        if decoded.reached_s < min(expected * declared_s, declared_s - 0.5):
            return "truncated", f"{decoded.reached_s:.2f} s of {declared_s:.2f} s declared are there"
    damaged = decoded.failed + decoded.corrupt
    if damaged > TOLERATED_DAMAGE * decoded.packets:
        return "decode_error", f"{damaged} of {decoded.packets} packets are damaged. {decoded.error}".strip()
    return None, None


def _interval_shortage(decoded: _Decoded, media: MediaFile) -> str | None:
    """What of an interval the video does not have, if that is more than it may lack."""
    start, stop = (media.from_ms or 0) / 1000, media.to_ms and media.to_ms / 1000
    if not decoded.times:
        return f"the video has no frame from {start:.3f} s on" + (f" to {stop:.3f} s" if stop else "")
    if stop is None:
        return None
    there = max(decoded.times) - min(decoded.times) + decoded.last_frame_s
    if there < min((1 - TOLERATED_SHORTAGE) * (stop - start), stop - start - 0.5):
        return f"{there:.2f} s of the interval's {stop - start:.2f} s are in the video"
    return None


def _row(error_class: str | None, detail: str | None, facts: dict[str, Any]) -> dict[str, Any]:
    status = "ok" if error_class is None else "missing" if error_class == MISSING else "quarantined"
    return {"status": status, "error_class": error_class, "detail": detail} | {name: facts.get(name) for name in _FACTS}
