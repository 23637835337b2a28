"""Writing a plain MP4 (ISO/IEC 14496-12) of packets that another one held. FFmpeg's muxer takes ten times as long."""

from collections.abc import Sequence
from struct import pack

_CLOCK = 30  # ticks a second; nothing depends on it
_MATRIX = pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)  # neither turned nor scaled
_UNDEFINED = 0x55C4  # the language "und"
_IN_THIS_FILE = (int.from_bytes(b"url ", "big"), 1)  # where a data reference says that the packets are


def write_track(
    description: bytes, packets: Sequence[memoryview], shown_at: Sequence[int], keyframes: Sequence[int]
) -> bytes:
    """A video of these packets, in decoding order, each a tick after the one before.

    Args:
        description: the content of the box ``stsd`` of the video that the packets are from.
        shown_at: of each packet, its frame's place in presentation order: 0 to the number of packets less one.
        keyframes: places of packets that are marked as such, ascending.
    """
    number = len(packets)
    # How far decoding must run ahead of showing, so that no packet is decoded after its time.
    ahead = max(place - shown for place, shown in enumerate(shown_at))
    head = _box(b"ftyp", b"isom", pack(">I", 0x200), b"isomiso2mp41")
    offsets = [shown + ahead - place for place, shown in enumerate(shown_at)]
    tables = _box(
        b"stbl",
        _box(b"stsd", description),
        _table(b"stts", 1, number, 1),
        _table(b"ctts", number, *(n for offset in offsets for n in (1, offset))),
        _table(b"stss", len(keyframes), *(place + 1 for place in keyframes)),
        _table(b"stsc", 1, 1, number, 1),
        _box(b"stsz", pack(f">{number + 3}I", 0, 0, number, *map(len, packets))),
        _table(b"stco", 1, len(head) + 8),
    )
    media = _box(
        b"mdia",
        _box(b"mdhd", pack(">5I2H", 0, 0, 0, _CLOCK, number, _UNDEFINED, 0)),
        _box(b"hdlr", bytes(8), b"vide", bytes(13)),
        _box(b"minf", _box(b"vmhd", pack(">IQ", 1, 0)), _box(b"dinf", _table(b"dref", 1, 12, *_IN_THIS_FILE)), tables),
    )
    header = _box(b"tkhd", pack(">6I", 3, 0, 0, 1, 0, number), bytes(16), _MATRIX, bytes(8))
    # Showing begins with the first frame, not `ahead` ticks before it.
    edit = _box(b"edts", _table(b"elst", 1, number, ahead, 1 << 16))
    movie = _box(
        b"mvhd", pack(">5IIH", 0, 0, 0, _CLOCK, number, 1 << 16, 0x100), bytes(10), _MATRIX, bytes(24), pack(">I", 2)
    )
    return b"".join([head, _box(b"mdat", *packets), _box(b"moov", movie, _box(b"trak", header, edit, media))])


def _box(kind: bytes, *parts: bytes | memoryview) -> bytes:
    return b"".join([pack(">I", 8 + sum(map(len, parts))), kind, *parts])


def _table(kind: bytes, rows: int, *numbers: int) -> bytes:
    return _box(kind, pack(f">{2 + len(numbers)}I", 0, rows, *numbers))
