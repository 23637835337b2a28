"""A new source costs what is new: its clips are compared with all, and the outcome is that of a run from nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_duplicates import still, table

from warehouse import config, steps
from warehouse.store import Store

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
taxonomy = "none"
[taxonomies.none]
"""
SOURCE = """
[sources.{name}]
kind = "folder"
media_root = "videos"
annotations = "clips.csv"
collections = ["all"]
stride = 4
licence = "none"
"""


def configured(folder: Path, *sources: str) -> config.Config:
    folder.mkdir(exist_ok=True)
    (folder / "sources.toml").write_text(TOML + "".join(SOURCE.format(name=name) for name in sources))
    return config.load(folder / "sources.toml", check_files=False)


def fill(store: Store, source: str, clips: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]], split: str) -> None:
    """Write what listing and probing would."""
    base = {"source": source, "namespace": "n", "annotation_file": "clips.csv", "annotation_row": 1, "licence": "none",
            "split": split, "label": "x"}  # fmt: skip
    rows = {
        "clips": [base | {"clip_id": clip, "native_id": clip} for clip in clips],
        "memberships": [base | {"clip_id": clip} for clip in clips],
        "media": [media | {"fps": 25.0} for media, _ in clips.values()],
        "frame_hashes": [row for _, hashes in clips.values() for row in hashes],
    }
    for name, of_table in rows.items():
        names = table(name, []).schema.names
        chosen = [{key: value for key, value in row.items() if key in names} for row in of_table]
        store.write(name, table(name, chosen), source)


def outcome(store: Store) -> dict[str, pa.Table]:
    return {name: store.read(name) for name in ("duplicate_edges", "duplicate_clusters", "decisions")}


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_new_source_of_one_per_cent_is_compared_with_all_and_nothing_else_is(tmp_path: Path, split: str) -> None:
    rng = np.random.default_rng(6)
    scenes = rng.integers(0, 2**63, (40, 4)).astype("<u8")
    old = {f"clip{n:04d}": still(f"clip{n:04d}", rng, scenes[n % 40], 2, "old") for n in range(200)}
    new = {f"fresh{n}": still(f"fresh{n}", rng, scenes[n], 2, "new") for n in range(2)}
    before, both = configured(tmp_path / "grown", "old"), configured(tmp_path / "anew", "old", "new")
    grown, anew = Store(before.data_root), Store(both.data_root)
    fill(grown, "old", old, "train")
    first = steps.search_duplicates(grown, before)
    steps.decide(grown, before)
    kept = grown.root / "search" / "key_frames" / "old.npz"
    written = kept.stat().st_mtime_ns

    both_grown = configured(tmp_path / "grown", "old", "new")
    fill(grown, "new", new, split)
    second = steps.search_duplicates(grown, both_grown)
    steps.decide(grown, both_grown)
    for name, clips, of_split in (("old", old, "train"), ("new", new, split)):
        fill(anew, name, clips, of_split)
    alone = steps.search_duplicates(anew, both)
    steps.decide(anew, both)

    assert kept.stat().st_mtime_ns == written, "the old source was read again"
    # Each new clip resembles the five of its scene; the old ones' pairs are not compared again.
    assert second.figures["pairs_compared"] == 10
    assert alone.figures["pairs_compared"] == first.figures["pairs_compared"] + 10
    for name, found in outcome(grown).items():
        assert found.equals(outcome(anew)[name]), name
    decisions = grown.rows("decisions")
    assert sum(row["reason"] == "duplicate_of_protected" for row in decisions) == (10 if split == "val" else 0)
    assert sum(row["keep"] and row["split"] == "train" for row in decisions) == (38 if split == "val" else 40)
