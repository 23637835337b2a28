"""The packing plan: filled by bytes, mixed by a seed, and never changed where it exists."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from warehouse.schema import BY_NAME
from warehouse.shards.packing import plan_packing

EMPTY = BY_NAME["packing"].schema.empty_table()


def wanted(sizes: dict[str, int]) -> pa.Table:
    return pa.table({"clip_id": pa.array(sizes, pa.string()), "bytes": pa.array(sizes.values(), pa.int64())})


def planned(
    sizes: dict[str, int], existing: pa.Table = EMPTY, rendition: str = "np256", limit: int = 100, seed: int = 0
) -> pa.Table:
    return plan_packing("s", rendition, wanted(sizes), existing, limit, seed)


def test_a_plan_keeps_every_row_and_adds_new_clips_in_new_shards() -> None:
    first = planned({f"clip{i}": 40 for i in range(5)})
    places = [(row["shard"][-5:], row["position"]) for row in first.to_pylist()]
    assert places == [("00000", 0), ("00000", 1), ("00001", 0), ("00001", 1), ("00002", 0)]
    grown = {f"clip{i}": 40 for i in (0, 1, 7, 8)}  # 2, 3 and 4 are wanted no more: their bytes stay where they are
    second = planned(grown, first)
    assert second.slice(0, 5).equals(first)
    added = second.slice(5).to_pylist()
    assert {row["clip_id"] for row in added} == {"clip7", "clip8"}
    assert not {row["shard"] for row in added} & set(first["shard"].to_pylist())
    assert planned(grown, second).equals(second)
    other = planned({"clip0": 40}, second, "original")
    assert other.slice(0, 7).equals(second) and other.slice(7).to_pylist()[0]["rendition"] == "original"


@pytest.mark.parametrize("limit", [1, 1000, 5000, 10**9])
def test_shards_are_filled_in_order_to_their_bytes(limit: int) -> None:
    rng = np.random.default_rng(3)
    sizes = {f"clip{i}": int(size) for i, size in enumerate(rng.integers(1, 2500, 400))}
    rows = planned(sizes, limit=limit).to_pylist()
    assert sorted(row["clip_id"] for row in rows) == sorted(sizes)
    shards: dict[str, list[str]] = {}
    for row in rows:
        shards.setdefault(row["shard"], []).append(row["clip_id"])
        assert row["position"] == len(shards[row["shard"]]) - 1
    assert list(shards) == sorted(shards)
    groups = list(shards.values())
    filled = [sum(sizes[clip] for clip in clips) for clips in groups]
    assert all(total <= limit or len(clips) == 1 for total, clips in zip(filled, groups, strict=True))
    # None could have taken the first clip of the next as well.
    assert all(total + sizes[clips[0]] > limit for total, clips in zip(filled, groups[1:], strict=False))


def test_the_seed_gives_the_order_and_mixes_classes() -> None:
    # As an annotation file has them: class after class.
    clips = [hashlib.blake2b(f"{i}".encode(), digest_size=16).hexdigest() for i in range(6000)]
    class_of = {clip: i // 600 for i, clip in enumerate(clips)}
    first, again, other = (planned(dict.fromkeys(clips, 1), seed=seed) for seed in (0, 0, 1))
    assert first.equals(again) and not first["clip_id"].equals(other["clip_id"])
    classes = np.array([class_of[clip] for clip in first["clip_id"].to_pylist()]).reshape(60, 100)
    counts = np.stack([np.bincount(shard, minlength=10) for shard in classes])
    # A shard of 100 has 10 ± 3 of each of ten classes if it is a random draw; sorted, it would have 100 of one.
    assert counts.min() >= 1 and counts.max() <= 25 and 2.5 < counts.std() < 3.5
    # Neighbours are no more alike than strangers: 1 in 10 has the class of the one before.
    assert 0.08 < (classes.ravel()[1:] == classes.ravel()[:-1]).mean() < 0.12
    # The order of two clips does not depend on which others there are.
    half = planned(dict.fromkeys(clips[::2], 1))["clip_id"].to_pylist()
    assert half == [clip for clip in first["clip_id"].to_pylist() if clip in set(half)]
