"""Whether two clips show the same thing: their frames vote on a common time offset, and the offset has to matter.

Frames of one scene resemble each other whoever moves in it. What tells a copy from another take is that its frames
agree at *one* offset: a little time beside it they differ more, by as much as either clip moves in that time. The
thresholds were chosen on 18 edits of 40 real clips, searched among 252 of which most share a scene
(``benchmarks.duplicates --part tuning``; what it publishes are edits of clips of other scenes).
"""

from dataclasses import dataclass

import numpy as np

from warehouse.curation.frame_hashes import GRID_MS
from warehouse.curation.hash_bits import LOW_WORDS, distance, distances

FRAME_DISTANCE, FRAME_DISTANCE_LOW = 100, 18
"""Two frames agree if they differ in at most this many of all 256 and of the 66 low bits (unrelated: 128 and 33)."""

LEAST_MS = 750
MIN_INLIERS = LEAST_MS // GRID_MS
"""Frames that must agree at one offset."""

MIN_COVERAGE, MIN_AGREEMENT = 0.7, 0.6
"""Share that must agree: of the shorter clip's frames, and of the frames that overlap at the offset."""

NEAR_MS, NEAR_GAIN = 250, 0.35
"""A copy differs more by this much time beside the offset: at least this share of what moves in that time.

Copies: 0.5 to 0.9, edited strongly 0.3 to 0.5; other takes of a scene: up to 0.16, two like gestures 0.30."""

FAR_MS, FAR_GAIN = 1000, 0.35
NOISE_DISTANCE, MOTION_SHARE = 12.0, 0.75
"""The same further beside, enough for clips as close as compression and half a step of the sampling grid leave copies:
``NOISE_DISTANCE`` + ``MOTION_SHARE`` × the mean distance of successive frames."""

SAME_DISTANCE = 6.0
"""In a near-static scene no offset matters, and all clips of it agree: copies only if closer than this."""

LEAST_RATE, MOST_RATE, RATE_GAP_MS = 1.005, 1.3, 1000
"""Copies that run faster or slower by these factors are looked for; frames less far apart tell little of it."""

RATE_LEAST_MS = 4000
"""Only in clips from this length on: shorter ones agree at one offset even so, and a rate that is free to choose fits
gestures that are merely alike."""

Frames = tuple[np.ndarray, np.ndarray]
"""Times in ms, int64 (n,), ascending, and hashes, uint64 (n, 4), of a clip's sampled frames."""


@dataclass(frozen=True)
class Alignment:
    """How two clips agree: frames that do, their share of the shorter clip, and their mean distance in bits.

    ``offset_ms`` is time in the second clip minus time in the first.
    """

    inliers: int
    coverage: float
    mean_distance: float
    offset_ms: int


def align(a: Frames, b: Frames, strict: bool = False) -> Alignment | None:
    """Vote for the time offset at which two clips agree; ``None`` if they are not copies.

    A copy that runs at another speed agrees at one offset once its times are scaled back: that is tried second.
    ``strict``: the offset has to matter in a near-static scene too.
    """
    (t_a, h_a), (t_b, h_b) = a, b
    shorter = min(len(t_a), len(t_b))
    if shorter < MIN_INLIERS:
        return None
    agree = distances(h_a, h_b, LOW_WORDS) <= FRAME_DISTANCE_LOW
    if _frames(agree) < MIN_COVERAGE * shorter:
        return None
    apart = distances(h_a, h_b)
    agree &= apart <= FRAME_DISTANCE
    found = _align(a, b, apart, agree, strict)
    if found is None and min(t_a[-1] - t_a[0], t_b[-1] - t_b[0]) >= RATE_LEAST_MS:
        rate = _rate(t_a, t_b, apart, agree)
        if rate is not None:
            found = _align(a, (t_b / rate, h_b), apart, agree, strict=True)
    return found


def _align(
    a: Frames, b: Frames, apart: np.ndarray, agree: np.ndarray, strict: bool
) -> Alignment | None:
    """:func:`align` with the distances of all frames and which of them agree, both (n, m).

    ``strict``: as where times were scaled to fit, the offset has to matter whatever else holds.
    """
    (t_a, h_a), (t_b, h_b) = a, b
    shorter = min(len(t_a), len(t_b))
    lag = t_b[None] - t_a[:, None]
    step = np.rint(lag / GRID_MS).astype(np.int64)
    first = step.min()
    votes = np.bincount((step - first)[agree])
    if len(votes) == 0 or votes.max() < max(MIN_INLIERS, MIN_COVERAGE * shorter):
        return None
    # Of offsets with nearly as many votes, as in a slow scene, the one with the smallest distance.
    totals = np.bincount((step - first)[agree], weights=apart[agree], minlength=len(votes))
    tied = np.flatnonzero(votes >= max(MIN_INLIERS, 0.9 * votes.max()))
    offset = min(tied, key=lambda place: (totals[place] / votes[place], abs(place + first))) + first
    at_offset = step == offset
    chosen = agree & at_offset
    inliers, mean = _frames(chosen), float(apart[chosen].mean())
    if inliers < max(MIN_INLIERS, MIN_COVERAGE * shorter, MIN_AGREEMENT * _frames(at_offset)):
        return None
    if mean > SAME_DISTANCE or strict:
        rows, columns = chosen.any(axis=1), chosen.any(axis=0)
        agreeing = (t_a[rows], h_a[rows]), (t_b[columns], h_b[columns])
        beside = (step - offset)[rows][:, columns]
        if not _offset_matters(apart[rows][:, columns], beside, mean, agreeing, strict):
            return None
    return Alignment(inliers, inliers / shorter, mean, int(np.median(lag[chosen])))


def _rate(t_a: np.ndarray, t_b: np.ndarray, apart: np.ndarray, agree: np.ndarray) -> float | None:
    """Time in b per time in a, from the frame of b that each frame of a is closest to; ``None``: it is not another."""
    rows = np.flatnonzero(agree.any(axis=1))
    closest = np.where(agree[rows], apart[rows], np.iinfo(apart.dtype).max).argmin(axis=1)
    i, j = np.triu_indices(len(rows), 1)
    gap = t_a[rows[j]] - t_a[rows[i]]
    wide = gap >= RATE_GAP_MS
    if not wide.any():
        return None
    # The median of all slopes (Theil and Sen) bears a quarter of wrong neighbours.
    rate = float(np.median((t_b[closest[j[wide]]] - t_b[closest[i[wide]]]) / gap[wide]))
    return rate if MOST_RATE >= max(rate, 1 / max(rate, 1e-9)) > LEAST_RATE else None


def _offset_matters(
    apart: np.ndarray, beside: np.ndarray, mean: float, clips: tuple[Frames, Frames], strict: bool
) -> bool:
    """Whether the agreeing frames of two clips agree as those of copies do.

    Args:
        apart: distances of these frames, (n, m).
        beside: steps of the grid between them and the offset, (n, m).
        mean: distance at the offset.
        clips: these frames.
        strict: :func:`_align`'s.
    """

    def gain(ms: int) -> float:
        steps = ms // GRID_MS
        moved = [_moved(clip, steps) for clip in clips]
        further = apart[np.abs(beside) == steps]
        # In a clip of less than two frames a second there is no telling.
        return (float(further.mean()) - mean) / max(1.0, sum(moved) / 2) if len(further) and all(moved) else 0.0

    near = gain(NEAR_MS) >= NEAR_GAIN
    if near or strict:
        return near
    motion = sum(float(distance(hashes[1:], hashes[:-1]).mean()) for _, hashes in clips) / 2
    return mean <= NOISE_DISTANCE + MOTION_SHARE * motion and gain(FAR_MS) >= FAR_GAIN


def _moved(clip: Frames, steps: int) -> float:
    """Mean distance of a clip's frames that are so many steps of the grid apart; 0 if there are none."""
    times, hashes = clip
    at = np.rint((times[None] - times[:, None]) / GRID_MS) == steps
    return float(distances(hashes, hashes)[at].mean()) if at.any() else 0.0


def _frames(pairs: np.ndarray) -> int:
    """How many frames take part in these pairs, on the side where they are fewer."""
    return int(min(pairs.any(axis=1).sum(), pairs.any(axis=0).sum()))
