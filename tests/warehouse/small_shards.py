"""A house whose shards hold a few clips each, with snapshots and a ledger: what takedowns are tried on."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from curated_houses import materialise

from warehouse.__main__ import main
from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.snapshots import Sample, Tombstone, open_places, take_snapshot
from warehouse.config import Config, load
from warehouse.shards import packing
from warehouse.store import Store

COLLECTION = "unlabeled_hybrid"
STARTED = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class House:
    """A data root of one's own, whose shards hold a few clips each, with a snapshot of each collection."""

    config: Config
    snapshots: dict[str, str]

    @property
    def store(self) -> Store:
        return Store(self.config.data_root)

    def run(self, *arguments: str) -> int:
        return main(["--sources", str(self.config.path), *arguments])

    def train(self) -> list[Sample | Tombstone]:
        return list(open_places(self.store, self.snapshots[COLLECTION], "train"))

    def shard_of(self, clip_id: str) -> Path:
        [row] = [row for row in self.store.rows("samples") if row["clip_id"] == clip_id]
        return self.store.shards / row["source"] / f"{row['shard']}.tar"


def build_small_shards(pristine: Path, root: Path) -> House:
    """The configuration and corpus of a pristine house, in shards of a few clips, with snapshots and a ledger."""
    shutil.copytree(pristine / "corpus", root / "corpus")
    shutil.copy(pristine / "sources.toml", root)
    config = load(root / "sources.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SHARD_BYTES", 60_000)
        materialise(config)
    store = Store(config.data_root)
    house = House(config, {c.name: take_snapshot(store, config, c)["snapshot_id"] for c in config.collections})
    write_ledger(house)
    build_catalog(store)
    return house


def copy_of(house: House, root: Path, sources: Path) -> House:
    """A house of one's own: the data root copied to ``root``, its configuration written to ``sources``."""
    shutil.copytree(house.config.data_root, root)
    text = house.config.path.read_text().replace('data_root = "data"', f'data_root = "{root}"')
    sources.write_text(text)
    return House(load(sources), house.snapshots)


def write_ledger(house: House) -> None:
    """A run trained on the unlabelled snapshot, one on the labelled from there, and the evaluation of that."""
    runs = (
        ("pretrained-1", "pretrained", COLLECTION, None, {}),
        ("finetuned-1", "finetuned", "labeled_hybrid", "runs/pretrained-1/checkpoints/step-1", {}),
        ("evaluation-1", "evaluation", "labeled_hybrid", "runs/finetuned-1/checkpoints/step-1", {"split": "val"}),
    )
    for run, stage, collection, parent, settings in runs:
        row = {"run_id": run, "stage": stage, "snapshot_id": house.snapshots[collection], "parent": parent,
               "config": json.dumps(settings), "status": "finished", "started": STARTED, "finished": STARTED,
               "attempts": 1, "seconds": 1.0}  # fmt: skip
        house.store.write("runs", [row], run)
        if stage != "evaluation":
            checkpoint = {"checkpoint": f"runs/{run}/checkpoints/step-1", "run_id": run, "step": 1, "created": STARTED}
            house.store.write("checkpoints", [checkpoint], run)


def digests(store: Store) -> dict[str, tuple[str, int]]:
    """SHA-256 and time of writing of each tar."""
    return {
        tar.stem: (hashlib.sha256(tar.read_bytes()).hexdigest(), tar.stat().st_mtime_ns)
        for tar in store.shards.rglob("*.tar")
    }


def two_of_one_shard(house: House) -> list[str]:
    """The first and a middle clip of the shard that holds most of the training clips."""
    by_shard: dict[Path, list[Sample]] = {}
    for sample in house.train():
        assert isinstance(sample, Sample)
        by_shard.setdefault(sample.shard, []).append(sample)
    most = sorted(max(by_shard.values(), key=len), key=lambda sample: sample.offset)
    assert len(most) >= 3
    return [most[0].clip_id, most[len(most) // 2].clip_id]


def of_two_shards(house: House) -> list[str]:
    """The first and the last clip of a shard of three or more, and the only one of another shard of the source."""
    with connect(house.store) as connection:
        row = connection.execute(
            """
            WITH shard AS (
                SELECT source, count(*) AS clips, arg_min(clip_id, samples.offset) AS first,
                       arg_max(clip_id, samples.offset) AS last
                FROM samples GROUP BY source, shard
            )
            SELECT a.first, a.last, b.first FROM shard a JOIN shard b USING (source)
            WHERE a.clips > 2 AND b.clips = 1 ORDER BY ALL LIMIT 1
            """
        ).fetchone()
    assert row is not None
    return list(row)
