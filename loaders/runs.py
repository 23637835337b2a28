"""Shard-local runs: an epoch in which several clips in a row are read one after the other from one shard.

For storage that is slow at random places (spinning disks, network file systems, objects that are fetched in parts). The
clips of a shard, in the order of their bytes, are cut into runs of R; where the cuts lie is drawn anew for each epoch.
The runs of all shards are shuffled together. What is left at the ends of shards is shorter than a run, and is put
together, shard by shard, to blocks of R.

What it does to mixing: clips of a run are neighbours in their shard in every epoch, and of one source. Packing put them
there in an order that is random within the source, so no class or time is favoured; but a batch of B clips is B / R
independent draws, and its number of clips of a source varies as much as in a batch of that size.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Runs:
    """Where the samples lie: ``place`` int64 (N,) in the order of shards and of bytes in them, and ``shard`` (N,).

    ``length`` is R, the clips of a run.
    """

    length: int
    place: np.ndarray
    shard: np.ndarray

    @classmethod
    def of(cls, length: int, shard_N: np.ndarray, offset_N: np.ndarray) -> "Runs":
        """From the shard of each sample, and its first byte in it."""
        place_N = np.empty(len(shard_N), np.int64)
        place_N[np.lexsort((offset_N, shard_N))] = np.arange(len(shard_N))
        return cls(length, place_N, shard_N)


def in_runs(drawn_N: np.ndarray, runs: Runs, lead: int, bits: np.random.Philox) -> np.ndarray:
    """The drawn samples in another order: runs, shuffled. Every sample stays as often as it was drawn.

    Args:
        drawn_N: int64 (N,), indices of samples, which may repeat.
        runs: where they lie, and how long runs are.
        lead: the first run begins at this position, the next R further and so on: less than R, and what comes before
            is a part of a run.
        bits: random numbers, of which as many are taken as are needed.

    Returns:
        int64 (N,).
    """
    count, length = len(drawn_N), runs.length
    ordered_N, group_N = _by_shard(drawn_N, runs)
    begins_G = np.flatnonzero(np.diff(group_N, prepend=-1))
    shift_G = (bits.random_raw(len(begins_G)) % np.uint64(length)).astype(np.int64)
    within_N = np.arange(count) - begins_G[group_N] + shift_G[group_N]
    begins_R = np.flatnonzero((within_N % length == 0) | (np.diff(group_N, prepend=-1) != 0))
    sizes_R = np.diff(begins_R, append=count)

    full_R = begins_R[sizes_R == length]
    full_R = full_R[_shuffled(len(full_R), bits)]
    lead = min(lead, count)
    blocks = (count - lead) // length
    # Where the epoch begins and ends within a run, one run more may be whole than there is room for.
    fitting_R, broken_R = full_R[:blocks], full_R[blocks:]
    short_R = begins_R[sizes_R < length]
    pieces_R = np.concatenate([short_R, broken_R])
    piece_sizes_R = np.concatenate([sizes_R[sizes_R < length], np.full(len(broken_R), length)])
    mixed_R = _shuffled(len(pieces_R), bits)
    loose_L = ordered_N[_ranges(pieces_R[mixed_R], piece_sizes_R[mixed_R])]

    made = blocks - len(fitting_R)
    head, middle, tail = np.split(loose_L, [lead, lead + made * length])
    whole_BR = np.concatenate([ordered_N[fitting_R[:, None] + np.arange(length)], middle.reshape(made, length)])
    return np.concatenate([head, whole_BR[_shuffled(blocks, bits)].ravel(), tail])


def _by_shard(drawn_N: np.ndarray, runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """The samples by shard and place, and the number of each one's group, from 0 on.

    A group is the clips of a shard. A sample that was drawn several times is in as many groups: first copies form one,
    second copies another, so that no run has a clip twice.
    """
    sorted_N = drawn_N[np.argsort(runs.place[drawn_N], kind="stable")]
    begins = np.flatnonzero(np.diff(sorted_N, prepend=-1))
    copy_N = np.arange(len(sorted_N)) - np.repeat(begins, np.diff(begins, append=len(sorted_N)))
    by_copy_N = np.argsort(copy_N, kind="stable")
    ordered_N, copy_N = sorted_N[by_copy_N], copy_N[by_copy_N]
    changes_N = (np.diff(copy_N, prepend=0) != 0) | (np.diff(runs.shard[ordered_N], prepend=-2) != 0)
    changes_N[0] = False
    return ordered_N, np.cumsum(changes_N)


def _shuffled(count: int, bits: np.random.Philox) -> np.ndarray:
    return np.argsort(bits.random_raw(count), kind="stable")


def _ranges(begins_R: np.ndarray, sizes_R: np.ndarray) -> np.ndarray:
    """The numbers from each begin on, so many of each, one range after the other."""
    ends_R = np.cumsum(sizes_R)
    total = int(ends_R[-1]) if len(ends_R) else 0
    return np.arange(total) + np.repeat(begins_R - (ends_R - sizes_R), sizes_R)
