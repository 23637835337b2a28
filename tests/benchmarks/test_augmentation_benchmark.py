"""The benchmark of augmentation runs, and its parts add up."""

from pathlib import Path

import pytest

from benchmarks import augmentation
from loaders.randaugment import OPERATIONS


def test_every_step_and_operation_is_measured(
    rendered_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(rendered_corpus.rglob("*.mp4"))[:2]
    monkeypatch.setattr(augmentation, "WORK", tmp_path)
    monkeypatch.setattr(augmentation, "_paths", lambda videos: (paths, False))
    result = augmentation.measure(tmp_path, draws=4)
    assert (result["clips"], result["views"], result["real"]) == (2, 16, False)
    assert result["ms_a_view"].keys() == set(augmentation.STEPS)
    assert all(milliseconds > 0 for milliseconds in result["ms_a_view"].values())
    assert list(result["ms_an_operation"]) == list(OPERATIONS)
    assert 0 < result["randaugment_share_of_view"] < 1
    assert "rendered clips (no real ones were found)" in augmentation.table(result)
