"""Trimming a clip to the packets that its wanted frames need, for decoders that cannot seek (DALI's)."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av

from loaders.packets import demuxed, index_packets, opened
from warehouse.catalog.snapshots import Sample

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
    with opened(sample, data) as (container, stream):
        packets = index_packets(stream, demuxed(container, stream), sample.frames)
        if packets is None:
            return TrimmedClip(data, tuple(wanted))
        kept = packets.needed(wanted)
        rank = {time: place for place, time in enumerate(sorted(packets.times[i] for i in kept))}
        shown_at = [rank[packets.times[i]] for i in kept]
        wanted_at = tuple(rank[packets.time(frame)] for frame in wanted)
        # How far decoding must run ahead of showing, so that no packet is decoded after its time.
        ahead = max(place - shown for place, shown in enumerate(shown_at))
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as output:
            target = output.add_stream_from_template(stream)
            for place, (i, shown) in enumerate(zip(kept, shown_at, strict=True)):
                packet = packets.packets[i]
                packet.stream, packet.time_base, packet.duration = target, _TICK, 1
                packet.pts, packet.dts = shown + ahead, place
                output.mux(packet)
    return TrimmedClip(buffer.getvalue(), wanted_at)
