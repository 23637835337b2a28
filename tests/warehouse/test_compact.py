"""`compact`: the bytes of clips taken down leave the shards, the others stay as they are; killed anywhere."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from curated_houses import quiet
from small_shards import COLLECTION, House, digests, of_two_shards, two_of_one_shard

from loaders.train_loader import ClipLoader, LoaderConfig
from warehouse import steps
from warehouse.catalog.snapshots import Sample, open_snapshot, take_snapshot
from warehouse.shards.errors import ShardError
from warehouse.shards.executing import execute_plans
from warehouse.shards.reader import read_sample
from warehouse.takedown.compact import compact
from warehouse.takedown.proof import prove
from warehouse.takedown.takedowns import take_down, taken_down


def test_compact_rewrites_the_shards_concerned_alone_as_the_plan_now_has_them(house_of_mine: House) -> None:
    house, store = house_of_mine, house_of_mine.store
    gone = of_two_shards(house)
    bytes_of = {row["clip_id"]: row for row in store.rows("samples")}
    concerned, before = {house.shard_of(clip) for clip in gone}, digests(store)
    assert len(concerned) == 2 < len(before)
    take_down(store, gone, "asked", "me")

    done = compact(store)
    assert {*done.rewritten, *done.emptied} == {str(tar.relative_to(store.root)) for tar in concerned}
    assert not (store.root / done.emptied[0]).exists() and len(done.emptied) == 1
    after = digests(store)
    assert {shard: found for shard, found in after.items() if before[shard] == found} == {
        shard: found for shard, found in before.items() if shard not in {tar.stem for tar in concerned}
    }
    # Every other clip's bytes are what they were, wherever they lie now.
    rows = {row["clip_id"]: row for row in store.rows("samples")}
    assert rows.keys() == bytes_of.keys() - set(gone)
    assert all(rows[clip]["sha256"] == bytes_of[clip]["sha256"] for clip in rows)
    for collection, snapshot in house.snapshots.items():
        for split in ("train", "val") if collection != COLLECTION else ("train",):
            for sample in open_snapshot(store, snapshot, split):
                assert len(read_sample(sample)) == sample.size
    assert compact(store).rewritten == () and digests(store) == after

    # The plan is that of the compacted shards: made anew from the videos, they are the same bytes.
    assert not {row["clip_id"] for row in store.rows("packing")} & set(gone)
    for result in execute_plans(store, house.config, house.config.sources, quiet).values():
        assert result.skipped
    shutil.rmtree(store.shards)
    execute_plans(store, house.config, house.config.sources, quiet)
    assert {shard: sha for shard, (sha, _) in digests(store).items()} == {s: sha for s, (sha, _) in after.items()}
    # Nothing brings a clip back, also while the decisions of before still keep it.
    for source in house.config.sources:
        assert steps.plan_source(store, house.config, source).skipped
    for collection in house.config.collections:
        taken = take_snapshot(store, house.config, collection)["snapshot_id"]
        assert not set(store.read("snapshot_clips", taken)["clip_id"].to_pylist()) & set(gone)


CONFIG = LoaderConfig(clips_per_batch=1, frames=4, size=32, seed=5)
Seen = list[tuple[str, np.ndarray, object]]


def seen(loader: ClipLoader, batches: int) -> Seen:
    return [(batch.clip_ids[0], batch.frames.numpy().copy(), batch.cursor) for batch in islice(loader, batches)]


def assert_same(left: Seen, right: Seen) -> None:
    assert [item[0] for item in left] == [item[0] for item in right]
    assert all(np.array_equal(one[1], other[1]) for one, other in zip(left, right, strict=True))


def test_the_other_clips_come_in_the_same_order_after_a_takedown_and_after_compact(house_of_mine: House) -> None:
    house, store = house_of_mine, house_of_mine.store
    before = house.train()
    with ClipLoader(before, CONFIG) as loader:
        whole = seen(loader, 2 * len(before))  # two epochs
    gone = two_of_one_shard(house)
    expected = [item for item in whole if item[0] not in gone]
    assert len(expected) == len(whole) - 4

    take_down(store, gone, "asked", "me")
    with ClipLoader(house.train(), CONFIG) as loader:
        assert_same(seen(loader, len(expected)), expected)
    # A loader at work while the shards are compacted: it has places that are no more, of clips that still are.
    running = ClipLoader(before, replace(CONFIG, max_failed_share=0.5))
    first = seen(running, 3)
    open_tar = house.shard_of(gone[0]).open("rb")  # as a reader of plain WebDataset has it
    held = hashlib.sha256(house.shard_of(gone[0]).read_bytes()).hexdigest()
    compact(store)
    with running:
        rest = seen(running, len(expected) - len([item for item in first if item[0] not in gone]))
        assert_same([item for item in first + rest if item[0] not in gone], expected)
        assert {clip.clip_id for clip in running.failures} <= set(gone)
    with open_tar:
        assert hashlib.sha256(open_tar.read()).hexdigest() == held
    # One that resumes in the middle of the second epoch.
    place = len(expected) * 3 // 4
    with ClipLoader(house.train(), CONFIG, start=expected[place - 1][2]) as loader:
        assert_same(seen(loader, len(expected) - place), expected[place:])
    # The clip itself is found nowhere, not even by samples made before.
    [lost] = [sample for sample in before if sample.clip_id == gone[0]]
    assert isinstance(lost, Sample)
    with pytest.raises(ShardError, match=gone[0]):
        read_sample(lost)


_DIE = """
import os, sys
from pathlib import Path
from warehouse.store import Store
from warehouse.takedown.compact import compact

left = int(sys.argv[2])

def dying(real):
    def call(path, *arguments, **named):
        global left
        if not (real is unlink and path.suffix == ".tmp"):
            left -= 1
            if left < 0:
                os._exit(9)
        return real(path, *arguments, **named)
    return call

unlink = Path.unlink
Path.replace, Path.unlink = dying(Path.replace), dying(Path.unlink)
compact(Store(Path(sys.argv[1])))
"""


def test_compact_may_be_killed_before_each_of_its_writes(house_of_mine: House, tmp_path: Path) -> None:
    house, store = house_of_mine, house_of_mine.store
    gone = of_two_shards(house)
    take_down(store, gone, "asked", "me")
    start = tmp_path / "start"
    shutil.copytree(store.root, start)
    compact(store)
    tables = ("packing", "samples", "shards", "content_prints")
    expected = {name: store.rows(name) for name in tables}, {s: sha for s, (sha, _) in digests(store).items()}
    killed, states = 0, set()
    while True:
        shutil.rmtree(store.root)
        shutil.copytree(start, store.root)
        command = [sys.executable, "-c", _DIE, str(store.root), str(killed)]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode == 0:
            break
        assert ended.returncode == 9, ended.stderr
        killed += 1
        # Whoever reads while it is down reads what was promised; then the same call ends it.
        for sample in open_snapshot(store, house.snapshots[COLLECTION], "train"):
            assert len(read_sample(sample)) == sample.size
        states.add((len(store.rows("packing")), len(store.rows("samples")), tuple(sorted(digests(store)))))
        compact(store)
        found = {name: store.rows(name) for name in tables}, {s: sha for s, (sha, _) in digests(store).items()}
        assert found == expected, f"killed before write {killed}"
        assert not list(store.shards.rglob("*.tmp"))
        assert prove(store, taken_down(store), 1).left == ()
    assert killed >= 9 and len(states) >= 4


def test_a_shard_that_is_not_written_yet_is_named_and_the_bytes_are_out_all_the_same(house_of_mine: House) -> None:
    house, store = house_of_mine, house_of_mine.store
    gone = two_of_one_shard(house)
    source = house.shard_of(gone[0]).parent.name
    take_down(store, gone, "asked", "me")
    rows = store.rows("packing", source)
    later = rows[0] | {"shard": f"{source}-np256-later-00000", "clip_id": "f" * 32, "position": 0}
    store.write("packing", [*rows, later], source)
    with pytest.raises(ShardError, match=r"later.*Materialise `shards`"):
        compact(store)
    assert prove(store, taken_down(store), 1).left == ()
    store.write("packing", [row for row in store.rows("packing", source) if row["clip_id"] != later["clip_id"]], source)
    compact(store)
    assert not {row["clip_id"] for row in store.rows("samples", source)} & set(gone)
