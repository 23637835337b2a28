from itertools import islice

import numpy as np
import pytest

from loaders.order import Cursor, clip_generator, draws, epoch_order


def test_equal_weights_make_a_fresh_permutation_every_epoch() -> None:
    orders = [epoch_order(np.full(50, 0.3), seed, epoch).tolist() for seed in (0, 1) for epoch in range(20)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(map(tuple, orders))) == len(orders)


def test_the_order_is_the_same_for_ever() -> None:
    # Pinned: checkpoints of old runs continue by it.
    assert epoch_order([1.0] * 10, seed=7, epoch=3).tolist() == [2, 0, 7, 3, 5, 4, 8, 9, 1, 6]
    assert epoch_order([1, 2, 3, 0, 4], seed=7, epoch=3).tolist() == [2, 1, 4, 4, 2]


def test_weights_are_proportions_in_every_epoch_and_exact_on_average() -> None:
    weights = np.array([3.0, 1.0, 0.0, 0.5, 0.25, 1.0, 2.0, 0.7])
    expected = weights / weights.sum() * len(weights)
    counts = np.array([np.bincount(epoch_order(weights, 1, epoch), minlength=8) for epoch in range(4000)])
    assert (counts >= np.floor(expected)).all() and (counts <= np.ceil(expected)).all()
    assert counts.sum(axis=1).tolist() == [8] * 4000
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=0.03)


def test_a_source_is_weighted_by_weighting_its_samples() -> None:
    weights = np.array([1.0] * 900 + [9.0] * 100)  # nine times as many of the first, seen equally often
    order = epoch_order(weights, 0, 0)
    assert abs(int((order >= 900).sum()) - 500) <= 100  # each of the hundred is rounded up or down
    halves = np.array([(half >= 900).mean() for half in np.split(order, 2)])
    assert (abs(halves - 0.5) < 0.1).all()


@pytest.mark.parametrize(("count", "world"), [(10, 1), (10, 3), (7, 4), (3, 5), (1, 2), (12, 4)])
def test_ranks_are_disjoint_and_complete(count: int, world: int) -> None:
    epochs = 4
    whole = [(d.epoch, d.position, d.index) for d in islice(draws([1.0] * count, 5), epochs * count)]
    by_rank = []
    for rank in range(world):
        share = len(range(rank, epochs * count, world))
        by_rank += [(d.epoch, d.position, d.index) for d in islice(draws([1.0] * count, 5, rank, world), share)]
    assert len(by_rank) == len(set(by_rank))
    assert sorted(by_rank) == sorted(whole)


@pytest.mark.parametrize(("count", "world"), [(10, 1), (10, 3), (3, 5)])
def test_any_cursor_continues_the_stream(count: int, world: int) -> None:
    weights = np.linspace(1, 2, count)
    for rank in range(world):
        stream = list(islice(draws(weights, 2, rank, world), 25))
        for place, draw in enumerate(stream[:-5]):
            assert list(islice(draws(weights, 2, rank, world, draw.after), 5)) == stream[place + 1 : place + 6]


def test_ranks_share_a_cursor_which_another_number_of_ranks_continues() -> None:
    cursors = {list(islice(draws([1.0] * 10, 0, rank, 4), 6))[-1].after for rank in range(4)}
    assert cursors == {Cursor(2, 4)}
    seen = [d for rank in range(3) for d in islice(draws([1.0] * 10, 0, rank, 3, Cursor(2, 4)), 2)]
    assert sorted((d.epoch, d.position) for d in seen) == [(2, 4), (2, 5), (2, 6), (2, 7), (2, 8), (2, 9)]


def test_every_view_of_every_draw_has_its_own_random_numbers() -> None:
    first = {
        clip_generator(seed, epoch, position, view).random()
        for seed in range(3)
        for epoch in range(3)
        for position in range(3)
        for view in range(3)
    }
    assert len(first) == 81


@pytest.mark.parametrize("weights", [[], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weights|no samples"):
        epoch_order(weights, 0, 0)


def test_a_cursor_of_another_snapshot_is_refused() -> None:
    with pytest.raises(ValueError, match="another snapshot"):
        draws([1.0] * 5, 0, start=Cursor(0, 5))
