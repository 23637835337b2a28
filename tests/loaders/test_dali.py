import sys
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
import torch

from loaders.dali import DaliClipLoader, build_pipeline, run_pipeline
from loaders.jobs import TrainingPackets, TrainingPixels
from loaders.order import draws
from loaders.train_loader import ClipLoader
from loaders.views import LoaderConfig
from warehouse.catalog.snapshots import Sample

MakeSamples = Callable[[list[bytes]], list[Sample]]
CONFIG = LoaderConfig(clips_per_batch=3, frames=8, size=32, views=2, flip=True, crop="random_resized")
# Grey levels of 255 in a view: the two paths interpolate chroma and scale differently. The next frame is 12 away.
MEAN_TOLERANCE, MAX_TOLERANCE = 4.0, 40


def assert_close(pixels: torch.Tensor, expected: torch.Tensor) -> None:
    difference = (pixels.cpu().int() - expected.int()).abs().float()
    assert difference.flatten(1).mean(dim=1).max() <= MEAN_TOLERANCE
    assert difference.max() <= MAX_TOLERANCE
    assert expected.int().diff(dim=1).abs().float().mean() > 2 * MEAN_TOLERANCE  # the comparison can tell frames apart


@pytest.mark.skipif(sys.platform != "linux", reason="DALI exists for Linux alone")
@pytest.mark.parametrize("kind", ["vp9", "mjpeg"])  # which DALI decodes without a GPU
def test_dali_shows_the_views_that_the_cpu_path_shows(
    kind: str, videos: dict[str, bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples([videos[kind]] * 3)
    pipeline = build_pipeline(CONFIG, "cpu", None)
    order = draws([1.0] * 3, seed=0)
    packets, pixels = TrainingPackets(CONFIG), TrainingPixels(CONFIG)
    for _ in range(3):
        drawn = list(islice(order, 3))
        packed = [packets(samples[draw.index], draw, np.empty(0, np.uint8)) for draw in drawn]
        shown = run_pipeline(pipeline, CONFIG, packed)
        expected = np.empty((3, *pixels.shape), np.uint8)
        for place, draw in enumerate(drawn):
            pixels(samples[draw.index], draw, expected[place])
        assert shown.shape == (6, 8, 32, 32, 3) and shown.dtype == torch.uint8
        assert_close(shown, torch.from_numpy(expected).flatten(0, 1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_to_use(make_samples: MakeSamples) -> None:
    with pytest.raises(RuntimeError, match="use ClipLoader"):
        DaliClipLoader(make_samples([b"data"]), CONFIG)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: DALI's H.264 path was not compared")
def test_gpu_path_equals_cpu_path(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    with DaliClipLoader(samples, CONFIG) as gpu, ClipLoader(samples, CONFIG) as cpu:
        for on_gpu, on_cpu in islice(zip(gpu, cpu, strict=True), 6):
            assert on_gpu.frames.is_cuda
            assert on_gpu.clip_ids == on_cpu.clip_ids and on_gpu.cursor == on_cpu.cursor
            assert torch.equal(on_gpu.class_ids, on_cpu.class_ids)
            assert_close(on_gpu.frames, on_cpu.frames)
