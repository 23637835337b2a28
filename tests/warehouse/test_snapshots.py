"""Snapshots: named by content, opened to places that are read when they are asked for."""

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from warehouse.catalog.snapshots import (
    Sample,
    SnapshotError,
    Tombstone,
    current_snapshot,
    open_places,
    open_snapshot,
    snapshot_splits,
    take_snapshot,
)
from warehouse.config import Collection, Config, load
from warehouse.store import Store

CLASSES = ("Ängste", 'saying "hi"', "跳")
KEYS = ("clip_id", "split", "class_id", "class_name", "weight", "rendition", "stride")
TOML = """
[reelhouse]
data_root = "data"
[training]
preset = "smoke"
pretrain = "all"
post_pretrain = "all"
finetune = "all"
[collections.all]
splits = ["train", "val"]
taxonomy = "signs"
[taxonomies.signs]
[sources.a]
kind = "folder"
media_root = "."
annotations = "clips.csv"
collections = ["all"]
stride = 4
licence = "none"
[sources.b]
kind = "folder"
media_root = "."
annotations = "clips.csv"
collections = ["all"]
stride = 2
licence = "none"
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Eight decisions on clips of two sources; what a snapshot looks at, and no more."""
    (tmp_path / "sources.toml").write_text(TOML)
    config = load(tmp_path / "sources.toml", check_files=False)
    store, ids = Store(config.data_root), [hashlib.sha256(bytes([n])).hexdigest()[:32] for n in range(8)]
    places = [(clip, "ab"[n % 2], "val" if n in (2, 5) else "train") for n, clip in enumerate(ids)]
    store.write("decisions", [
        {"collection": "all", "clip_id": clip, "source": source, "split": split, "keep": clip != ids[7],
         "reason": "kept", "rule_version": 1} for clip, source, split in places
    ])  # fmt: skip
    store.write("classes", [
        {"taxonomy": "signs", "class_id": n, "class_name": name} for n, name in enumerate(CLASSES)
    ])  # fmt: skip
    store.write("labels", [
        {"clip_id": clip, "taxonomy": "signs", "class_id": n % 3, "class_name": CLASSES[n % 3], "source": source}
        for n, (clip, source, _) in enumerate(places) if n != 4
    ])  # fmt: skip
    for source in "ab":
        own = [clip for clip, of, _ in places if of == source]
        store.write("samples", [
            {"clip_id": clip, "source": source, "shard": f"{source}-0", "offset": 512 * n, "size": 100 + n,
             "rendition": "np256", "sha256": "0" * 64, "codec": "h264", "width": 340, "height": 256, "fps": 30.0,
             "frames": 64} for n, clip in enumerate(own)
        ], source)  # fmt: skip
        shard = {"shard": f"{source}-0", "source": source, "path": f"shards/{source}/{source}-0.tar", "bytes": 9}
        store.write("shards", [shard | {"rendition": "np256", "samples": len(own), "sha256": "0"}], source)
    return config


def as_documented(clips: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> str:
    lines = [json.dumps(classes), *(json.dumps([clip[key] for key in KEYS]) for clip in clips)]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def test_the_id_is_a_hash_of_ordered_rows_of_json(config: Config) -> None:
    store, [collection] = Store(config.data_root), config.collections
    taken = take_snapshot(store, config, collection)
    clips = store.rows("snapshot_clips", taken["snapshot_id"])
    assert [(c["split"], c["source"], c["clip_id"]) for c in clips] == sorted(
        (row["split"], row["source"], row["clip_id"]) for row in store.rows("decisions") if row["keep"]
    )
    assert [c["position"] for c in clips] == list(range(7)) and taken["clips"] == 7
    assert {c["stride"] for c in clips if c["source"] == "b"} == {2}
    assert [c["class_name"] for c in clips].count(None) == 1
    assert taken["snapshot_id"] == as_documented(clips, CLASSES)
    assert snapshot_splits(store, taken["snapshot_id"]) == ("train", "val")


def test_what_a_collection_was_is_noted_once_for_each_change(config: Config) -> None:
    store, [collection] = Store(config.data_root), config.collections
    decisions, ids = store.rows("decisions"), []
    for keep in (True, True, False, True):
        store.write("decisions", [row | {"keep": row["keep"] and (keep or row["source"] == "a")} for row in decisions])
        ids.append(take_snapshot(store, config, collection)["snapshot_id"])
        assert current_snapshot(store, "all") == ids[-1]
    assert ids[0] == ids[1] == ids[3] != ids[2]
    history = store.rows("collection_snapshots", "all")
    assert [row["snapshot_id"] for row in history] == [ids[0], ids[2], ids[3]]
    assert [row["taken"] for row in history] == sorted(row["taken"] for row in history)
    assert store.parts("snapshots") == sorted(set(ids))


def test_places_are_alike_however_they_are_asked_for(config: Config) -> None:
    store, [collection] = Store(config.data_root), config.collections
    snapshot = take_snapshot(store, config, collection)["snapshot_id"]
    samples = open_snapshot(store, snapshot, "train")
    rows = [row for row in store.rows("snapshot_clips", snapshot) if row["split"] == "train"]
    stored = {row["clip_id"]: row for row in store.rows("samples")}
    every = list(samples)
    assert [s.clip_id for s in every] == [row["clip_id"] for row in rows] and len(samples) == len(rows)
    for sample, row in zip(every, rows, strict=True):
        place = stored[sample.clip_id]
        assert sample == Sample(
            row["clip_id"], row["source"], "train", row["class_id"], 1.0, row["stride"],
            store.root / f"shards/{row['source']}/{row['source']}-0.tar", place["offset"], place["size"],
            place["sha256"], "h264", 30.0, 64, 340, 256,
        )  # fmt: skip
    assert [samples[n] for n in range(len(samples))] == every and samples[-1] == every[-1]
    assert samples[1:3] == every[1:3] and samples[::-2] == every[::-2]
    with pytest.raises(IndexError):
        samples[len(samples)]
    assert list(pickle.loads(pickle.dumps(samples))) == every


def test_a_clip_taken_down_leaves_its_place(config: Config) -> None:
    store, [collection] = Store(config.data_root), config.collections
    snapshot = take_snapshot(store, config, collection)["snapshot_id"]
    before = list(open_snapshot(store, snapshot, "train"))
    down = {"clip_id": before[1].clip_id, "reason": "asked for", "who": "me", "taken_at": datetime.now(UTC)}
    store.write("takedowns", [down])
    assert list(open_places(store, snapshot, "train")) == [before[0], Tombstone(before[1].clip_id, 1.0), *before[2:]]
    assert list(open_snapshot(store, snapshot, "train")) == [before[0], *before[2:]]


def test_a_clip_in_no_shard_or_of_an_unknown_source_is_named(config: Config) -> None:
    store, [collection] = Store(config.data_root), config.collections
    gone = replace(config, sources=config.sources[:1])
    with pytest.raises(SnapshotError, match=r"source 'b'.*Put it back, or leave its clips out"):
        take_snapshot(store, gone, collection)
    snapshot = take_snapshot(store, config, collection)["snapshot_id"]
    store.write("samples", [], "b")
    with pytest.raises(SnapshotError, match=r"clips are in no shard \(the first: .* Materialise `packing`"):
        take_snapshot(store, config, collection)
    with pytest.raises(SnapshotError, match="clips are in no shard, the first is"):
        open_snapshot(store, snapshot, "train")


def test_a_collection_needs_no_class_list_to_be_unlabelled(config: Config) -> None:
    store = Store(config.data_root)
    taken = take_snapshot(store, config, Collection("all", ("train",), None, 0))
    assert taken["classes"] is None
    assert {row["class_id"] for row in store.rows("snapshot_clips", taken["snapshot_id"])} == {None}

