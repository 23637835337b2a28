"""Trimming a clip to the packets that its wanted frames need, for decoders that cannot seek (DALI's)."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av

from loaders.packets import demuxed, needed, opened, shown_order
from warehouse.catalog.snapshots import Sample

_TICK = Fraction(1, 30)  # of the trimmed video's even clock; nothing depends on it


@dataclass(frozen=True)
class TrimmedClip:
    """A video in memory, and where in it, in presentation order, the wanted frames are (ascending)."""

    data: bytes
    frame_ids: tuple[int, ...]


def trim(sample: Sample, data: bytes, wanted: Sequence[int]) -> TrimmedClip:
    """Remux the packets needed for the wanted frames (ascending indices) into an MP4 with an even clock.

    Nothing is re-encoded. Where the packets do not tell which frame they are, the video stays whole.

    Raises:
        DecodeError: FFmpeg refuses the bytes.
    """
    with opened(sample, data) as (container, stream):
        packets = demuxed(container, stream)
        shown = shown_order(stream, packets, sample.frames)
        if shown is None:
            return TrimmedClip(data, tuple(wanted))
        times = [packets[shown[index]].pts for index in wanted]
        kept = needed(stream, packets, shown, wanted)
        rank = {time: place for place, time in enumerate(sorted(packet.pts for packet in kept))}
        # How far decoding must run ahead of showing, so that no packet is decoded after its time.
        ahead = max(place - rank[packet.pts] for place, packet in enumerate(kept))
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as output:
            target = output.add_stream_from_template(stream)
            for place, packet in enumerate(kept):
                shown_at = rank[packet.pts]
                packet.stream, packet.time_base, packet.duration = target, _TICK, 1
                packet.pts, packet.dts = shown_at + ahead, place
                output.mux(packet)
    return TrimmedClip(buffer.getvalue(), tuple(rank[time] for time in times))
