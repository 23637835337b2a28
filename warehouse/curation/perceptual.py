"""Pairs of clips that show the same thing: candidates by banded search, verified by voting on a common time offset.

Distances are counted on two sets of bits: all 256, and the 66 lowest frequencies. The low ones change least when a
picture is compressed, smooth, or seen an eighth of a second later (a trimmed copy is sampled off the original's grid);
the others tell scenes apart. The thresholds were chosen on edits of real clips and of drifting textures, against all
pairs of clips of a set where many share a scene.

Known to be missed: a trimmed copy of a fast pan (a quarter of the frame's width in a second) that starts about half a
sampling step off; copies of an empty, motionless scene that were compressed hard; two clips of which less than
``MIN_COVERAGE`` is common.
"""

from dataclasses import dataclass

import duckdb
import numpy as np

from warehouse.curation.frame_hashes import GRID_MS

MIN_QUALITY = 0.03
"""Frames with a smaller spread of grey levels are neither searched with nor compared."""

FRAME_DISTANCE, FRAME_DISTANCE_LOW = 100, 18
"""Two frames agree if they differ in at most this many of all 256 and of the 66 low bits (unrelated: 128 and 33)."""

MIN_INLIERS = 4
"""Frames that must agree at one offset: one second."""

MIN_COVERAGE, MIN_AGREEMENT = 0.7, 0.6
"""Share that must agree: of the shorter clip's frames, and of the frames that overlap at the offset."""

DISTINCT_RATIO = 0.7
"""The offset must stand out: agreeing frames are closer than this share of the distance a second or more beside it."""

NOISE_DISTANCE, MOTION_SHARE = 12.0, 0.75
"""A copy differs by what compression changes and by what moves until the next sample, of which it may be sampled up
to half off: at most ``NOISE_DISTANCE`` + ``MOTION_SHARE`` × the mean distance of successive frames.
"""

SAME_DISTANCE = 10.0
"""In a near-static scene no offset stands out, and all clips of it agree: copies only if closer than this."""

NEAR_LENGTH = 0.8
"""Clips whose lengths differ by less than this ratio are ``near``, others ``contained``."""

BANDS, BAND_BITS, BAND_SEED = 24, 24, 20240
BUCKET_CAP = 64
"""Clips in one bucket that are all paired; in a larger one each is paired with the preferred clip alone."""

_vertical, _horizontal = np.meshgrid(np.arange(1, 17), np.arange(1, 17), indexing="ij")
_LOW = _vertical + _horizontal <= 12


@dataclass(frozen=True)
class Match:
    """A verified pair; ``a`` and ``b`` are clip numbers, ``offset_ms`` is time in b minus time in a."""

    a: int
    b: int
    mirrored: bool
    inliers: int
    coverage: float
    mean_distance: float
    offset_ms: int


def _words(bits: np.ndarray) -> np.ndarray:
    """Bool (16, 16) or (256,) as uint64 (4,), in the bit order of the hashes."""
    return np.packbits(bits.ravel(), bitorder="little").view("<u8")


_LOW_WORDS = _words(_LOW)


def find_matches(frames: duckdb.DuckDBPyRelation, con: duckdb.DuckDBPyConnection) -> list[Match]:
    """All verified pairs among the clips of ``frames``, sorted.

    Args:
        frames: columns ``clip`` (INTEGER, numbered in order of preference), ``variant``, ``t_ms``, ``h0..h3``.
            Low-quality frames are already left out.
        con: the connection that ``frames`` belongs to; working tables are made and dropped in it.
    """
    frames.create("perceptual_frames")
    hashes = _load(con)
    matches = [match for a, b, mirrored in _candidates(con) if (match := _verify(hashes, a, b, mirrored))]
    con.execute("DROP TABLE perceptual_frames")
    return _without_weaker_mirrors(matches)


def _load(con: duckdb.DuckDBPyConnection) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]:
    """``{(clip, variant): (t_ms int64 (n,), hashes uint64 (n, 4))}``, views into one array for all."""
    columns = con.sql(
        "SELECT clip, variant, t_ms, h0, h1, h2, h3 FROM perceptual_frames ORDER BY clip, variant, t_ms"
    ).fetchnumpy()
    clip, variant = np.asarray(columns["clip"]), np.asarray(columns["variant"], dtype=str)
    times = np.asarray(columns["t_ms"])
    hashes = np.stack([np.asarray(columns[f"h{i}"]) for i in range(4)], axis=1)
    if len(clip) == 0:
        return {}
    first = np.flatnonzero(np.r_[True, (clip[1:] != clip[:-1]) | (variant[1:] != variant[:-1])])
    return {
        (int(clip[start]), str(variant[start])): (times[start:stop], hashes[start:stop])
        for start, stop in zip(first, np.r_[first[1:], len(clip)], strict=True)
    }


def _candidates(con: duckdb.DuckDBPyConnection) -> list[tuple[int, int, bool]]:
    """Pairs ``(a, b, mirrored)``, a < b, with a frame each that agree in a band's bits and are close in all.

    A bucket holds one frame of each clip, so a static clip or a title card costs no more than any other. One band
    at a time keeps memory to one band's buckets.
    """
    con.execute("CREATE OR REPLACE TEMP TABLE candidates (a INTEGER, b INTEGER, mirrored BOOLEAN)")
    rng = np.random.default_rng(BAND_SEED)
    low = np.flatnonzero(_LOW)
    distance = " + ".join(f"bit_count(xor(x.h.h{i}, y.h.h{i}))::INTEGER" for i in range(4))
    distance_low = " + ".join(
        f"bit_count(xor(x.h.h{i}, y.h.h{i}) & {word}::UBIGINT)::INTEGER" for i, word in enumerate(_LOW_WORDS) if word
    )
    for _ in range(BANDS):
        band = np.zeros(256, bool)
        band[rng.choice(low, BAND_BITS, replace=False)] = True
        key = ", ".join(f"h{i} & {word}::UBIGINT" for i, word in enumerate(_words(band)) if word)
        con.execute(f"""
            INSERT INTO candidates
            WITH keyed AS MATERIALIZED (
                SELECT hash({key}) AS key, * FROM perceptual_frames
            ), bucket AS (
                SELECT key, clip, variant = 'mirrored' AS mirrored,
                       arg_min(struct_pack(h0, h1, h2, h3), (t_ms, variant)) AS h
                FROM keyed SEMI JOIN (SELECT key FROM keyed GROUP BY key HAVING min(clip) < max(clip)) USING (key)
                GROUP BY ALL
            ), placed AS (
                SELECT *, row_number() OVER (PARTITION BY key ORDER BY mirrored, clip) AS place,
                       count(*) OVER (PARTITION BY key) AS members
                FROM bucket
            )
            SELECT DISTINCT least(x.clip, y.clip), greatest(x.clip, y.clip), y.mirrored
            FROM placed x JOIN placed y
              ON x.key = y.key AND NOT x.mirrored AND x.place < y.place AND x.clip <> y.clip
             AND (x.members <= {BUCKET_CAP} OR x.place = 1)
            WHERE {distance} <= {FRAME_DISTANCE} AND {distance_low} <= {FRAME_DISTANCE_LOW}
        """)
    found = con.sql("SELECT DISTINCT a, b, mirrored FROM candidates ORDER BY ALL").fetchall()
    con.execute("DROP TABLE candidates")
    return found


def _verify(
    hashes: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]], a: int, b: int, mirrored: bool
) -> Match | None:
    """The best alignment over the variants of both clips, or ``None`` if none holds."""
    if mirrored:
        pairs = [("mirrored", "trimmed" if (b, "trimmed") in hashes else "full")]
    else:
        pairs = [(x, y) for x in ("full", "trimmed") for y in ("full", "trimmed")]
    found = [align(hashes[a, x], hashes[b, y]) for x, y in pairs if (a, x) in hashes and (b, y) in hashes]
    best = max((f for f in found if f), key=lambda f: (f[0], -f[2]), default=None)
    return Match(a, b, mirrored, *best) if best else None


def align(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[int, float, float, int] | None:
    """Vote for the time offset at which two clips agree.

    Args:
        a, b: t_ms (n,) and hashes uint64 (n, 4) of the sampled frames.

    Returns:
        (inliers, coverage, mean distance of the inliers, offset in ms), or ``None`` if the clips do not match.
    """
    (t_a, h_a), (t_b, h_b) = a, b
    shorter = min(len(t_a), len(t_b))
    if shorter < MIN_INLIERS:
        return None
    differing = h_a[:, None] ^ h_b[None]
    distance = np.bitwise_count(differing).sum(-1, dtype=np.int32)
    low = np.bitwise_count(differing & _LOW_WORDS).sum(-1, dtype=np.int32)
    agree = (distance <= FRAME_DISTANCE) & (low <= FRAME_DISTANCE_LOW)
    lag = t_b[None] - t_a[:, None]
    step = np.rint(lag / GRID_MS).astype(np.int64)
    votes = np.bincount((step - step.min())[agree])
    if len(votes) == 0 or votes.max() < MIN_INLIERS:
        return None
    # Of offsets with as many votes, as in a slow scene, the one with the smallest distance.
    tied = np.flatnonzero(votes >= max(MIN_INLIERS, 0.9 * votes.max())) + step.min()
    offset = min(tied, key=lambda s: (float(distance[agree & (step == s)].mean()), abs(s)))
    at_offset = step == offset
    chosen = agree & at_offset
    inliers = _frames(chosen)
    coverage, mean = inliers / shorter, float(distance[chosen].mean())
    if inliers < MIN_INLIERS or coverage < MIN_COVERAGE or inliers < MIN_AGREEMENT * _frames(at_offset):
        return None
    if mean > SAME_DISTANCE:
        beside = distance[np.abs(step - offset) * GRID_MS >= 1000]
        motion = (_motion(h_a) + _motion(h_b)) / 2
        if len(beside) < MIN_INLIERS or mean > DISTINCT_RATIO * float(beside.mean()):
            return None
        if mean > NOISE_DISTANCE + MOTION_SHARE * motion:
            return None
    return inliers, coverage, mean, int(np.median(lag[chosen]))


def _motion(hashes: np.ndarray) -> float:
    """Mean distance of successive frames."""
    return float(np.bitwise_count(hashes[1:] ^ hashes[:-1]).sum(-1, dtype=np.int32).mean())


def _frames(pairs: np.ndarray) -> int:
    """How many frames take part in these pairs, on the side where they are fewer."""
    return int(min(pairs.any(axis=1).sum(), pairs.any(axis=0).sum()))


def _without_weaker_mirrors(matches: list[Match]) -> list[Match]:
    """A pair that matches as it is and mirrored (a symmetric scene) is kept as it is."""
    straight = {(m.a, m.b) for m in matches if not m.mirrored}
    return [m for m in matches if not (m.mirrored and (m.a, m.b) in straight)]
