import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from loaders.mixture import mixture_weights
from loaders.order import epoch_order
from loaders.train_loader import ClipLoader, LoaderConfig
from warehouse.catalog.sample import Sample, Tombstone
from warehouse.catalog.samples import OrderColumns, Places, order_columns

MakeSamples = Callable[[list[bytes]], list[Sample]]
COUNTS = {"large": 800, "small": 40, "tiny": 10, "unwanted": 150}


def columns(gone: int = 0) -> OrderColumns:
    source = np.repeat(np.arange(len(COUNTS)), list(COUNTS.values())).astype(np.int32)
    weight = np.ones(len(source))
    weight[::2] = 3.0  # within every source, half of the clips weigh three times as much
    is_gone = np.arange(len(source)) < gone
    shard = np.where(is_gone, -1, np.arange(len(source)) // 100).astype(np.int32)
    return OrderColumns(weight, source, tuple(COUNTS), shard, np.arange(len(source)), is_gone)


def test_a_source_has_its_share_of_the_draws_in_every_epoch() -> None:
    shares = {"large": 2, "small": 1, "tiny": 1, "unwanted": 0}
    facts = columns()
    weights = mixture_weights(facts, shares)
    for epoch in range(20):
        order = epoch_order(weights, 3, epoch, facts.source)
        assert np.bincount(facts.source[order], minlength=4).tolist() == [500, 250, 250, 0]
        # Within a source the weights of the clips count, also where all come many times: 250 draws of 10 clips.
        counts = np.bincount(order, minlength=len(weights))
        heavy, light = counts[840:850:2], counts[841:850:2]
        assert set(heavy) <= {37, 38} and set(light) <= {12, 13}
        # And they are mixed: no stretch of a hundred is far from the whole.
        per_hundred = (facts.source[order] == 0).reshape(-1, 100).sum(axis=1)
        assert per_hundred.min() > 25 and per_hundred.max() < 75


def test_without_shares_the_weights_decide_and_shares_have_any_scale() -> None:
    facts = columns()
    assert mixture_weights(facts, None) is facts.weight
    np.testing.assert_array_equal(
        mixture_weights(facts, dict.fromkeys(COUNTS, 1)),
        mixture_weights(facts, {**dict.fromkeys(COUNTS, 1), "of another collection": 0}),
    )
    one, other = (dict.fromkeys(COUNTS, scale) for scale in (1, 0.01))
    np.testing.assert_allclose(
        mixture_weights(facts, one) / mixture_weights(facts, one).sum(),
        mixture_weights(facts, other) / mixture_weights(facts, other).sum(),
    )


def test_a_clip_taken_down_leaves_the_order_of_the_others() -> None:
    shares = {"large": 2, "small": 1, "tiny": 1, "unwanted": 0}
    np.testing.assert_array_equal(mixture_weights(columns(), shares), mixture_weights(columns(gone=3), shares))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"large": 1, "small": 1, "tiny": 1}, "no share for unwanted"),
        (dict.fromkeys([*COUNTS, "webvid"], 1), "no clip of webvid; its sources are large, small"),
        (dict.fromkeys(COUNTS, 0), "not all 0"),
        ({**dict.fromkeys(COUNTS, 1), "tiny": -1}, "none negative"),
        ({**dict.fromkeys(COUNTS, 1), "tiny": float("nan")}, "finite"),
    ],
)
def test_shares_that_make_no_mixture_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixture_weights(columns(), shares)


def test_a_source_whose_clips_weigh_nothing_cannot_have_a_share() -> None:
    facts = columns()
    facts.weight[facts.source == 2] = 0
    with pytest.raises(ValueError, match="tiny cannot be drawn"):
        mixture_weights(facts, dict.fromkeys(COUNTS, 1))
    assert mixture_weights(facts, {**dict.fromkeys(COUNTS, 1), "tiny": 0})[840:850].sum() == 0


def test_the_loader_draws_by_shares(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = [
        dataclasses.replace(sample, source="a" if number < 10 else "b")
        for number, sample in enumerate(make_samples(clips))
    ]
    config = LoaderConfig(6, frames=2, size=16, source_shares={"a": 0.5, "b": 0.5})
    with ClipLoader(samples, config) as loader:
        seen = [clip for _ in range(2) for clip in next(loader).clip_ids]
    assert sum(clip in ("clip-10", "clip-11") for clip in seen) == 6


def test_columns_are_those_of_the_objects() -> None:
    """Of an opened snapshot they are read from Arrow, of anything else from its objects."""
    texts = {"clip_id": "c{}", "split": "train", "sha256": "", "codec": "h264"}
    rows = {name: [text.format(number) for number in range(4)] for name, text in texts.items()}
    numbers = {name: [1] * 4 for name in ("class_id", "stride", "size", "fps", "frames", "width", "height")}
    places = Places(Path("/data"), pa.table({
        **rows, **numbers, "source": ["b", "b", "a", "a"], "weight": [1.0, 2.0, 0.5, 0.0],
        "shard": ["s/1.tar", "s/0.tar", None, "s/1.tar"], "offset": [512, 2048, None, 4096],
        "gone": [False, False, True, False],
    }))  # fmt: skip
    assert isinstance(places[2], Tombstone)
    fast, slow = places.columns(), order_columns(list(places))
    assert fast.weight.tolist() == slow.weight.tolist() == [1.0, 2.0, 0.5, 0.0]
    assert fast.gone.tolist() == slow.gone.tolist() == [False, False, True, False]
    assert fast.offset.tolist() == slow.offset.tolist() == [512, 2048, 0, 4096]
    assert fast.shard.tolist() == slow.shard.tolist() == [0, 1, -1, 0]
    assert [fast.source_names[code] for code in fast.source] == ["b", "b", "a", "a"]
    assert [slow.source_names[code] for code in slow.source] == ["b", "b", "", "a"]  # a tombstone does not say
