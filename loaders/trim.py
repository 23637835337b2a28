"""Trimming a clip to the packets that its wanted frames need, for decoders that cannot seek (DALI's)."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.stream import VideoStream

from loaders.mp4_track import read_track
from loaders.mp4_writing import write_track
from loaders.packets import PacketIndex, demuxed, index_packets, opened, refusals, track_stream
from warehouse.catalog.sample import Sample

_TICK = Fraction(1, 30)  # of the trimmed video's even clock; nothing depends on it


@dataclass(frozen=True)
class TrimmedClip:
    """A video in memory, and where in it, in presentation order, the wanted frames are (ascending)."""

    data: bytes
    frame_ids: tuple[int, ...]


def trim(sample: Sample, data: bytes, wanted: Sequence[int]) -> TrimmedClip:
    """Remux the packets needed for the wanted frames (ascending indices) into an MP4 with an even clock.

    Nothing is re-encoded. Where the packets do not tell which frame they are, the video stays whole. A stream that is
    refreshed gradually (x264's ``intra-refresh``) cannot be trimmed so: its keyframe marks do not hold what they say.

    Raises:
        DecodeError: FFmpeg refuses the bytes.
    """
    track = read_track(data, sample.frames)
    if track is not None:
        with refusals(sample):
            index = track_stream(track, data).index
        kept = _Kept(index, wanted)
        marks = frozenset(track.keyframes)
        keyframes = [number for number, place in enumerate(kept.places) if place in marks]
        packets = [index.payload(place) for place in kept.places]
        return TrimmedClip(write_track(track.description, packets, kept.shown_at, keyframes), kept.wanted_at)
    with opened(sample, data) as (container, stream):
        packets_of_all = demuxed(container, stream)
        found = index_packets(stream, packets_of_all, sample.frames)
        if found is None:
            return TrimmedClip(data, tuple(wanted))
        kept = _Kept(found, wanted)
        return TrimmedClip(
            _muxed(stream, [packets_of_all[place] for place in kept.places], kept.shown_at), kept.wanted_at
        )


class _Kept:
    """The packets that stay (``places`` in the video), when each is shown among them, and which of them are wanted."""

    def __init__(self, index: PacketIndex, wanted: Sequence[int]) -> None:
        self.places = index.needed(wanted)
        rank = {time: number for number, time in enumerate(sorted(index.times[place] for place in self.places))}
        self.shown_at = [rank[index.times[place]] for place in self.places]
        self.wanted_at = tuple(rank[index.time(frame)] for frame in wanted)


def _muxed(stream: VideoStream, packets: Sequence[av.Packet], shown_at: Sequence[int]) -> bytes:
    # How far decoding must run ahead of showing, so that no packet is decoded after its time.
    ahead = max(place - shown for place, shown in enumerate(shown_at))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        target = output.add_stream_from_template(stream)
        for place, (packet, shown) in enumerate(zip(packets, shown_at, strict=True)):
            packet.stream, packet.time_base, packet.duration = target, _TICK, 1
            packet.pts, packet.dts = shown + ahead, place
            output.mux(packet)
    return buffer.getvalue()
