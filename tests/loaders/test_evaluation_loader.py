import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loaders import pool
from loaders.batch import Batch
from loaders.evaluation_loader import EvaluationClipError, EvaluationConfig, EvaluationLoader
from loaders.views import evaluation_views
from warehouse.catalog.snapshots import Sample

MakeSamples = Callable[[list[bytes]], list[Sample]]
CONFIG = EvaluationConfig(clips_per_batch=5, frames=8, size=32, temporal_views=2, spatial_views=3)


def rows(batches: list[Batch]) -> list[str]:
    return [clip for batch in batches for clip in batch.clip_ids]


def test_every_clip_comes_once_with_all_views_in_order(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    loader = EvaluationLoader(samples, CONFIG)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    assert [len(batch.frames) for batch in batches] == [30, 30, 12]  # the last is smaller, not padded
    assert rows(batches) == [sample.clip_id for sample in samples for _ in range(6)]
    assert torch.cat([batch.class_ids for batch in batches]).tolist()[-12:] == [10] * 6 + [-1] * 6


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_a_second_pass_change_nothing(
    workers: int, clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples(clips)
    expected = list(EvaluationLoader(samples, CONFIG))
    with EvaluationLoader(samples, dataclasses.replace(CONFIG, workers=workers)) as loader:
        next(iter(loader))  # abandoned
        for _ in range(2):
            batches = list(loader)
            assert rows(batches) == rows(expected)
            assert all(torch.equal(a.frames, b.frames) for a, b in zip(batches, expected, strict=True))


def test_ranks_are_disjoint_and_complete(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips[:7])
    config = dataclasses.replace(CONFIG, temporal_views=1, spatial_views=1)
    seen = [rows(list(EvaluationLoader(samples, config, rank, world=3))) for rank in range(3)]
    assert [len(clips_of_rank) for clips_of_rank in seen] == [3, 2, 2]
    assert sorted(clip for clips_of_rank in seen for clip in clips_of_rank) == [sample.clip_id for sample in samples]
    assert list(EvaluationLoader(samples[:1], config, rank=2, world=3)) == []


def test_views_are_windows_by_squares(clips: list[bytes], make_samples: MakeSamples) -> None:
    (sample,) = make_samples(clips[:1])
    views = evaluation_views(CONFIG, sample)
    assert [(int(view.frame_ids[0]), view.box.left) for view in views] == [
        (start, left) for start in (0, 44) for left in (0, 12, 24)
    ]
    (single,) = evaluation_views(EvaluationConfig(1, frames=8), sample)
    assert int(single.frame_ids[0]) == 22 and single.box.left == 12


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failed_clip_is_an_error(workers: int, clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    with samples[6].shard.open("r+b") as shard:
        shard.seek(samples[6].offset + 100)
        shard.write(b"broken")
    with EvaluationLoader(samples, dataclasses.replace(CONFIG, workers=workers)) as loader:
        batches = iter(loader)
        assert len(next(batches).frames) == 30
        with pytest.raises(EvaluationClipError, match="clip-06") as raised:
            next(batches)
    assert str(samples[6].shard) in str(raised.value)


def test_a_clip_whose_storage_does_not_answer_is_an_error(
    clips: list[bytes], make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CLIP_SECONDS", 1.0)
    samples = make_samples(clips)
    silent = tmp_path / "silent.tar"
    os.mkfifo(silent)  # to open it waits for somebody who writes: nobody does
    samples[6] = dataclasses.replace(samples[6], shard=silent)
    with EvaluationLoader(samples, dataclasses.replace(CONFIG, workers=2)) as loader:
        batches = iter(loader)
        assert len(next(batches).frames) == 30
        with pytest.raises(EvaluationClipError, match=r"clip-06 in .*silent.tar.* was killed, as it hung"):
            next(batches)
