"""Very small runs of the benchmarks of curation: the figures that they promise are there, and can be computed."""

import json
from pathlib import Path

import pytest

from benchmarks import dedup_scale, duplicates, probe
from benchmarks.duplicate_edits import EDITS, REAL


def test_dedup_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dedup_scale.main(["--clips", "5000", "--work", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clips"] == 5000 and result["frame_hashes"] > 5000 * 100
    assert result["recall"] > 0.99 and result["recall_by_kind"].keys() == {"as it is", "mirrored", "centre"}
    assert result["seconds"] > 0 and 0.1 < result["peak_gib"] < 4
    # One clip was copied 500 times, of which one stays; a copy of another goes for each planted pair.
    assert result["decisions"]["duplicate"] >= 499 + 0.99 * 0.02 * 5000
    assert sum(result["decisions"].values()) == 5000
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        dedup_scale.main(["--clips", "10"])


def test_probe(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "WORK", tmp_path)
    monkeypatch.setattr(probe, "CORPUS_CLIPS", 64)
    assert probe.main(["--repetitions", "1", "--videos", str(tmp_path / "none"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sets"].keys() == {"rendered", "all"} and result["sets"]["all"]["clips"] >= 8
    rate = result["sets"]["all"]["clips_per_cpu_second"]
    assert result["share_of_decode"] == pytest.approx(rate["probe"] / rate["decode"])
    assert "| rendered |" in probe.table(result)


@pytest.mark.skipif(not REAL.exists(), reason=f"no real video in {REAL}: the duplicate benchmark was not run")
def test_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    everything = duplicates.originals()
    some = [clip for clip in everything if clip.part == "held_out"][:6]
    monkeypatch.setattr(duplicates, "originals", lambda: some)
    assert duplicates.main(["--clips", "1", "--work", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for name in ("recall", "precision", "baseline_recall", "baseline_precision"):
        assert result[name].keys() == set(EDITS)
    assert result["recall"]["re-encoded, crf 23"] == 1 and result["edited"] == 1 and result["pairs_of_strangers"] == 15
