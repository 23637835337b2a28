"""The order of the stream: which sample comes at which position of which epoch, for which rank.

An epoch is ``len(weights)`` draws. Where all weights are equal, it is a permutation of the samples. Otherwise a
sample of weight *w* is drawn ``w · N / sum(weights)`` times an epoch on average, and in every single epoch that
number rounded down or up; the same holds for the clips of a source together. So a mixture (``loaders/mixture.py``) has
its proportions epoch by epoch, not only in the long run. A sample of weight 0 is never drawn.

Epochs follow each other without a gap. Position *p* of epoch *e* is global position ``g = e·N + p``, and rank *r* of
*W* gets those with ``g % W == r``, so the ranks are disjoint, together complete, and never drift apart by an epoch.
In shard-local runs of *R* (``loaders/runs.py``) it is ``g // R % W == r``: a run is one rank's.

Randomness is counter-based (Philox): nothing has to be replayed to continue anywhere. Permutations are made from the
bit generator's raw words, whose stream NumPy keeps from version to version (NEP 19), which it does not promise
for ``Generator`` methods.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loaders.runs import Runs, in_runs

_ORDER, _CLIP, _BATCH = 0, 1, 2  # second key word: what a stream of random numbers is for


@dataclass(frozen=True, order=True)
class Cursor:
    """Where a stream continues: the rank's draws before this global position are consumed.

    It counts the draws of all ranks together, as epochs and a remainder. Equal on all ranks as long as no clip fails (a
    rank that replaced a failed clip is ahead of the others), so a checkpoint that has to resume exactly keeps every
    rank's own cursor. It says nothing of the number of ranks: another number continues from the same place (in runs,
    it takes up to a run for each rank twice or not at all).
    """

    epoch: int = 0
    position: int = 0


@dataclass(frozen=True)
class Draw:
    """One position of the stream, the index of its sample, and the rank's cursor once it is consumed."""

    epoch: int
    position: int
    index: int
    after: Cursor


def epoch_order(
    weights: Sequence[float] | np.ndarray,
    seed: int,
    epoch: int,
    sources: np.ndarray | None = None,
    runs: Runs | None = None,
) -> np.ndarray:
    """Sample indices of one epoch, int64 (N,).

    Args:
        weights: how often each sample is drawn relative to the others, (N,).
        sources: the number of each sample's source, int (N,); without it, all are of one.
        runs: where the samples lie, if the order is to be one of shard-local runs.

    Raises:
        ValueError: no samples, a negative or non-finite weight, or weights that are all 0.
    """
    weights_N = np.asarray(weights, dtype=np.float64)
    count = len(weights_N)
    if not count:
        raise ValueError("there are no samples to order")
    if not np.isfinite(weights_N).all() or weights_N.min() < 0 or weights_N.max() == 0:
        raise ValueError("weights must be finite, none negative, and not all 0")
    bits = np.random.Philox(key=[seed, _ORDER], counter=[0, 0, 0, epoch])
    permutation_N = np.argsort(bits.random_raw(count), kind="stable")
    if weights_N.min() == weights_N.max():
        drawn_N = permutation_N
    else:
        drawn_N = _weighted(permutation_N, weights_N, sources, bits)
    if runs is None:
        return drawn_N
    # Blocks of R begin at multiples of R in the stream of all epochs, as ranks take them.
    return in_runs(drawn_N, runs, -epoch * count % runs.length, bits)


def _weighted(
    permutation_N: np.ndarray, weights_N: np.ndarray, sources_N: np.ndarray | None, bits: np.random.Philox
) -> np.ndarray:
    """Systematic sampling: N evenly spaced points with one common random shift on a line.

    Every sample has a stretch of the line as long as its weight, and a source the sum of these in one piece. Within a
    source samples lie in random order, so that no two are tied to each other.
    """
    count = len(permutation_N)
    line_N = permutation_N
    if sources_N is not None:
        line_N = permutation_N[np.argsort(sources_N[permutation_N], kind="stable")]
    ends_N = np.cumsum(weights_N[line_N])
    shift = (int(bits.random_raw()) >> 11) * 2.0**-53
    points_N = (np.arange(count) + shift) * (ends_N[-1] / count)
    # The last stretch that has a length also takes what rounding puts beyond the end.
    last = int(np.flatnonzero(weights_N[line_N])[-1])
    drawn_N = line_N[np.minimum(np.searchsorted(ends_N, points_N, side="right"), last)]
    return drawn_N[np.argsort(bits.random_raw(count), kind="stable")]


def draws(
    weights: Sequence[float] | np.ndarray,
    seed: int,
    rank: int = 0,
    world: int = 1,
    start: Cursor | None = None,
    sources: np.ndarray | None = None,
    runs: Runs | None = None,
) -> Iterator[Draw]:
    """The endless stream of one rank, from a cursor on. ``weights``, ``sources`` and ``runs``: see ``epoch_order``.

    Raises:
        ValueError: rank outside 0..world-1, or a cursor that does not fit the number of samples.
    """
    start = start or Cursor()
    weights_N = np.asarray(weights, dtype=np.float64)
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world}")
    if not len(weights_N):
        raise ValueError("there are no samples to order")
    if start.epoch < 0 or not 0 <= start.position < len(weights_N):
        raise ValueError(f"{start} does not fit {len(weights_N)} samples: it belongs to another snapshot")
    # As many draws of this rank are among the first that the cursor counts.
    taken = -((rank - start.epoch * len(weights_N) - start.position) // world)
    return _draws_from(weights_N, seed, taken, rank, world, sources, runs)


def _draws_from(
    weights_N: np.ndarray,
    seed: int,
    taken: int,
    rank: int,
    world: int,
    sources: np.ndarray | None,
    runs: Runs | None,
) -> Iterator[Draw]:
    count, length = len(weights_N), runs.length if runs else 1
    current, order_N = -1, np.empty(0, np.int64)
    for number in itertools.count(taken):
        block, within = divmod(number, length)
        epoch, position = divmod((block * world + rank) * length + within, count)
        if epoch != current:
            current, order_N = epoch, epoch_order(weights_N, seed, epoch, sources, runs)
        yield Draw(epoch, position, int(order_N[position]), Cursor(*divmod((number + 1) * world, count)))


def clip_generator(seed: int, epoch: int, position: int, view: int) -> np.random.Generator:
    """The random numbers of one view of one draw: the same in whichever process, rank or run they are drawn."""
    return np.random.Generator(np.random.Philox(key=[seed, _CLIP], counter=[0, view, position, epoch]))


def batch_generator(seed: int, rank: int, cursor: Cursor) -> np.random.Generator:
    """The random numbers of a rank's batch, of which the cursor afterwards is given."""
    return np.random.Generator(np.random.Philox(key=[seed, _BATCH], counter=[0, rank, cursor.position, cursor.epoch]))
