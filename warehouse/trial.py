"""A trial before a run: what a few clips of a source cost to probe and to encode."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2

from warehouse.config import Source
from warehouse.curation.probe import probe_and_hash
from warehouse.engine import Failure, map_unordered
from warehouse.error_classes import MediaError
from warehouse.media_bytes import open_bytes
from warehouse.media_file import MediaFile
from warehouse.shards.encoding import encode
from warehouse.shards.errors import RenditionError
from warehouse.shards.rendition import ORIGINAL

SECONDS_A_CLIP = 60.0


@dataclass(frozen=True)
class TrialClip:
    """A clip to try: its source's name and stride, its file, and the rendition that it would be stored in."""

    source: str
    media: MediaFile
    stride: int
    rendition: str


@dataclass(frozen=True)
class ClipCost:
    """What one clip took of one process.

    ``duration_s``, ``encode_s`` and ``stored_bytes`` are None for a file that cannot be used.
    """

    source: str
    probe_s: float
    hashes: int
    duration_s: float | None
    encode_s: float | None
    stored_bytes: int | None


def choose(source: Source, rendition: str, files: Sequence[MediaFile], count: int) -> list[TrialClip]:
    """``count`` of the clips' files, evenly spread over their order (all of them if there are fewer)."""
    count = min(count, len(files))
    spread = [files[(2 * i + 1) * len(files) // (2 * count)] for i in range(count)]
    return [TrialClip(source.name, file, source.stride, rendition) for file in spread]


def try_clips(clips: Sequence[TrialClip], workers: int) -> Iterator[ClipCost | None]:
    """Measure the clips in as many processes as the run would use; None for one that crashed or hung its decoder."""
    units = [[clip] for clip in clips]
    for _, results in map_unordered(_measure_all, units, workers=workers, timeout_s=SECONDS_A_CLIP):
        yield from (None if isinstance(result, Failure) else result for result in results)


def _measure_all(clips: list[TrialClip]) -> list[ClipCost]:
    cv2.setNumThreads(1)
    return [_measure(clip) for clip in clips]


def _measure(clip: TrialClip) -> ClipCost:
    started = time.perf_counter()
    found = probe_and_hash(clip.media)
    probe_s = time.perf_counter() - started
    unusable = ClipCost(clip.source, probe_s, 0, None, None, None)
    if found.media["status"] != "ok":
        return unusable
    started = time.perf_counter()
    try:
        if clip.rendition == ORIGINAL:
            with open_bytes(clip.media) as file:
                size = len(file.read())
        else:
            size = len(encode(clip.media, clip.rendition, clip.stride, found.media["fps"]).data)
    except (RenditionError, MediaError, OSError):
        return unusable
    encode_s = time.perf_counter() - started
    return ClipCost(clip.source, probe_s, len(found.hashes), found.media["duration_ms"] / 1000, encode_s, size)
