"""Finding a clip's bytes again without keeping them: stretches of its encoded video as hashes, and its id.

A stretch has a rolling hash, which is had for every place of a file by a few passes of additions, and a digest that
settles what the hash suggests. Both are facts about the clip, as its SHA-256 is: nothing can be seen in them.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

STRETCH = 64
"""Bytes of a stretch: a power of two."""
KEY = 32
"""Bytes of a clip id as text: a power of two below ``STRETCH``."""

_BLOCK = 1 << 18
_FACTOR = 0x9E3779B1
_SPREAD = np.random.Philox(key=[20261123, 0]).random_raw(256).astype(np.uint32)


def print_of(stretch: bytes) -> dict[str, Any]:
    """``rolling`` and ``digest`` of a stretch of ``STRETCH`` bytes."""
    return {"rolling": int(_rolling(np.frombuffer(stretch, np.uint8))[STRETCH][0]), "digest": _digest(stretch)}


@dataclass(frozen=True)
class Traces:
    """What was found of clips in a file: ids of those of whose bytes it has a stretch, and of those that it names."""

    bytes_of: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.bytes_of or self.names)


class Search:
    """A search for clips: for their ids as text, and for stretches of their bytes.

    Args:
        prints: of ``content_prints``, the rows of these clips.
        clips: their ids.
    """

    def __init__(self, prints: pa.Table, clips: Collection[str]) -> None:
        keys = sorted(clips)
        rolling = [_rolling(np.frombuffer(key.encode(), np.uint8))[KEY][0] for key in keys]
        digests = pa.chunked_array([[_digest(key.encode()) for key in keys]], pa.string())
        self._wanted = {
            STRETCH: _Wanted(prints["rolling"].to_numpy(), prints["digest"], prints["clip_id"]),
            KEY: _Wanted(np.array(rolling, np.uint32), digests, pa.chunked_array([keys], pa.string())),
        }

    def traces(self, file: BinaryIO) -> Traces:
        """What is left of the clips in a file, which is read from where it stands to its end.

        Compressed or encoded text (base64, gzip) is not looked into.
        """
        found: dict[int, set[str]] = {STRETCH: set(), KEY: set()}
        kept = b""
        while block := file.read(_BLOCK):
            window = kept + block
            rolling = _rolling(np.frombuffer(window, np.uint8))
            for size, wanted in self._wanted.items():
                for place in wanted.suspects(rolling.get(size, np.empty(0, np.uint32))):
                    found[size] |= wanted.clips(rolling[size][place], _digest(window[place : place + size]))
            kept = window[-(STRETCH - 1) :]
        return Traces(frozenset(found[STRETCH]), frozenset(found[KEY]))


class _Wanted:
    """What is looked for, by rolling hash: digests and the clips that they are of."""

    def __init__(self, rolling: np.ndarray, digests: pa.ChunkedArray, clips: pa.ChunkedArray) -> None:
        order = np.argsort(rolling, kind="stable")
        self._rolling = rolling[order].astype(np.uint32)
        self._digests, self._clips = (column.combine_chunks().take(pa.array(order)) for column in (digests, clips))
        # Most places are settled by their hash's upper bits: a small table, of which one in 32 or less is set.
        bits = min(24, max(16, len(rolling).bit_length() + 5))
        self._shift = np.uint32(32 - bits)
        self._table = np.zeros(1 << bits, bool)
        self._table[self._rolling >> self._shift] = True

    def suspects(self, hashes: np.ndarray) -> list[int]:
        """Places whose hash is one that is looked for."""
        if not len(self._rolling):
            return []
        likely = np.flatnonzero(self._table[hashes >> self._shift])
        at = np.minimum(np.searchsorted(self._rolling, hashes[likely]), len(self._rolling) - 1)
        return list(likely[self._rolling[at] == hashes[likely]])

    def clips(self, rolling: np.uint32, digest: str) -> set[str]:
        """The clips of which this is a part. (Looking for a Python integer, NumPy would convert the whole array.)"""
        first, end = np.searchsorted(self._rolling, rolling), np.searchsorted(self._rolling, rolling, "right")
        return {self._clips[i].as_py() for i in range(first, end) if self._digests[i].as_py() == digest}


def _rolling(data: np.ndarray) -> dict[int, np.ndarray]:
    """Polynomial hashes of the ``KEY`` and ``STRETCH`` bytes from each place on, uint32 (places,), where they fit."""
    hashes, size, factor = _SPREAD[data], 1, _FACTOR
    found = {}
    while size < STRETCH and len(hashes) > size:
        hashes = hashes[:-size] * np.uint32(factor) + hashes[size:]
        size, factor = 2 * size, factor * factor % 2**32
        if size in (KEY, STRETCH):
            found[size] = hashes
    return found


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
