"""The order of the stream: which sample comes at which position of which epoch, for which rank.

An epoch is ``len(weights)`` draws. Where all weights are equal, it is a permutation of the samples. Otherwise a
sample of weight *w* is drawn ``w · N / sum(weights)`` times an epoch on average, and in every single epoch that
number rounded down or up: a mixture has its proportions epoch by epoch, not only in the long run. To mix sources,
give all samples of a source one weight. A sample of weight 0 is never drawn.

Epochs follow each other without a gap. Position *p* of epoch *e* is global position ``g = e·N + p``, and rank *r* of
*W* gets those with ``g % W == r``, so the ranks are disjoint, together complete, and never drift apart by an epoch.

Randomness is counter-based (Philox): nothing has to be replayed to continue anywhere. Permutations are made from the
bit generator's raw words, whose stream NumPy keeps from version to version (NEP 19), which it does not promise
for ``Generator`` methods.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_ORDER, _CLIP = 0, 1  # second key word: what a stream of random numbers is for


@dataclass(frozen=True, order=True)
class Cursor:
    """Where a stream continues: the rank's draws before this global position are consumed.

    Equal on all ranks as long as no clip fails (a rank that replaced a failed clip is ahead of the others), so a
    checkpoint that has to resume exactly keeps every rank's own cursor. It says nothing of the number of ranks:
    another number of ranks continues from the same place.
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


def epoch_order(weights: Sequence[float] | np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Sample indices of one epoch, int64 (N,).

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
        return permutation_N
    # Systematic sampling: N evenly spaced points with one common random shift on a line where every sample has a
    # stretch as long as its weight. Samples lie on the line in random order, so that no two are tied to each other.
    ends_N = np.cumsum(weights_N[permutation_N])
    shift = (int(bits.random_raw()) >> 11) * 2.0**-53
    points_N = (np.arange(count) + shift) * (ends_N[-1] / count)
    # The last stretch that has a length also takes what rounding puts beyond the end.
    last = int(np.flatnonzero(weights_N[permutation_N])[-1])
    drawn_N = permutation_N[np.minimum(np.searchsorted(ends_N, points_N, side="right"), last)]
    return drawn_N[np.argsort(bits.random_raw(count), kind="stable")]


def draws(
    weights: Sequence[float] | np.ndarray, seed: int, rank: int = 0, world: int = 1, start: Cursor | None = None
) -> Iterator[Draw]:
    """The endless stream of one rank, from a cursor on.

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
    first = start.epoch * len(weights_N) + start.position
    return _draws_from(weights_N, seed, first + (rank - first) % world, world)


def _draws_from(weights_N: np.ndarray, seed: int, place: int, world: int) -> Iterator[Draw]:
    count = len(weights_N)
    current, order_N = -1, np.empty(0, np.int64)
    while True:
        epoch, position = divmod(place, count)
        if epoch != current:
            current, order_N = epoch, epoch_order(weights_N, seed, epoch)
        after = divmod((place // world + 1) * world, count)
        yield Draw(epoch, position, int(order_N[position]), Cursor(*after))
        place += world


def clip_generator(seed: int, epoch: int, position: int, view: int) -> np.random.Generator:
    """The random numbers of one view of one draw: the same in whichever process, rank or run they are drawn."""
    return np.random.Generator(np.random.Philox(key=[seed, _CLIP], counter=[0, view, position, epoch]))
