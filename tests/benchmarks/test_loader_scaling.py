import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import loader_scaling, loader_scaling_data
from benchmarks.loader_scaling_arms import FRAMES, OURS, SIZE, STRIDE, WEBDATASET, user_view
from benchmarks.loader_scaling_data import SHARDS, make_shards, make_snapshot
from loaders.order import Cursor, Draw
from loaders.views import LoaderConfig, render_views, training_views
from warehouse.catalog.snapshots import open_places
from warehouse.shards.reader import read_sample
from warehouse.store import Store


def test_the_figures_are_of_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loader_scaling, "WORKERS", (1,))
    arguments = ["--videos", str(tmp_path / "none"), "--repetitions", "1", "--batches", "1", "--clips", "500"]
    assert loader_scaling.main([*arguments, "--work", str(tmp_path / "work"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(case["workers"], case["loader"]) for case in result["scaling"]] == [
        (1, OURS), (1, WEBDATASET),
    ]  # fmt: skip
    for case in result["scaling"]:
        assert case["clips_per_s"] > 0 and case["worker_mib"] > 10
        assert case["cpu_ms"] >= 0  # counted in hundredths of a second, of which so few clips may take none
    [start] = result["starts"]
    assert result["epoch_start_s"] == {"500": start["ours"]["start_s"]}
    assert 0 < start["ours"]["open_s"] < start["ours"]["start_s"]
    assert start["ours"]["sent_to_worker_bytes"] < 1000  # no list of clips goes to a worker
    assert "| 500 |" in loader_scaling.table(result) and not (tmp_path / "work").exists()


def test_made_up_snapshots_hold_real_clips_and_the_others_see_the_same_picture(
    tmp_path: Path, rendered_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_scaling_data, "SETS", ("**/*.mp4",))
    samples = make_shards(rendered_corpus, tmp_path)
    assert len({sample.shard for sample in samples}) == SHARDS
    places = open_places(Store(tmp_path), make_snapshot(tmp_path, samples, 3000), "train")
    assert len({place.clip_id for place in places}) == 3000 and len({place.source for place in places}) == 6
    contents = {(sample.shard, sample.offset): sample.sha256 for sample in samples}
    assert all(contents[place.shard, place.offset] == place.sha256 for place in places)
    sample = places[1234]
    data = read_sample(sample)
    theirs, ours = user_view(data), np.empty((1, FRAMES, SIZE, SIZE, 3), np.uint8)
    assert theirs.shape == ours.shape[1:]
    # Two random squares of one picture that is short of detail: the same colours on the whole.
    views = training_views(LoaderConfig(1, FRAMES, SIZE), sample, Draw(0, 0, 0, Cursor()))
    render_views(sample, data, views, ours)
    assert sample.stride == STRIDE and abs(theirs.mean() - ours.mean()) < 40
