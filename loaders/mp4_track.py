"""The video track of a plain MP4 (ISO/IEC 14496-12), read from its tables: where each packet is, and when it is shown.

FFmpeg's demuxer gives the same of any file, but it decodes a frame or two to say what is in there, and makes an object
of each packet: a sixth of the time that a view of a rendition's clip takes. The tables alone take a thirtieth.
"""

from dataclasses import dataclass
from itertools import accumulate, chain, repeat
from operator import add
from struct import error as StructError
from struct import unpack_from

_ENTRY = 78  # bytes of a video's sample entry before its boxes (12.1.3)
_MJPEG = 0x6C  # objectTypeIndication of JPEG (14496-1, table 5)
_ES, _DECODER_CONFIG = 3, 4  # tags of descriptors (14496-1, table 1)
_NORMAL_RATE = 1 << 16

Span = tuple[int, int]


@dataclass(frozen=True)
class Mp4Track:
    """Packets in decoding order: the first byte of each in the file, its size, and when it is shown.

    ``times`` are of the track's clock, ``keyframes`` places among the packets, ascending. ``codec`` is FFmpeg's name,
    ``extradata`` what its decoder is given before the first packet; ``description`` is the content of the box ``stsd``
    that holds it; ``matrix`` and ``colour_range`` are the numbers of ``AVColorSpace`` and ``AVColorRange`` that the
    container states, 2 and 0 (unspecified) where it states none.
    """

    codec: str
    extradata: bytes | None
    description: bytes
    matrix: int
    colour_range: int
    starts: list[int]
    sizes: tuple[int, ...]
    times: list[int]
    keyframes: tuple[int, ...]


def read_track(data: bytes, frames: int) -> Mp4Track | None:
    """The only video track, H.264 or Motion JPEG with so many frames; ``None`` for anything else.

    None, too, if the file plays other than its packets lie there: a part of them, at another rate, from several
    descriptions, or in fragments. FFmpeg's demuxer knows what to do then.
    """
    try:
        return _track(data, frames) if data[4:8] == b"ftyp" else None
    except (_NotPlainError, StructError, LookupError, ValueError):
        return None  # odd or damaged: FFmpeg says what it thinks of it


class _NotPlainError(Exception):
    pass


def _require(plain: bool) -> None:
    if not plain:
        raise _NotPlainError


def _track(data: bytes, frames: int) -> Mp4Track:
    moov = _boxes(data, 0, len(data))[b"moov"][0]
    inside = _boxes(data, *moov)
    _require(b"mvex" not in inside)  # fragments
    videos = []
    for span in inside[b"trak"]:
        trak = _boxes(data, *span)
        mdia = _boxes(data, *trak[b"mdia"][0])
        handler = mdia[b"hdlr"][0][0] + 8
        if data[handler : handler + 4] == b"vide":
            videos.append((trak, mdia))
    [(trak, mdia)] = videos if len(videos) == 1 else [({}, {})]
    stbl = _boxes(data, *_boxes(data, *mdia[b"minf"][0])[b"stbl"][0])
    tables = {kind: spans[0] for kind, spans in stbl.items()}

    codec, extradata, matrix, colour_range = _entry(data, tables[b"stsd"])
    # Without a table of keyframes all are; encoders of H.264 have been known to mean something else.
    _require(b"stss" in tables or codec == "mjpeg")
    keyframes = tuple(n - 1 for n in _numbers(data, tables[b"stss"], 1)) if b"stss" in tables else tuple(range(frames))
    _require(min(keyframes, default=-1) >= 0 and max(keyframes) < frames)
    sizes = _sizes(data, tables[b"stsz"], frames)
    times = _times(data, tables, frames)
    if b"edts" in trak:
        clocks = (_clock(data, mdia[b"mdhd"][0]), _clock(data, inside[b"mvhd"][0]))
        _check_edit(data, _boxes(data, *trak[b"edts"][0])[b"elst"][0], clocks, times)
    starts = _starts(data, tables, sizes)
    _require(max(map(add, starts, sizes)) <= len(data))
    description = data[slice(*tables[b"stsd"])]
    return Mp4Track(codec, extradata, description, matrix, colour_range, starts, sizes, times, keyframes)


def _boxes(data: bytes, start: int, end: int) -> dict[bytes, list[Span]]:
    """The contents of the boxes between two places, by kind."""
    found: dict[bytes, list[Span]] = {}
    while start + 8 <= end:
        length, kind = unpack_from(">I4s", data, start)
        content = start + 8
        if length == 1:
            [length], content = unpack_from(">Q", data, content), content + 8
        elif length == 0:
            length = end - start
        _require(content - start <= length <= end - start)
        start += length
        found.setdefault(kind, []).append((content, start))
    return found


def _numbers(data: bytes, table: Span, columns: int) -> tuple[int, ...]:
    """The 32-bit numbers of a table's rows, one row after the other."""
    start, end = table
    [rows] = unpack_from(">I", data, start + 4)
    _require(start + 8 + 4 * columns * rows <= end)
    return unpack_from(f">{columns * rows}i", data, start + 8)


def _entry(data: bytes, stsd: Span) -> tuple[str, bytes | None, int, int]:
    [(kind, spans)] = _boxes(data, stsd[0] + 8, stsd[1]).items()
    _require(len(spans) == 1)
    inside = {name: data[slice(*span)] for name, [span, *_] in _boxes(data, spans[0][0] + _ENTRY, spans[0][1]).items()}
    _require(b"fiel" not in inside)  # fields: which comes first would have to be passed on
    matrix, colour_range = 2, 0
    if b"colr" in inside:
        colours, matrix, full = unpack_from(">4s4xHB", inside[b"colr"])
        _require(colours == b"nclx")
        colour_range = 2 if full & 0x80 else 1
    if kind == b"avc1":
        return "h264", inside[b"avcC"], matrix, colour_range
    _require(kind == b"mp4v" and _object_type(inside[b"esds"]) == _MJPEG)
    return "mjpeg", None, matrix, colour_range


def _object_type(esds: bytes) -> int:
    """What an elementary stream's descriptor says that it is (14496-1, 7.2.6)."""
    at = 4  # version and flags
    for tag, skipped in ((_ES, 3), (_DECODER_CONFIG, 0)):
        _require(esds[at] == tag)
        at += 1
        while esds[at] & 0x80:  # a length in bytes of seven bits
            at += 1
        at += 1 + skipped
    return esds[at]


def _sizes(data: bytes, stsz: Span, frames: int) -> tuple[int, ...]:
    each, number = unpack_from(">II", data, stsz[0] + 4)
    _require(each == 0 and number == frames and stsz[0] + 12 + 4 * number <= stsz[1])
    sizes = unpack_from(f">{number}I", data, stsz[0] + 12)
    _require(all(sizes))
    return sizes


def _times(data: bytes, tables: dict[bytes, Span], frames: int) -> list[int]:
    durations = _repeated(_numbers(data, tables[b"stts"], 2), frames)
    times = list(accumulate(durations[:-1], initial=0))
    if b"ctts" in tables:
        times = list(map(add, times, _repeated(_numbers(data, tables[b"ctts"], 2), frames)))
    _require(len(set(times)) == frames)
    return times


def _repeated(runs: tuple[int, ...], total: int) -> list[int]:
    """Of pairs (count, number) each number so often."""
    counts = runs[::2]
    _require(min(counts, default=-1) >= 0 and sum(counts) == total)
    return list(chain.from_iterable(map(repeat, runs[1::2], counts)))


def _clock(data: bytes, header: Span) -> int:
    """Ticks a second, of the header of a movie or of a track's media."""
    return unpack_from(">I", data, header[0] + (20 if data[header[0]] == 1 else 12))[0]


def _check_edit(data: bytes, elst: Span, clocks: tuple[int, int], times: list[int]) -> None:
    """An edit list may say when the first frame is shown, and must leave none out."""
    number, length, first, rate = unpack_from(">IQqI" if data[elst[0]] == 1 else ">IIiI", data, elst[0] + 4)
    of_media, of_movie = clocks
    _require(number == 1 and rate == _NORMAL_RATE and 0 <= first <= min(times))
    _require((max(times) - first) * of_movie < length * of_media)


def _starts(data: bytes, tables: dict[bytes, Span], sizes: tuple[int, ...]) -> list[int]:
    """The first byte of each packet: they lie end to end in chunks."""
    if b"stco" in tables:
        chunks: tuple[int, ...] = tuple(n & 0xFFFFFFFF for n in _numbers(data, tables[b"stco"], 1))
    else:
        halves = [n & 0xFFFFFFFF for n in _numbers(data, tables[b"co64"], 2)]
        chunks = tuple(high << 32 | low for high, low in zip(halves[::2], halves[1::2], strict=True))
    runs = _numbers(data, tables[b"stsc"], 3)  # the first chunk of a run, counted from 1; packets in each; description
    firsts, packets_in, descriptions = runs[::3], runs[1::3], runs[2::3]
    _require(firsts[0] == 1 and set(descriptions) == {1} and min(packets_in) > 0)
    ends = (*firsts[1:], len(chunks) + 1)
    starts: list[int] = []
    for first, end, packets in zip(firsts, ends, packets_in, strict=True):
        _require(first < end <= len(chunks) + 1)
        for chunk in chunks[first - 1 : end - 1]:
            _require(len(starts) + packets <= len(sizes))
            here = len(starts)
            starts.extend(accumulate(sizes[here : here + packets - 1], initial=chunk))
    _require(len(starts) == len(sizes))
    return starts
