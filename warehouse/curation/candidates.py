"""Pairs of clips worth comparing: those with a key frame each that agree in a band of bits.

A band is a random choice of low-frequency bits. Key frames that agree in all bits of a band lie in one bucket, and a
bucket's clips are paired if their frames are close in all bits too. One band at a time is sorted, and then gone through
a part at a time, so memory is that of the key frames and one band's keys.

A bucket of many clips (a title card, a clip copied 500 times, a tabletop that hundreds of clips show) would give too
many pairs: there each clip is paired only with the preferred clip of every source.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from warehouse.curation.alignment import FRAME_DISTANCE_LOW
from warehouse.curation.hash_bits import LOW, LOW_WORDS, MIRROR_WORDS, distance, words

BANDS, BAND_BITS, BAND_SEED = 24, 28, 20240
BUCKET_CAP = 64
"""Frames of different clips in one bucket that are all paired."""

CLOSE = 84
"""Bits of 256 in which frames of a candidate pair differ at most: 4 standard deviations below unrelated ones that share
a band, of which a million clips have some ten million in each."""

INDEXED, CENTRE, MIRRORED = 0, 1, 2
"""What a frame is in the search: indexed frames are searched in; the others are only searched with."""

STRAIGHT, FLIPPED, INSIDE_FIRST, INSIDE_SECOND = 0, 1, 2, 3
"""How two clips resemble each other: as they are, one mirrored, or one as the centre of the first or second."""

_PLACE_BITS = np.uint64(32)
_BLOCK = 1 << 22
_MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)


@dataclass(frozen=True)
class Searched:
    """The key frames that are searched, and what is known of their clips.

    Attributes:
        clip: clip number, int32 (n,); frames of one clip and role are neighbours.
        role: ``INDEXED``, then ``CENTRE``, int8 (n,); mirrored ones are made from the indexed.
        hashes: uint64 (n, 4).
        rank: of each clip, int64 (clips,): the lowest is preferred.
        source: of each clip, int16 (clips,).
        fresh: clips to be compared with all others, bool (clips,).
        linked: other clips of which a pair may be known, bool (clips,).
        large: by band, keys (uint32) of buckets that were above the cap before.
    """

    clip: np.ndarray
    role: np.ndarray
    hashes: np.ndarray
    rank: np.ndarray
    source: np.ndarray
    fresh: np.ndarray
    linked: np.ndarray
    large: list[np.ndarray]


@dataclass
class Candidates:
    """Pairs packed by :func:`pack`, each once, ascending.

    Attributes:
        to_compare: pairs of which nothing can be known from an earlier search.
        known: pairs of linked clips that an earlier search has compared.
        large: by band, keys of the buckets above the cap.
    """

    to_compare: np.ndarray
    known: np.ndarray
    large: list[np.ndarray] = field(default_factory=list)


def pack(a: np.ndarray, b: np.ndarray, how: np.ndarray) -> np.ndarray:
    """Pairs of clip numbers as uint64: the smaller and the larger (31 bits each), and how they resemble each other.

    Args:
        a, b: clip numbers.
        how: ``STRAIGHT``, ``FLIPPED``, or whose centre the other shows: that of ``a`` (``INSIDE_FIRST``) or of ``b``.
    """
    swapped = np.array([STRAIGHT, FLIPPED, INSIDE_SECOND, INSIDE_FIRST], np.uint64)
    how = np.where(a <= b, how, swapped[how]).astype(np.uint64)
    first, second = np.minimum(a, b).astype(np.uint64), np.maximum(a, b).astype(np.uint64)
    return first << np.uint64(33) | second << np.uint64(2) | how


def unpack(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(first, second, how)`` of :func:`pack`, int64."""
    return (
        (pairs >> np.uint64(33)).astype(np.int64),
        (pairs >> np.uint64(2) & np.uint64(0x7FFFFFFF)).astype(np.int64),
        (pairs & np.uint64(3)).astype(np.int64),
    )


def find_candidates(searched: Searched) -> Candidates:
    """Pairs to compare. What is found for two clips depends on the present key frames and ranks alone."""
    to_compare, known, large = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)], []
    frames = _Frames(searched)
    for band, mask in enumerate(band_masks()):
        before = searched.large[band] if searched.large else np.empty(0, np.uint32)
        keys_of_band = [np.empty(0, np.uint32)]
        for order in frames.by_key(mask):
            new, old, keys = _search_part(frames, searched, order, before)
            to_compare.append(new)
            known.append(old)
            keys_of_band.append(keys)
        large.append(np.concatenate(keys_of_band))
    compare = np.unique(np.concatenate(to_compare))
    # A pair that one band knows of and another does not has to be compared: an earlier search may not have met it.
    return Candidates(compare, np.setdiff1d(np.concatenate(known), compare), large)


def band_masks() -> list[np.ndarray]:
    """The bits of each band, uint64 (4,)."""
    rng = np.random.default_rng(BAND_SEED)
    low = np.flatnonzero(LOW)
    masks = []
    for _ in range(BANDS):
        bits = np.zeros(256, bool)
        bits[rng.choice(low, BAND_BITS, replace=False)] = True
        masks.append(words(bits))
    return masks


class _Frames:
    """The stored frames, followed by the indexed ones once more, mirrored, without a copy of their hashes."""

    def __init__(self, searched: Searched) -> None:
        self.hashes, self._clip, self._role = searched.hashes, searched.clip, searched.role
        self.stored = len(searched.clip)
        self.indexed = int(np.searchsorted(searched.role, CENTRE))

    def by_key(self, mask: np.ndarray) -> Iterator[np.ndarray]:
        """uint64, ascending: in the upper half the band's key, equal for frames that agree in its bits; their place.

        They come in parts of about a block. A bucket, whose frames have one key, is in one part.
        """
        order = np.arange(self.stored + self.indexed, dtype=np.uint64)
        for start in range(0, self.stored, _BLOCK):
            block = slice(start, min(start + _BLOCK, self.stored))
            order[block] |= _key(self.hashes[block], mask) << _PLACE_BITS
        for start in range(0, self.indexed, _BLOCK):
            end = min(start + _BLOCK, self.indexed)
            key = _key(self.hashes[start:end] ^ MIRROR_WORDS, mask)
            order[self.stored + start : self.stored + end] |= key << _PLACE_BITS
        order.sort()
        parts = max(1, len(order) // _BLOCK)
        first_keys = (np.arange(1, parts, dtype=np.uint64) << np.uint64(32)) // np.uint64(parts)
        yield from np.split(order, np.searchsorted(order, first_keys << _PLACE_BITS))

    def clip_and_role(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int32 and int8 (n,)."""
        mirrored = places >= self.stored
        stored = places - mirrored * self.stored
        return self._clip[stored], np.where(mirrored, np.int8(MIRRORED), self._role[stored])

    def bits(self, places: np.ndarray) -> np.ndarray:
        """Hashes uint64 (n, 4)."""
        mirrored = places >= self.stored
        return self.hashes[places - mirrored * self.stored] ^ np.where(mirrored[:, None], MIRROR_WORDS, np.uint64(0))


def _key(hashes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The band's bits mixed to 32, as uint64 (n,)."""
    mixed = np.zeros(len(hashes), np.uint64)
    for word in np.flatnonzero(mask):
        mixed ^= (hashes[:, word] & mask[word]) * _MIXERS[word]
    mixed ^= mixed >> np.uint64(31)
    mixed *= _MIXERS[0]
    return mixed >> np.uint64(32)


def _search_part(
    frames: _Frames, searched: Searched, order: np.ndarray, before: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs to compare, pairs that may be known, and the keys of large buckets, of one part of a band."""
    order = order[_shares(order)]
    key, place = (order >> _PLACE_BITS).astype(np.uint32), (order & np.uint64(0xFFFFFFFF)).astype(np.int64)
    # One frame of each clip in each role: frames of a clip are neighbours.
    clip, role = frames.clip_and_role(place)
    again = (key[1:] == key[:-1]) & (clip[1:] == clip[:-1]) & (role[1:] == role[:-1])
    once = np.r_[True, ~again][: len(key)]
    key, place, clip, role = key[once], place[once], clip[once], role[once]
    if len(key) == 0:
        return np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint32)

    start = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    size = np.diff(np.r_[start, len(key)])
    crowded = np.repeat(size > BUCKET_CAP, size)
    first, second = _all_pairs(key, np.flatnonzero(~crowded))
    star_first, star_second = _star_pairs(np.flatnonzero(crowded), key, clip, role, searched)
    # In a bucket that was large before, or is now, other pairs may have been compared than those of today.
    unsettled = np.r_[np.isin(key[first], before), np.ones(len(star_first), bool)]
    first, second = np.r_[first, star_first], np.r_[second, star_second]

    a, b = clip[first], clip[second]
    roles = role[first], role[second]
    wanted = (a != b) & ((roles[0] == INDEXED) | (roles[1] == INDEXED))
    new = searched.fresh[a] | searched.fresh[b] | unsettled
    wanted &= new | (searched.linked[a] & searched.linked[b])
    first, second, new = first[wanted], second[wanted], new[wanted]
    close = _close(frames, place[first], place[second])
    first, second, new = first[close], second[close], new[close]
    # One of the two is indexed, so the other's role says it all.
    of_first = np.array([STRAIGHT, INSIDE_FIRST, FLIPPED])[role[first]]
    of_second = np.array([STRAIGHT, INSIDE_SECOND, FLIPPED])[role[second]]
    pairs = pack(clip[first], clip[second], np.maximum(of_first, of_second))
    return np.unique(pairs[new]), np.unique(pairs[~new]), np.unique(key[start[size > BUCKET_CAP]])


def _shares(order: np.ndarray) -> np.ndarray:
    """Which places of ascending keys and places have a neighbour of the same key, bool (n,)."""
    key = order >> _PLACE_BITS
    equal = key[1:] == key[:-1]
    return np.r_[False, equal][: len(order)] | np.r_[equal, False][: len(order)]


def _all_pairs(key: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of ``members`` (places in ``key``) with the same key."""
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step in range(1, BUCKET_CAP):
        members = members[members + step < len(key)]
        members = members[key[members] == key[members + step]]
        if len(members) == 0:
            break
        first.append(members)
        second.append(members + step)
    return np.concatenate(first), np.concatenate(second)


def _star_pairs(
    crowd: np.ndarray, key: np.ndarray, clip: np.ndarray, role: np.ndarray, searched: Searched
) -> tuple[np.ndarray, np.ndarray]:
    """Each of the ``crowd`` with the preferred clip of each source in its bucket: of all and of the indexed frames."""
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for among in (crowd, crowd[role[crowd] == INDEXED]):
        if len(among) == 0:
            continue
        by_rank = among[np.lexsort((searched.rank[clip[among]], searched.source[clip[among]], key[among]))]
        group = key[by_rank], searched.source[clip[by_rank]]
        best = by_rank[np.r_[True, (group[0][1:] != group[0][:-1]) | (group[1][1:] != group[1][:-1])]]
        start = np.searchsorted(key[crowd], key[best])
        count = np.searchsorted(key[crowd], key[best], "right") - start
        first.append(np.repeat(best, count))
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        second.append(crowd[np.repeat(start, count) + within])
    return np.concatenate(first), np.concatenate(second)


def _close(frames: _Frames, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which pairs of frames are close in all bits and in the low ones, bool (n,)."""
    close = np.zeros(len(first), bool)
    for begin in range(0, len(first), 1 << 20):
        part = slice(begin, begin + (1 << 20))
        differing = frames.bits(first[part]) ^ frames.bits(second[part])
        low = np.bitwise_count(differing & LOW_WORDS).sum(-1, dtype=np.int32)
        close[part] = (low <= FRAME_DISTANCE_LOW) & (distance(differing, np.zeros(4, np.uint64)) <= CLOSE)
    return close
