"""Pairs of clips that show the same thing: candidates by their key frames, verified frame by frame.

What has been compared is remembered under the data root, and a search after new clips have come compares only these
with all others. It finds what a search from nothing finds: a pair depends on its two clips, on which clips share its
buckets, and on which are preferred, and these are looked at anew each time.

Known to be missed: crops of more than a quarter, or far off the centre; pictures in a picture whose edges do not show;
most copies with a logo of 3 % of the area or turned by 3 degrees; two clips of which less than ``MIN_COVERAGE`` of the
shorter is common.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from warehouse.curation import alignment, candidates
from warehouse.curation.alignment import Alignment, align
from warehouse.curation.candidates import FLIPPED, INSIDE_FIRST, INSIDE_SECOND, Searched, find_candidates, unpack
from warehouse.curation.clip_frames import ClipFrames, write_clip_frames
from warehouse.curation.hash_bits import LOW_WORDS, MIRROR_WORDS
from warehouse.curation.hash_rows import SEARCHED_IN, VARIANTS
from warehouse.curation.key_frames import REACH, SHORT, KeyFrames, key_frames, save_arrays
from warehouse.engine import Failure, available_cores, map_unordered

SEARCH_VERSION = 2
"""Raise it when candidates or verification give other results: nothing compared before is trusted."""

_PICTURE = tuple(range(SEARCHED_IN))
_INSIDE = tuple(range(SEARCHED_IN, len(VARIANTS)))
_INSET = VARIANTS.index("inset")
_CHUNK = 512
_ALONE = 20 * _CHUNK
"""Up to so many pairs, which take some seconds, no other processes are started."""
_CHUNK_SECONDS = 600.0
# So many frames of a clip are looked at first, of which so many must occur in the other.
_LOOKED_AT, _LOOKED_AT_OCCUR = 8, 3
MATCH = np.dtype([("pair", "u8"), ("inliers", "i4"), ("coverage", "f8"), ("mean_distance", "f8"), ("offset_ms", "i8")])
"""A verified pair: :func:`candidates.pack` of two clip numbers, and its :class:`Alignment`."""


@dataclass(frozen=True)
class Compared:
    """The clips that are compared, numbered in the order of their ids.

    Attributes:
        ids: ascending, bytes (n,).
        source: of the file that is compared, place in ``sources``, int16 (n,).
        rank: the lowest is preferred, int64 (n,).
        sources: names.
    """

    ids: np.ndarray
    source: np.ndarray
    rank: np.ndarray
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """All verified pairs, ascending, and how many had to be compared for that."""

    matches: np.ndarray
    compared: int


def find_matches(compared: Compared, hash_files: Mapping[str, tuple[Path, str]], memory: Path) -> Found:
    """All verified pairs among the clips.

    Args:
        compared: the clips.
        hash_files: for each source its part of ``frame_hashes`` and the fingerprint of that file's content.
        memory: folder for what is remembered. It may be deleted at any time: all is then compared again.
    """
    frames = [key_frames(*hash_files[name], memory / "key_frames" / f"{name}.npz") for name in compared.sources]
    # Arrow keeps what it has read with; the search is about to take the most memory of all.
    pa.default_memory_pool().release_unused()
    searched, checksum, earlier = _prepare(compared, frames, memory / "matches.npz")
    found = find_candidates(searched)
    del searched
    # An edge between unchanged clips that is a candidate still holds; one that is none any more does not.
    standing = np.isin(earlier["pair"], np.union1d(found.known, found.to_compare))
    kept = earlier[standing]
    todo = np.setdiff1d(found.to_compare, kept["pair"])
    memory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=memory, prefix="frames.") as folder:
        _write_frames(todo, compared, hash_files, Path(folder))
        fresh = _verify_all(todo, folder)
    matches = np.sort(np.concatenate([kept, fresh]), order="pair")
    save_arrays(
        memory / "matches.npz",
        {"version": np.array(_version()), "ids": compared.ids, "checksum": checksum, "matches": matches,
         "large": np.concatenate(found.large), "large_counts": np.array([len(keys) for keys in found.large])},
    )  # fmt: skip
    return Found(_strongest(matches), len(todo))


def _version() -> str:
    """What an earlier search must agree in for its comparisons to be trusted."""
    searched = (REACH.tolist(), SHORT)
    paired = (candidates.BANDS, candidates.BAND_BITS, candidates.BUCKET_CAP, candidates.CLOSE)
    return f"{SEARCH_VERSION} {searched} {paired} {alignment.GRID_MS}"


def _prepare(
    compared: Compared, frames: list[KeyFrames], memory: Path
) -> tuple[Searched, np.ndarray, np.ndarray]:
    """What is searched, the clips' checksums, and the matches remembered between clips that have not changed."""
    checksum = np.zeros(len(compared.ids), np.uint64)
    # By source, the number among all clips of each of its clips; -1: it is not compared by this source's file.
    numbers = []
    for place, known in enumerate(frames):
        number = np.searchsorted(compared.ids, known.ids)
        there = np.take(compared.ids, number, mode="clip") == known.ids if len(compared.ids) else known.ids == b"-"
        there &= np.take(compared.source, number, mode="clip") == place if len(compared.ids) else True
        checksum[number[there]] = known.checksum[there]
        numbers.append(np.where(there, number, -1).astype(np.int32))
    clip, roles, hashes = _key_frames_by_role(frames, numbers)
    fresh, linked = np.ones(len(compared.ids), bool), np.zeros(len(compared.ids), bool)
    earlier, large = np.empty(0, MATCH), []
    if memory.exists():
        with np.load(memory) as then:
            if str(then["version"]) == _version():
                fresh, earlier = _unchanged(compared.ids, checksum, then)
                large = np.split(then["large"], np.cumsum(then["large_counts"])[:-1])
    for ends in unpack(earlier["pair"])[:2]:
        linked[ends] = True
    searched = Searched(clip, roles, hashes, compared.rank, compared.source, fresh, linked, large)
    return searched, checksum, earlier


def _key_frames_by_role(
    frames: list[KeyFrames], numbers: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip numbers, roles and hashes of all key frames, those that are indexed first.

    Most of the search's memory is these, so they are read into their places, a block at a time.
    """
    clips, chosen = [], []
    for known, number in zip(frames, numbers, strict=True):
        for clip, variant in known.places():
            compared = number[clip] >= 0
            whole = variant < SEARCHED_IN
            clips.append(number[clip])
            chosen.append([np.flatnonzero(rows).astype(np.int32) for rows in (compared & whole, compared & ~whole)])
    counts = [sum(len(of_block[role]) for of_block in chosen) for role in (0, 1)]
    roles = np.repeat(np.array([candidates.INDEXED, candidates.CENTRE], np.int8), counts)
    all_clips, all_hashes = np.empty(len(roles), np.int32), np.empty((len(roles), 4), np.uint64)
    ends = [0, counts[0]]
    blocks = (hashes for known in frames for hashes in known.hashes())
    for clip, of_block, hashes in zip(clips, chosen, blocks, strict=True):
        for role, rows in enumerate(of_block):
            put = slice(ends[role], ends[role] + len(rows))
            all_clips[put], all_hashes[put] = clip[rows], hashes[rows]
            ends[role] = put.stop
    return all_clips, roles, all_hashes


def _unchanged(ids: np.ndarray, checksum: np.ndarray, then: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Which clips are new or changed, and the earlier matches of the others in today's numbers."""
    place = np.searchsorted(ids, then["ids"])
    same = (np.take(ids, place, mode="clip") == then["ids"]) if len(ids) else np.zeros(len(place), bool)
    same &= (np.take(checksum, place, mode="clip") == then["checksum"]) if len(ids) else False
    fresh = np.ones(len(ids), bool)
    fresh[place[same]] = False
    matches = then["matches"]
    a, b, how = unpack(matches["pair"])
    standing = same[a] & same[b]
    matches = matches[standing]
    matches["pair"] = candidates.pack(place[a[standing]], place[b[standing]], how[standing])
    return fresh, matches


def _write_frames(
    pairs: np.ndarray, compared: Compared, hash_files: Mapping[str, tuple[Path, str]], folder: Path
) -> None:
    """Write the :class:`ClipFrames` of the clips of ``pairs``."""
    needed = np.zeros(len(compared.ids), bool)
    for ends in unpack(pairs)[:2]:
        needed[ends] = True
    files = []
    for place, name in enumerate(compared.sources):
        numbers = np.flatnonzero(needed & (compared.source == place))
        if len(numbers):
            files.append((hash_files[name][0], compared.ids[numbers], numbers))
    write_clip_frames(folder, len(compared.ids), files)


def _verify_all(pairs: np.ndarray, folder: str) -> np.ndarray:
    """Those of the pairs that hold, as ``MATCH``; ``folder`` has the frames of their clips."""
    units = [[(folder, pairs[start : start + _CHUNK])] for start in range(0, len(pairs), _CHUNK)]
    held = [np.empty(0, MATCH)]
    if len(pairs) <= _ALONE:
        held += [result for unit in units for result in _verify_unit(unit)]
        return np.concatenate(held)
    with tqdm(desc="compare pairs", total=len(pairs), unit="pair") as bar:
        for unit, results in map_unordered(_verify_unit, units, workers=available_cores(), timeout_s=_CHUNK_SECONDS):
            for result in results:
                if isinstance(result, Failure):
                    raise RuntimeError(f"comparing pairs of clips: {result.error_class}: {result.detail}")
                held.append(result)
            bar.update(len(unit[0][1]))
    return np.concatenate(held)


@lru_cache(maxsize=1)
def _opened(folder: str) -> ClipFrames:
    return ClipFrames(Path(folder))


def _verify_unit(chunks: list[tuple[str, np.ndarray]]) -> list[np.ndarray]:
    """Of each chunk of pairs those that hold."""
    results = []
    for folder, pairs in chunks:
        frames, held = _opened(folder), []
        pairs = pairs[_plausible(frames, *unpack(pairs))]
        for pair, a, b, how in zip(pairs, *unpack(pairs), strict=True):
            best = _verify(frames, int(a), int(b), int(how))
            if best is not None:
                held.append((int(pair), best.inliers, best.coverage, best.mean_distance, best.offset_ms))
        results.append(np.array(held, MATCH))
    return results


def _plausible(frames: ClipFrames, a: np.ndarray, b: np.ndarray, how: np.ndarray) -> np.ndarray:
    """Which pairs are worth aligning, bool (n,): of some frames of the shorter clip enough occur in the other.

    A copy agrees in ``MIN_COVERAGE`` of the shorter clip. What shares a title card with it does not.
    """
    ends = [frames.variants(clip, _PICTURE) for clip in (a, b)]
    for side, inside in ((0, INSIDE_FIRST), (1, INSIDE_SECOND)):
        of_centre = frames.variants((a, b)[side], _INSIDE)
        variants, start, count = (np.where(how == inside, x, y) for x, y in zip(of_centre, ends[side], strict=True))
        ends[side] = variants, start, count
    swapped = ends[0][2] > ends[1][2]
    few, many = ([np.where(swapped, y, x) for x, y in zip(*pair, strict=True)] for pair in (ends, ends[::-1]))
    spread = few[1][:, None] + np.arange(_LOOKED_AT) * (few[2][:, None] - 1) // (_LOOKED_AT - 1)
    longest = int(many[2].max(initial=1))
    every = many[1][:, None] + np.minimum(np.arange(longest), many[2][:, None] - 1)
    flip = np.where((how == FLIPPED)[:, None, None], MIRROR_WORDS, np.uint64(0))
    looked_at, others = frames.rows(spread) ^ flip, frames.rows(every)
    low = np.zeros((len(a), _LOOKED_AT, longest), np.uint8)
    for word in np.flatnonzero(LOW_WORDS):
        low += np.bitwise_count((looked_at[:, :, None, word] ^ others[:, None, :, word]) & LOW_WORDS[word])
    occur = (low <= alignment.FRAME_DISTANCE_LOW).any(axis=2).sum(axis=1)
    return (occur >= _LOOKED_AT_OCCUR) | (few[0] > 1) | (many[0] > 1)


def _verify(frames: ClipFrames, a: int, b: int, how: int) -> Alignment | None:
    """The best alignment over the variants of both clips, or ``None`` if none holds."""
    of_a = frames.of(a, _INSIDE if how == INSIDE_FIRST else _PICTURE)
    of_b = frames.of(b, _INSIDE if how == INSIDE_SECOND else _PICTURE)
    if how == FLIPPED:
        of_a = {variant: (times, hashes ^ MIRROR_WORDS) for variant, (times, hashes) in of_a.items()}
    # What looks like an inset may be a window or a screen that clips of one room share: its motion has to tell.
    found = [align(x, y, strict=_INSET in (i, j)) for i, x in of_a.items() for j, y in of_b.items()]
    return max((f for f in found if f), key=lambda f: (f.inliers, -f.mean_distance), default=None)


def _strongest(matches: np.ndarray) -> np.ndarray:
    """Of a pair found in several ways one: that of the smallest distance, and mirrored only if in no other way."""
    a, b, how = unpack(matches["pair"])
    order = np.lexsort((matches["mean_distance"], how == FLIPPED, b, a))
    first = np.r_[True, (np.diff(a[order]) != 0) | (np.diff(b[order]) != 0)][: len(order)]
    return matches[np.sort(order[first])]
