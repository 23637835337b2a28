"""Shards: tars that are the same bytes each time, that any tool reads, and clips read back by range."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset
from rendered_clips import drifting, write
from shard_plans import plan

from warehouse import steps
from warehouse.catalog.snapshots import Sample
from warehouse.config import Config, load
from warehouse.probing import probe_sources
from warehouse.shards import packing
from warehouse.shards.errors import RenditionError, ShardError
from warehouse.shards.executing import execute_plans
from warehouse.shards.reader import read_sample
from warehouse.shards.shard_plan import ShardPlan
from warehouse.shards.sidecar import StoredClip, read_sidecar, sidecar_path
from warehouse.shards.tables import tabulate
from warehouse.shards.writer import write_shards
from warehouse.store import Store

ROOT = Path(__file__).parents[2]
EXECUTE = """
import sys
from pathlib import Path
from warehouse.config import load
from warehouse.shards.executing import execute_plans
from warehouse.store import Store

if __name__ == "__main__":
    config = load(Path(sys.argv[1]))
    execute_plans(Store(config.data_root), config, config.sources, lambda progress: None)
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files: two mp4 and a webm."""
    folder = tmp_path_factory.mktemp("clips")
    return [write(folder / name, drifting(seed)) for seed, name in enumerate(("a.mp4", "b.mp4", "c.webm"))]


def sample_of(shard: ShardPlan, stored: StoredClip) -> Sample:
    return Sample(
        stored.key, "src", "train", None, 1.0, 4, shard.tar, stored.offset, stored.size, stored.sha256,
        stored.codec, stored.fps, stored.frames, stored.width, stored.height,
    )  # fmt: skip


def dali_reads(tar: Path, index: Path, suffix: str, count: int) -> list[bytes]:
    """The clips of a tar as DALI's reader gives them on a CPU, in their order, by an index made from the sidecar."""
    if sys.platform != "linux":
        pytest.skip("DALI exists for Linux alone")
    from nvidia.dali import Pipeline, fn

    sidecar = read_sidecar(tar)
    assert sidecar is not None
    lines = [f"{m.suffix[1:]} {m.offset} {m.size} {m.key}{m.suffix}" for m in sidecar.members]
    index.write_text("\n".join([f"v1.2 {len(lines)}", *lines]) + "\n")
    pipeline = Pipeline(batch_size=count, num_threads=1, device_id=None)
    with pipeline:
        video = fn.readers.webdataset(paths=[str(tar)], index_paths=[str(index)], ext=[suffix])
        pipeline.set_outputs(video)
    pipeline.build()
    (batch,) = pipeline.run()
    return [batch.at(i).tobytes() for i in range(count)]


@pytest.mark.parametrize("rendition", ["np256", "mjpeg-strided", "original"])
def test_a_shard_is_the_same_bytes_wherever_it_is_written_and_every_tool_reads_it(
    tmp_path: Path, clips: list[Path], rendition: str
) -> None:
    here, there = (plan(tmp_path / name, clips, rendition) for name in ("here", "there"))
    [sidecar] = write_shards([here])
    [again] = write_shards([there])
    content = here.tar.read_bytes()
    assert content == there.tar.read_bytes() and sidecar == again == read_sidecar(here.tar)
    assert (sidecar.bytes, sidecar.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    stored = [content[clip.offset : clip.offset + clip.size] for clip in sidecar.members]
    assert [hashlib.sha256(data).hexdigest() for data in stored] == [clip.sha256 for clip in sidecar.members]
    if rendition == "original":
        assert stored == [path.read_bytes() for path in clips]

    names = [clip.key + clip.suffix for clip in sidecar.members]
    listed = subprocess.run(["tar", "tf", here.tar], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == names and not listed.stderr
    for name, data in zip(names, stored, strict=True):
        assert subprocess.run(["tar", "xOf", here.tar, name], capture_output=True, check=True).stdout == data
    with tarfile.open(here.tar) as archive:
        assert [archive.extractfile(entry).read() for entry in archive] == stored  # type: ignore[union-attr]
    read = {item["__key__"]: item for item in webdataset.WebDataset(str(here.tar), shardshuffle=False)}
    assert [read[clip.key][clip.suffix[1:]] for clip in sidecar.members] == stored
    assert [read_sample(sample_of(here, clip)) for clip in sidecar.members] == stored
    assert dali_reads(here.tar, tmp_path / "index", "mp4;webm", len(stored)) == stored


def test_a_finished_shard_is_not_written_again_and_a_changed_plan_is(tmp_path: Path, clips: list[Path]) -> None:
    shard = plan(tmp_path, clips, "original")
    [sidecar] = write_shards([shard])
    written = shard.tar.stat().st_mtime_ns
    assert write_shards([shard]) == [sidecar] and shard.tar.stat().st_mtime_ns == written
    shard.tar.write_bytes(shard.tar.read_bytes()[:-512])  # cut short behind our back
    assert shard.finished() is None
    assert write_shards([shard]) == [sidecar]
    other = replace(shard, members=shard.members[::-1])
    assert other.finished() is None
    assert [clip.key for clip in write_shards([other])[0].members] == [m.clip_id for m in other.members]
    sidecar_path(shard.tar).write_text('{"fingerprint": "of an older version"}')
    assert other.finished() is None and len(write_shards([other])[0].members) == 3


def test_a_clip_whose_file_has_gone_stays_in_its_shard_and_cannot_enter_one(tmp_path: Path, clips: list[Path]) -> None:
    shard = plan(tmp_path / "shards", clips, "original")
    gone = replace(shard.members[0], readable=False, sha256=None)
    without = replace(shard, members=(gone, *shard.members[1:]))
    with pytest.raises(RenditionError, match=rf"a\.mp4.*{gone.clip_id}.*shard-0"):
        write_shards([without])
    [sidecar] = write_shards([shard])
    assert without.finished() == sidecar
    # Members that are planned no more are taken out of the tar as it is: nothing is read from the sources.
    shorter = replace(without, members=without.members[:2])
    [shrunk] = write_shards([shorter])
    assert [clip.key for clip in shrunk.members] == [clip.key for clip in sidecar.members[:2]]
    assert shorter.finished() == shrunk


def test_a_source_file_that_has_changed_since_it_was_probed_stops_the_shard(tmp_path: Path, clips: list[Path]) -> None:
    for rendition, change in (("original", {"sha256": "0" * 64}), ("np256", {"packet_hash": "0" * 32})):
        shard = plan(tmp_path / rendition, clips, rendition)
        changed = replace(shard.members[1], **change)
        with pytest.raises(ShardError, match=r"b\.mp4: gone or changed"):
            write_shards([replace(shard, members=(shard.members[0], changed))])
        assert not list((tmp_path / rendition).iterdir())


def test_other_bytes_than_promised_are_an_error_that_names_shard_and_clip(tmp_path: Path, clips: list[Path]) -> None:
    shard = plan(tmp_path, clips, "original")
    [sidecar] = write_shards([shard])
    sample = sample_of(shard, sidecar.members[1])
    with shard.tar.open("r+b") as file:
        file.seek(sample.offset + 100)
        file.write(b"\0\1\2\3\4")
    with pytest.raises(ShardError, match=rf"shard-0\.tar.*{sample.clip_id}"):
        read_sample(sample)
    with pytest.raises(ShardError, match=r"gone\.tar"):
        read_sample(replace(sample, shard=tmp_path / "gone.tar"))


def _config(folder: Path, root: str, workers: int) -> Config:
    """A source of eight clips under ``folder/videos``; data under ``folder/root``."""
    (folder / f"{root}.toml").write_text(
        f'[reelhouse]\ndata_root = "{root}"\nworkers = {workers}\n'
        '[training]\npreset = "smoke"\npretrain = "all"\npost_pretrain = "all"\nfinetune = "all"\n'
        '[collections.all]\nsplits = ["train", "val"]\ntaxonomy = "kinds"\n[taxonomies.kinds]\n'
        '[sources.rendered]\nkind = "folder"\nmedia_root = "videos"\nannotations = "labels.csv"\n'
        'collections = ["all"]\nstride = 4\nlicence = "none"\n'
    )
    return load(folder / f"{root}.toml")


def _packed(config: Config) -> Store:
    """Everything up to the packing plan, of three shards."""
    store, [source] = Store(config.data_root), config.sources
    steps.list_source(store, source)
    probe_sources(store, config, [source], lambda progress: None)
    steps.search_duplicates(store, config)
    steps.decide(store, config)
    steps.plan_source(store, config, source)
    return store


def _checksums(store: Store) -> Iterator[tuple[str, str]]:
    for path in sorted(store.shards.rglob("*.*")):
        yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_worker_two_workers_and_a_killed_run_give_equal_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos").mkdir()
    lines = ["path,label,split"]
    for number in range(8):
        write(tmp_path / "videos" / f"{number}.mp4", drifting(number, count=60, height=240, width=320), crf=35)
        lines.append(f"{number}.mp4,{number % 2},{'val' if number > 5 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    size = sum(path.stat().st_size for path in (tmp_path / "videos").iterdir())
    monkeypatch.setattr(packing, "SHARD_BYTES", size // 3)
    found = {}
    planned = _packed(_config(tmp_path, "planned", 1))
    for root, workers in (("one", 1), ("two", 2), ("killed", 2)):
        config = _config(tmp_path, root, workers)
        store = Store(config.data_root)
        shutil.copytree(planned.root, store.root)
        if root == "killed":
            _kill_between_shards(tmp_path, config, store)
        [result] = execute_plans(store, config, config.sources, lambda progress: None).values()
        assert result.rows["samples"] == 8 and 3 <= result.rows["shards"] <= 5
        if root == "killed":
            assert 0 < result.figures["written"] < result.rows["shards"]
        [result] = execute_plans(store, config, config.sources, lambda progress: None).values()
        assert result.skipped and result.figures["written"] == 0
        found[root] = dict(_checksums(store)), store.read("samples"), store.read("shards")
    assert len(found["one"][0]) == 2 * len(found["one"][2])
    assert found["one"] == found["two"] == found["killed"]
    lost = next(store.shards.rglob("*.tar"))
    lost.unlink()
    with pytest.raises(ShardError, match=lost.name):
        tabulate(store, "rendered")
    execute_plans(store, config, config.sources, lambda progress: None)
    assert dict(_checksums(store)) == found["one"][0]


def _kill_between_shards(folder: Path, config: Config, store: Store) -> None:
    """Start the step in processes of their own, and kill them all when a shard is finished and another is not."""
    script = folder / "execute.py"
    script.write_text(EXECUTE)
    process = subprocess.Popen(
        [sys.executable, script, config.path], start_new_session=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    deadline = time.monotonic() + 60
    while not list(store.shards.rglob("*.json")):
        assert process.poll() is None and time.monotonic() < deadline, "no shard was finished before the end"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(store.shards.rglob("*.tmp"))
