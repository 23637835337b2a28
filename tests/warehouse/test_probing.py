"""The step that probes: limits of its processes, what is forgotten for another try, what it reports on the way."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rendered_clips import drifting, write

from warehouse import probing, steps
from warehouse.__main__ import main
from warehouse.config import Config, load
from warehouse.engine import Failure, map_unordered
from warehouse.probing import probe_sources
from warehouse.shards.executing import execute_plans
from warehouse.step_result import Progress
from warehouse.store import Store


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two folders: three good clips and a broken one in each, and an empty file in the second."""
    sections = []
    for source in ("first", "second"):
        folder = tmp_path / source
        folder.mkdir()
        for number in range(3):
            write(folder / f"{number}.mp4", drifting(number, count=10))
        (folder / "broken.mp4").write_bytes(b"no video")
        (folder / "labels.csv").write_text(
            "path,label,split\n0.mp4,a,train\n1.mp4,b,train\n2.mp4,a,val\nbroken.mp4,b,train\n"
        )
        sections.append(
            f'[sources.{source}]\nkind = "folder"\nmedia_root = "{source}"\ncollections = ["all"]\n'
            f'annotations = "{source}/labels.csv"\nstride = 4\nlicence = "none"\n'
        )
    with (tmp_path / "second" / "labels.csv").open("a") as labels:
        labels.write("empty.mp4,a,train\n")
    (tmp_path / "second" / "empty.mp4").write_bytes(b"")
    (tmp_path / "sources.toml").write_text(
        '[reelhouse]\ndata_root = "data"\nworkers = 2\n'
        '[training]\npreset = "smoke"\npretrain = "all"\npost_pretrain = "all"\nfinetune = "all"\n'
        '[collections.all]\nsplits = ["train", "val"]\ntaxonomy = "classes"\n[taxonomies.classes]\n'
        + "".join(sections)
    )
    return load(tmp_path / "sources.toml")


def probed(config: Config, heard: list[Progress] | None = None) -> dict[str, int]:
    """List and probe all; how many files of each source were probed."""
    store = Store(config.data_root)
    for source in config.sources:
        steps.list_source(store, source)
    report = (lambda progress: None) if heard is None else heard.append
    return {
        name: int(result.figures["probed"])
        for name, result in probe_sources(store, config, config.sources, report).items()
    }


def test_progress_is_told_by_source(config: Config) -> None:
    heard: list[Progress] = []
    assert probed(config, heard) == {"first": 4, "second": 5}
    assert heard[:2] == [Progress("first", 0, 4, 0), Progress("second", 0, 5, 0)]
    last = {progress.source: progress for progress in heard}
    assert last == {"first": Progress("first", 4, 4, 1), "second": Progress("second", 5, 5, 2)}
    heard.clear()
    assert probed(config, heard) == {"first": 0, "second": 0}
    assert heard == list(last.values())


def test_retry_forgets_a_class_of_failures_and_nothing_else(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    probed(config)
    store = Store(config.data_root)
    before = {source: store.rows("media", source) for source in ("first", "second")}

    def retry(*arguments: str) -> tuple[int, str]:
        code = main(["--sources", str(config.path), "retry", *arguments])
        return code, capsys.readouterr().out

    code, said = retry("--error-class", "unreadable_container", "--source", "second")
    assert code == 0 and "second: 1\n" in said and "1 files of class unreadable_container" in said
    assert probed(config) == {"first": 0, "second": 1}
    assert {source: store.rows("media", source) for source in before} == before
    code, said = retry("--error-class", "unreadable_container")
    assert "first: 1\nsecond: 1\n" in said
    assert retry("--error-class", "unreadable_container")[1].startswith("first: 0\nsecond: 0\n")  # gone already
    assert probed(config) == {"first": 1, "second": 1}
    assert retry("--error-class", "empty_file", "--source", "frist")[0] == 1
    with pytest.raises(SystemExit):
        retry("--error-class", "no_such_class")
    assert probed(config) == {"first": 0, "second": 0}


def test_an_interval_is_probed_when_it_changes_and_packed_in_a_rendition_that_can_hold_it(config: Config) -> None:
    probed(config)
    store, first = Store(config.data_root), config.sources[0]
    rows = store.rows("files", "first")
    [changed] = [row for row in rows if row["path"] == "0.mp4"]
    changed["to_ms"] = 200  # as a corrected annotation would have it: the file's size and time are the same
    store.write("files", rows, "first")
    [result] = probe_sources(store, config, [first], lambda progress: None).values()
    assert result.figures["probed"] == 1
    media = {row["clip_id"]: row for row in store.rows("media", "first")}[changed["clip_id"]]
    assert (media["status"], media["frames"], media["sha256"]) == ("ok", 5, None)
    assert 0 < media["video_bytes"] < media["bytes"]
    steps.search_duplicates(store, config)
    steps.decide(store, config)
    with pytest.raises(steps.UnstorableError, match=rf"{changed['clip_id']}.*np256"):
        steps.plan_source(store, replace(config, rendition="original"), first)
    steps.plan_source(store, config, first)
    execute_plans(store, config, [first], lambda progress: None)
    samples = {row["clip_id"]: row["frames"] for row in store.rows("samples", "first")}
    assert samples[changed["clip_id"]] == 5 and set(samples.values()) == {5, 10}


def allocate(items: list[int]) -> list[int]:
    return [len(np.ones(item, np.uint8)) for item in items]


def test_a_unit_that_takes_too_much_memory_is_split_until_the_item_is_found() -> None:
    units = [[10, 2 * 2**30, 20], [30]]
    answers = list(map_unordered(allocate, units, workers=1, timeout_s=60, memory_bytes=2**30))
    found = {item: result for unit, results in answers for item, result in zip(unit, results, strict=True)}
    failure = found.pop(2 * 2**30)
    assert found == {10: 10, 20: 20, 30: 30}
    assert isinstance(failure, Failure) and failure.error_class == "too_large"


class Stopped(Exception):
    """Where a test stops a run."""


def tables(config: Config) -> dict[str, pa.Table]:
    store = Store(config.data_root)
    return {name: store.read(name) for name in ("media", "frame_hashes")}


def test_a_run_stopped_anywhere_goes_on_and_ends_as_one_that_was_not(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while it probes, and between the two tables that it writes at the end."""
    assert probed(config) == {"first": 4, "second": 5}
    uninterrupted = tables(config)
    shutil.rmtree(config.data_root)

    monkeypatch.setattr(probing, "UNIT_CLIPS", 1)
    monkeypatch.setattr(probing, "FLUSH_SECONDS", 0.0)
    store = Store(config.data_root)
    for source in config.sources:
        steps.list_source(store, source)

    def stop_at_three(progress: Progress) -> None:
        if progress.done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        probe_sources(store, config, config.sources, stop_at_three)
    heard: list[Progress] = []
    write_table = Store.write

    def stop_before_media(self: Store, table: str, *arguments: Any, **named: Any) -> int:
        if table == "media":
            raise Stopped
        return write_table(self, table, *arguments, **named)

    monkeypatch.setattr(Store, "write", stop_before_media)
    with pytest.raises(Stopped):
        probe_sources(store, config, config.sources, heard.append)
    assert {progress.done for progress in heard[:2]} == {0, 2}  # the third clip was taken and not yet on disk
    assert store.path("frame_hashes", "first").exists() and not store.path("media", "first").exists()
    monkeypatch.setattr(Store, "write", write_table)
    assert probed(config) == {"first": 0, "second": 0}
    assert tables(config) == uninterrupted
    assert not list((config.data_root / "probing").rglob("*.parquet"))


def test_what_a_stopped_run_found_holds_only_for_the_files_that_it_read(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probing.ProbeJournal, "merge", lambda *_: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        probed(config)
    monkeypatch.undo()
    first = config.sources[0].media_root
    write(first / "0.mp4", drifting(7, count=12))  # changed
    listed = (first / "labels.csv").read_text()
    (first / "labels.csv").write_text(listed.replace("1.mp4,b,train\n", ""))  # listed no longer
    assert main(["--sources", str(config.path), "retry", "--error-class", "unreadable_container"]) == 0
    assert "first: 1\n" in capsys.readouterr().out
    assert probed(config)["first"] == 2  # the changed and the forgotten
    grown = tables(config)
    shutil.rmtree(config.data_root)
    probed(config)
    assert tables(config) == grown
