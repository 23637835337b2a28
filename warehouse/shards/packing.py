"""The packing plan: which clip goes into which shard at which position, decided before a byte is written."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.schema import BY_NAME

SHARD_BYTES = 256 * 2**20
"""Source bytes a shard is planned for: large enough to stream well, small enough to rewrite."""
SEED = 0
"""Of the order of new clips, which mixes their classes: reading shard by shard is then well mixed already."""


def plan_packing(
    source: str, rendition: str, wanted: pa.Table, existing: pa.Table, shard_bytes: int = SHARD_BYTES, seed: int = SEED
) -> pa.Table:
    """The table ``packing`` of one source: every row that exists, and new shards for the clips that have no place.

    A clip once planned keeps its place, so no shard that has been written changes. New clips come in the order of
    BLAKE2b of seed and clip id: a permutation that does not depend on which other clips there are.

    Args:
        wanted: ``clip_id`` and ``bytes`` (of the source) of the clips that some collection keeps.
        existing: the present plan.
    """
    placed = existing["clip_id"].filter(pc.equal(existing["rendition"], rendition))
    new = wanted.filter(pc.invert(pc.is_in(wanted["clip_id"], value_set=placed)))
    new = new.take(_mixed(new["clip_id"], seed))
    plan = hashlib.blake2b("\n".join(new["clip_id"].to_pylist()).encode(), digest_size=4).hexdigest()
    starts = _shard_starts(new["bytes"].to_numpy(), shard_bytes)
    lengths = np.diff(starts, append=len(new))
    names = pa.array([f"{source}-{rendition}-{plan}-{number:05d}" for number in range(len(starts))], pa.string())
    rows = pa.table(
        {
            "shard": names.take(pa.array(np.repeat(np.arange(len(starts)), lengths))),
            "position": np.arange(len(new)) - np.repeat(starts, lengths),
            "clip_id": new["clip_id"],
            "source": pa.repeat(pa.scalar(source), len(new)),
            "rendition": pa.repeat(pa.scalar(rendition), len(new)),
        }
    )
    return pa.concat_tables([existing, rows.cast(BY_NAME["packing"].schema)])


def _mixed(clips: pa.ChunkedArray, seed: int) -> pa.Array:
    """Places of the clips in the order of their keyed hashes, int64."""
    key = seed.to_bytes(8)
    hashes = (hashlib.blake2b(clip.encode(), digest_size=16, key=key).digest() for clip in clips.to_pylist())
    return pc.sort_indices(pa.array(hashes, pa.binary(16)))


def _shard_starts(sizes: np.ndarray, limit: int) -> np.ndarray:
    """First place of each shard, int64: as many clips as fit into the limit, and at least one."""
    ends, starts = np.cumsum(sizes), []
    start = 0
    while start < len(sizes):
        starts.append(start)
        before = ends[start - 1] if start else 0
        start = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
    return np.array(starts, np.int64)
