"""Which stretches of an encoded video are its alone, to find it by: coded pictures, nothing that an encoder repeats.

What is equal in many files stands at the beginning of files and of packets: boxes, parameter sets, the encoder's own
words, and the tables of a JPEG, which look as random as a picture does. So stretches come from later in packets.
"""

import io
from collections.abc import Iterator
from typing import Any

import av

from warehouse.takedown.prints import STRETCH, print_of
from warehouse.video import DECODER_ERRORS

STRETCHES = 16
"""Stretches kept of a clip, spread over its packets."""
DISTINCT = 48
"""Byte values that a stretch shows at least. Those of coded pictures show 57 on average, with a deviation of 2.5;
parameter sets and the boxes around them, 41."""
_SCAN = b"\xff\xda"
"""Start of the picture data in a JPEG (ITU-T T.81, SOS)."""
_SCAN_HEADER = 14


def prints_of(data: bytes) -> list[dict[str, Any]]:
    """``place``, ``rolling`` and ``digest`` of stretches of an encoded video, at most ``STRETCHES``, by place.

    None of a video whose pictures are too uniform to have any, and of bytes that are no video any more.
    """
    tails = [tail for packet in _packets(data) if len(tail := _tail(packet)) >= STRETCH]
    part = max(1, -(-sum(map(len, tails)) // STRETCHES))
    found: dict[int, dict[str, Any]] = {}
    passed, wanted = 0, 0  # bytes of tails gone through, and where the next stretch is to be at the earliest
    for tail in tails:
        for start in range(0, len(tail) - STRETCH + 1, STRETCH // 2):
            stretch = tail[start : start + STRETCH]
            # A container that cuts packets up (MPEG-TS) has some of them in no one place.
            if passed + start >= wanted and len(set(stretch)) >= DISTINCT and (place := data.find(stretch)) >= 0:
                found[place] = {"place": place} | print_of(stretch)
                wanted = ((passed + start) // part + 1) * part
        passed += len(tail)
    return [found[place] for place in sorted(found)]


def _packets(data: bytes) -> Iterator[bytes]:
    try:
        with av.open(io.BytesIO(data), "r", metadata_errors="replace") as container:
            for packet in container.demux(container.streams.video):
                if packet.size:
                    yield bytes(packet)
    except DECODER_ERRORS:
        return


def _tail(packet: bytes) -> bytes:
    """The part of a packet that is pictures and no header."""
    scan = packet.find(_SCAN) + _SCAN_HEADER if packet.startswith(b"\xff\xd8") else 0
    return packet[max(len(packet) // 4, scan) :]
