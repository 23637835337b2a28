from itertools import islice, pairwise

import numpy as np
import pytest

from loaders.order import Cursor, Draw, draws, epoch_order
from loaders.runs import Runs

RNG = np.random.default_rng(0)
# Seven shards of different sizes, two of them shorter than a run; samples lie in them in no order of their indices.
SHARD = RNG.permutation(np.repeat(np.arange(7), [40, 33, 2, 57, 64, 3, 1])).astype(np.int32)
OFFSET = RNG.permutation(len(SHARD)) * 512
COUNT, LENGTH = len(SHARD), 8


def runs(length: int = LENGTH) -> Runs:
    return Runs.of(length, SHARD, OFFSET)


def neighbours(one: int, other: int) -> bool:
    """Whether the other clip comes next after the one in the same shard."""
    between = (SHARD[one] == SHARD) & (OFFSET[one] < OFFSET) & (OFFSET[other] > OFFSET)
    return bool(SHARD[one] == SHARD[other] and OFFSET[one] < OFFSET[other] and not between.any())


def test_the_cut_is_a_permutation_of_the_epoch_in_runs_of_neighbours() -> None:
    orders = [epoch_order(np.ones(COUNT), 1, epoch, runs=runs()) for epoch in range(12)]
    cuts = set()
    for epoch, order in enumerate(orders):
        assert sorted(order.tolist()) == list(range(COUNT))
        lead = -epoch * COUNT % LENGTH
        blocks = order[lead : lead + (COUNT - lead) // LENGTH * LENGTH].reshape(-1, LENGTH)
        whole = [block for block in blocks if all(neighbours(a, b) for a, b in pairwise(block))]
        # 5 + 4 + 7 + 8 whole runs fit into the shards; each loses one at most to where the cuts lie.
        assert 20 <= len(whole) <= 24
        cuts |= {int(OFFSET[block[0]]) for block in whole}
        shards = [int(SHARD[block[0]]) for block in whole]
        assert shards != sorted(shards)
    assert len({order.tobytes() for order in orders}) == 12
    assert len(cuts) > 100  # runs begin anywhere, not at the same clips in every epoch


def test_the_order_is_the_same_for_ever() -> None:
    # Pinned: checkpoints of old runs continue by it.
    shard, offset = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], np.int32), np.arange(10) * 512
    order = epoch_order([1.0] * 10, 7, 3, runs=Runs.of(3, shard, offset))
    assert order.tolist() == [4, 9, 5, 1, 2, 3, 6, 7, 8, 0]


def test_weights_draw_a_clip_as_often_as_without_runs() -> None:
    weights = np.where(SHARD == 3, 4.0, 1.0)
    for epoch in range(5):
        order = epoch_order(weights, 2, epoch, SHARD, runs())
        mixed = epoch_order(weights, 2, epoch, SHARD)
        assert sorted(order.tolist()) == sorted(mixed.tolist())
        lead = -epoch * COUNT % LENGTH
        blocks = order[lead : lead + (COUNT - lead) // LENGTH * LENGTH].reshape(-1, LENGTH)
        in_a_row = [len(set(SHARD[block])) == 1 and (np.diff(OFFSET[block]) > 0).all() for block in blocks]
        assert sum(in_a_row) >= 12


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 40])
def test_any_number_of_samples_comes_whole_in_every_epoch(count: int) -> None:
    some = Runs.of(LENGTH, SHARD[:count], OFFSET[:count])
    for epoch in range(10):
        assert sorted(epoch_order(np.ones(count), 0, epoch, runs=some).tolist()) == list(range(count))


def test_clips_that_are_in_no_shard_any_more_keep_their_draws() -> None:
    shard, offset = SHARD.copy(), OFFSET.copy()
    shard[::9], offset[::9] = -1, 0
    order = epoch_order(np.ones(COUNT), 0, 1, runs=Runs.of(LENGTH, shard, offset))
    assert sorted(order.tolist()) == list(range(COUNT))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_take_whole_runs_and_are_disjoint_and_complete(world: int) -> None:
    rounds = 4 * COUNT // (world * LENGTH)
    taken = [list(islice(draws(np.ones(COUNT), 5, rank, world, runs=runs()), rounds * LENGTH)) for rank in range(world)]
    everything = [(draw.epoch, draw.position, draw.index) for one in taken for draw in one]
    single = [(d.epoch, d.position, d.index) for d in islice(draws(np.ones(COUNT), 5, runs=runs()), len(everything))]
    assert sorted(everything) == sorted(single) and len(set(everything)) == len(everything)
    for stream in taken:
        blocks = [stream[first : first + LENGTH] for first in range(0, len(stream), LENGTH)]
        assert all([d.epoch * COUNT + d.position for d in block] == list(consecutive(block[0])) for block in blocks)


def consecutive(first: Draw) -> range:
    begin = first.epoch * COUNT + first.position
    assert begin % LENGTH == 0
    return range(begin, begin + LENGTH)


@pytest.mark.parametrize("world", [1, 3])
def test_any_cursor_continues_the_stream(world: int) -> None:
    for rank in range(world):
        stream = list(islice(draws(np.ones(COUNT), 2, rank, world, runs=runs()), 2 * COUNT // world))
        for place in range(0, len(stream) - 5, 7):
            resumed = draws(np.ones(COUNT), 2, rank, world, stream[place].after, runs=runs())
            assert list(islice(resumed, 5)) == stream[place + 1 : place + 6]
    assert stream[-1].after == Cursor(*divmod(len(stream) * world, COUNT))


def test_a_batch_mixes_as_one_of_its_number_of_runs() -> None:
    """What the documentation says: with runs, the share of a source in a batch varies as in a batch of B / R clips."""
    shard = np.repeat(np.arange(200), 50).astype(np.int32)
    source, offset = (np.arange(10_000) >= 5_000), np.arange(10_000)
    spread = {}
    for length in (1, 5, 10):
        layout = Runs.of(length, shard, offset) if length > 1 else None
        shares = [
            source[epoch_order(np.ones(10_000), 0, epoch, runs=layout)].reshape(-1, 40).mean(axis=1)
            for epoch in range(20)
        ]
        spread[length] = float(np.var(np.concatenate(shares)))
    assert spread[1] == pytest.approx(0.25 / 40, rel=0.1)
    assert spread[5] / spread[1] == pytest.approx(5, rel=0.15)
    assert spread[10] / spread[1] == pytest.approx(10, rel=0.2)
