"""The packing plan: which clip goes into which shard at which position, decided before a byte is written."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHARD_BYTES = 256 * 2**20
"""Source bytes a shard is planned for: large enough to stream well, small enough to rewrite."""


def plan_packing(
    source: str,
    rendition: str,
    wanted: Mapping[str, int],
    existing: Iterable[Mapping[str, Any]],
    shard_bytes: int = SHARD_BYTES,
) -> list[dict[str, Any]]:
    """Rows of ``packing`` for one source: every row that exists, and new shards for the clips that have no place.

    A clip once planned keeps its place, so no shard that has been written changes. New clips are ordered by clip id,
    which is a hash and therefore mixes classes.

    Args:
        wanted: source bytes by clip id, for the clips that some collection keeps.
        existing: rows of the present plan.
    """
    rows = [dict(row) for row in existing]
    placed = {row["clip_id"] for row in rows if row["rendition"] == rendition}
    new = sorted(set(wanted) - placed)
    plan = hashlib.blake2b("\n".join(new).encode(), digest_size=4).hexdigest()
    for number, clips in enumerate(_split_by_bytes(new, wanted, shard_bytes)):
        shard = f"{source}-{rendition}-{plan}-{number:05d}"
        rows += (
            {"shard": shard, "position": position, "clip_id": clip, "source": source, "rendition": rendition}
            for position, clip in enumerate(clips)
        )
    return rows


def _split_by_bytes(clips: Sequence[str], sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    groups: list[list[str]] = []
    filled = limit
    for clip in clips:
        if filled + sizes[clip] > limit and filled > 0:
            groups.append([])
            filled = 0
        groups[-1].append(clip)
        filled += sizes[clip]
    return groups
