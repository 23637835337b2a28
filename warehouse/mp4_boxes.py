"""What FFmpeg does not say of an MP4 file, read from its boxes: whether its end is missing, or it is protected."""

import os
from collections.abc import Iterator
from typing import BinaryIO

_MOST_BOXES = 10_000
"""Boxes looked at in one file: a hostile one may hold a box in every eight bytes."""

# Where the description of a track's samples lies, each with the bytes between its header and its first inner box.
_WAY_TO_SAMPLES = {b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"stsd": 8}


def cut_short(file: BinaryIO) -> str | None:
    """How an MP4 whose last box runs past the end of the file was cut; ``None`` for anything else."""
    size = file.seek(0, os.SEEK_END)
    last = (b"", 0)
    for number, (kind, _, end) in enumerate(_boxes(file, 0, size)):
        if number == 0 and kind != b"ftyp":
            return None
        last = (kind, end)
    kind, end = last
    return f"the last box ({kind.decode('ascii', 'replace')}) ends at {end}, the file at {size}" if end > size else None


def is_protected(file: BinaryIO) -> bool:
    """Whether an MP4 declares a video track of protected samples (a sample entry ``encv``)."""
    pending = [(0, file.seek(0, os.SEEK_END))]
    seen = 0
    while pending and seen < _MOST_BOXES:
        for kind, start, end in _boxes(file, *pending.pop()):
            seen += 1
            if kind == b"encv":
                return True
            if kind in _WAY_TO_SAMPLES:
                pending.append((start + _WAY_TO_SAMPLES[kind], end))
    return False


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content and end of the boxes between two places of a file; the last may end past ``end``."""
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        header = file.read(16)
        length, kind, content = int.from_bytes(header[:4]), header[4:8], 8
        if length == 1:
            length, content = int.from_bytes(header[8:16]), 16
        elif length == 0:  # to the end of the file
            length = end - start
        if length < content:
            return
        yield kind, start + content, start + length
        start += length
