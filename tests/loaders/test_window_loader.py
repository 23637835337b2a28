"""Windows for features: those of the sampling, each with the frames that decoding them alone gives, and none lost."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from loaders.decode import decode_frames
from loaders.evaluation_loader import EvaluationConfig, EvaluationLoader
from loaders.failures import SHARD
from loaders.sampling import sliding_windows
from loaders.window_loader import WindowBatch, WindowLoader
from loaders.windows import PIECE, WindowConfig
from warehouse.catalog.snapshots import Sample
from warehouse.shards.reader import read_sample

MakeSamples = Callable[[list[bytes]], list[Sample]]
EVERY = WindowConfig(clips_per_batch=2, frames=8, size=32, every=4)


def batches(samples: list[Sample], config: WindowConfig) -> list[WindowBatch]:
    with WindowLoader(config) as loader:
        return list(loader.batches(samples))


@pytest.mark.parametrize("workers", [0, 2])
def test_sliding_windows_are_all_there_with_their_frames(
    workers: int, clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples(clips[:3])
    samples[1] = replace(samples[1], frames=5)  # too short for a window: one, that repeats its last frame
    found = batches(samples, replace(EVERY, workers=workers))
    windows = [window for batch in found for window in batch.windows]
    expected = {sample.clip_id: sliding_windows(sample.frames, 8, 4) for sample in samples}
    assert len(expected[samples[0].clip_id]) > PIECE and len(expected[samples[1].clip_id]) == 1
    assert [(window.sample.clip_id, window.number, window.start_frame) for window in windows] == [
        (clip, number, int(frame_ids[0])) for clip, rows in expected.items() for number, frame_ids in enumerate(rows)
    ]
    pixels = np.concatenate([batch.frames.numpy() for batch in found])
    assert len(pixels) == len(windows)
    # A middle window, by decoding its frames alone; the square is taken in the size that it has.
    sample, frame_ids = samples[2], expected[samples[2].clip_id][PIECE + 1]
    side = min(sample.width, sample.height)
    [whole] = [b for b in batches([sample], replace(EVERY, size=side)) if PIECE + 1 in [w.number for w in b.windows]]
    row = [window.number for window in whole.windows].index(PIECE + 1)
    pictures = dict(decode_frames(sample, read_sample(sample), frame_ids.tolist()))
    left = (sample.width - side) // 2
    for step, index in enumerate(frame_ids.tolist()):
        assert np.array_equal(whole.frames[row, step].numpy(), pictures[index][:, left : left + side])


def test_without_a_step_it_is_the_view_of_validation(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips[:4])
    config = EvaluationConfig(clips_per_batch=4, frames=8, size=32, spatial_views=3)
    [expected] = EvaluationLoader(samples, config)
    [found] = batches(samples, replace(EVERY, every=None, spatial_views=3, clips_per_batch=4))
    assert np.array_equal(found.frames.numpy(), expected.frames.numpy())
    assert [window.sample.clip_id for window in found.windows] == [sample.clip_id for sample in samples]
    assert len(found.frames) == 3 * len(found.windows)


def test_a_clip_that_fails_is_told_of_and_nothing_takes_its_place(
    clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples(clips[:3])
    samples[1] = replace(samples[1], sha256="0" * 64)
    found = batches(samples, replace(EVERY, every=None, clips_per_batch=1))
    assert [len(batch.windows) for batch in found] == [1, 0, 1] and found[1].frames.shape == (0, 8, 32, 32, 3)
    [failure] = found[1].failed
    assert (failure.clip_id, failure.error_class) == (samples[1].clip_id, SHARD)
