import dataclasses
import hashlib
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from small_snapshot import SNAPSHOT, write_snapshot

from loaders.dali_sequential import ClipRefusedError, DaliSequentialLoader, SequentialBatch, SequentialCursor
from loaders.order import Cursor, Draw
from loaders.views import LoaderConfig, render_views, training_views
from warehouse.catalog.exporting import export_index, export_tars
from warehouse.catalog.sample import Sample
from warehouse.shards.errors import ShardError
from warehouse.shards.reader import read_sample
from warehouse.store import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="DALI exists for Linux alone")
CONFIG = LoaderConfig(clips_per_batch=4, frames=8, size=32, views=2, seed=3, flip=True, erasing=0.5)
MakeSamples = Callable[[list[bytes]], list[Sample]]


@pytest.fixture
def samples(mjpeg_clips: list[bytes], make_samples: MakeSamples) -> list[Sample]:
    return make_samples(mjpeg_clips)


@pytest.fixture
def export(tmp_path: Path, samples: list[Sample]) -> Path:
    """The index files of a snapshot, whose training split has ten of the twelve clips that its shards hold."""
    export_index(write_snapshot(tmp_path, samples), SNAPSHOT, tmp_path / "export")
    return tmp_path / "export"


def take(export: Path, count: int, start: SequentialCursor | None = None, **options: int) -> list[SequentialBatch]:
    with DaliSequentialLoader(export, "train", CONFIG, start=start, device="cpu", **options) as loader:
        return list(islice(loader, count))


def ids(batches: list[SequentialBatch]) -> list[str]:
    return [clip for batch in batches for clip in batch.clip_ids]


def test_every_epoch_has_each_clip_of_the_collection_once_in_another_order(export: Path, samples: list[Sample]) -> None:
    batches = take(export, 10)
    seen = ids(batches)
    epochs = [seen[first : first + 10] for first in range(0, 40, 10)]
    wanted = {sample.clip_id: number % 2 for number, sample in enumerate(samples[:10])}
    assert all(sorted(epoch) == sorted(wanted) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4
    classes = [wanted[clip] for clip in seen for _ in range(2)]
    assert torch.cat([batch.class_ids for batch in batches]).tolist() == classes
    for batch in batches:
        assert batch.frames.shape == (8, 8, 32, 32, 3) and batch.frames.dtype == torch.uint8
        assert batch.data_wait_s > 0
    # A clip is seen from another start each time, and its two views are cropped differently.
    rows: dict[str, list[torch.Tensor]] = {clip: [] for clip in wanted}
    for batch in batches:
        for place, clip in enumerate(batch.clip_ids):
            rows[clip] += [batch.frames[2 * place], batch.frames[2 * place + 1]]
    assert all(not torch.equal(views[0], other) for views in rows.values() for other in views[1:])


def test_views_are_those_that_the_cpu_path_renders(export: Path, samples: list[Sample]) -> None:
    of_id = {sample.clip_id: sample for sample in samples}
    for position, clip in enumerate(ids(batches := take(export, 3))):
        sample = of_id[clip]
        pixels = np.empty((2, 8, 32, 32, 3), np.uint8)
        views = training_views(CONFIG, sample, Draw(0, position, position, Cursor()))
        render_views(sample, read_sample(sample), views, pixels)
        batch, place = batches[position // 4], position % 4
        difference = batch.frames[2 * place : 2 * place + 2].numpy().astype(int) - pixels
        assert np.abs(difference).mean() <= 4 < np.abs(np.diff(pixels.astype(int), axis=1)).mean() / 2


def test_a_resumed_run_gives_the_remaining_batches(export: Path) -> None:
    whole = take(export, 9)
    assert whole[1].cursor.clips == 8
    for done in (1, 4, 6):
        again = take(export, 9 - done, whole[done - 1].cursor)
        assert ids(again) == ids(whole[done:])
        for shown, expected in zip(again, whole[done:], strict=True):
            assert torch.equal(shown.frames, expected.frames) and shown.cursor == expected.cursor


def test_ranks_are_disjoint_and_complete(export: Path) -> None:
    first, second = (take(export, 1, rank=rank, world=2) for rank in range(2))
    assert not set(ids(first)) & set(ids(second))
    reads = [take(export, 3, rank=rank, world=2) for rank in range(2)]
    assert {clip for batches in reads for clip in ids(batches)} == set(ids(take(export, 3)))


def test_a_clip_with_other_bytes_ends_the_loader_by_name(export: Path, samples: list[Sample]) -> None:
    damage(samples[6])
    with (
        DaliSequentialLoader(export, "train", CONFIG, device="cpu") as loader,
        pytest.raises(ShardError, match=r"shard-05\.tar: .* are not clip clip-06 .SHA-256"),
    ):
        for _ in range(3):
            next(loader)


def test_a_clip_that_dali_refuses_ends_the_loader_by_name(export: Path, samples: list[Sample]) -> None:
    digest = damage(samples[6])
    clips = export / "clips.csv"
    clips.write_text(clips.read_text().replace(samples[6].sha256, digest))
    with (
        DaliSequentialLoader(export, "train", CONFIG, device="cpu") as loader,
        pytest.raises(ClipRefusedError, match=r"clip-06 in .*shard-05\.tar .*DALI: "),
    ):
        for _ in range(3):
            next(loader)


def damage(sample: Sample) -> str:
    """Overwrite the pictures of a clip; the digest of what it is now."""
    with sample.shard.open("r+b") as shard:
        shard.seek(sample.offset + 200)
        shard.write(bytes(sample.size - 4000))
        shard.seek(sample.offset)
        return hashlib.sha256(shard.read(sample.size)).hexdigest()


def test_what_is_no_export_with_index_files_is_refused_with_a_remedy(export: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no split 'test', but train, val"):
        DaliSequentialLoader(export, "test", CONFIG, device="cpu")
    export_tars(Store(tmp_path), SNAPSHOT, tmp_path / "tars")
    with pytest.raises(ValueError, match="with --index"):
        DaliSequentialLoader(tmp_path / "tars", "train", CONFIG, device="cpu")
    old = export / "clips.csv"
    old.write_text(old.read_text().replace(",frames,", ",frame_count,"))
    with pytest.raises(ValueError, match="has no column 'frames': export the collection again"):
        DaliSequentialLoader(export, "train", dataclasses.replace(CONFIG, views=1), device="cpu")
