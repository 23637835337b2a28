"""Snapshots handed to others: tars of their own, and index files for DALI's reader."""

import csv
import hashlib
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from warehouse.catalog.collections import create
from warehouse.catalog.exporting import ExportError, export_index, export_tars
from warehouse.catalog.snapshots import open_snapshot
from warehouse.config import Config
from warehouse.store import Store

LABELLED = """
    SELECT clip_id, min(split) AS split, any_value(class_name) AS class_name
    FROM decisions JOIN labels USING (clip_id) WHERE collection = 'labeled_hybrid' AND keep GROUP BY clip_id
"""


@pytest.fixture(scope="module")
def config(house: Callable[[], Config]) -> Config:
    return house()


@pytest.fixture
def store(config: Config) -> Store:
    return Store(config.data_root)


def test_exported_tars_are_plain_webdataset_with_the_same_bytes(config: Config, store: Store, tmp_path: Path) -> None:
    from webdataset import WebDataset

    snapshot = create(store, config, "labelled", LABELLED)["snapshot_id"]
    described = export_tars(store, snapshot, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "collection.json").read_text()) == described
    for split in ("train", "val"):
        tars = [str(tmp_path / "out" / name) for name in described["splits"][split]["paths"]]
        found = {entry["__key__"]: entry for entry in WebDataset(tars, shardshuffle=False)}
        samples = {sample.clip_id: sample for sample in open_snapshot(store, snapshot, split)}
        assert found.keys() == samples.keys() and list(found) != sorted(found)
        for clip, sample in samples.items():
            assert hashlib.sha256(found[clip]["mp4"]).hexdigest() == sample.sha256
            assert int(found[clip]["cls"]) == sample.class_id
            assert json.loads(found[clip]["json"])["class_name"] == described["classes"][sample.class_id]
    with (tmp_path / "out" / "clips.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(store.rows("snapshot_clips", snapshot))
    with pytest.raises(ExportError, match="is there already"):
        export_tars(store, snapshot, tmp_path / "out")
    export_tars(store, snapshot, tmp_path / "more" / "again")
    for tar in (tmp_path / "out").glob("*.tar"):
        assert tar.read_bytes() == (tmp_path / "more" / "again" / tar.name).read_bytes()
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.skipif(sys.platform != "linux", reason="DALI exists for Linux alone")
def test_dali_reads_just_the_clips_of_an_index(config: Config, store: Store, tmp_path: Path) -> None:
    from nvidia.dali import fn, pipeline_def

    snapshot = create(store, config, "labelled", LABELLED)["snapshot_id"]
    described = export_index(store, snapshot, tmp_path / "index")
    samples = {sample.clip_id: sample for sample in open_snapshot(store, snapshot, "train")}
    stored = 0
    for path in described["splits"]["train"]["paths"]:
        with tarfile.open(path) as tar:
            stored += sum(name.endswith(".mp4") for name in tar.getnames())
    assert len(samples) < stored

    @pipeline_def(batch_size=len(samples), num_threads=1, device_id=None)
    def pipeline() -> tuple:
        video = fn.readers.webdataset(**described["splits"]["train"], ext=["mp4"], name="clips", dont_use_mmap=True)
        return video, fn.get_property(video, key="source_info")

    reader = pipeline()
    reader.build()
    assert reader.epoch_size("clips") == len(samples)
    videos, sources = reader.run()
    read = [bytes(sources.at(n)).decode().rpartition(":")[2].partition(".")[0] for n in range(len(samples))]
    with (tmp_path / "index" / "clips.csv").open() as file:
        assert read == [row["clip_id"] for row in csv.DictReader(file) if row["split"] == "train"]
    for number, clip in enumerate(read):
        assert hashlib.sha256(videos.at(number).tobytes()).hexdigest() == samples[clip].sha256
