import dataclasses
from collections.abc import Callable
from itertools import islice

import pytest
import torch

from loaders.failures import TooManyFailuresError
from loaders.to_device import DeviceBatches
from loaders.train_loader import ClipLoader, LoaderConfig
from warehouse.catalog.sample import Sample

MakeSamples = Callable[[list[bytes]], list[Sample]]
CONFIG = LoaderConfig(clips_per_batch=5, frames=8, size=32, views=2, workers=2, max_failed_share=0.5)
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: copying ahead was not tried")


def test_on_a_cpu_batches_pass_through_and_the_log_is_told(clips: list[bytes], make_samples: MakeSamples) -> None:
    with ClipLoader(make_samples(clips), CONFIG) as loader, DeviceBatches(loader, torch.device("cpu")) as batches:
        assert "where the workers write them" in batches.how and "cpu" in batches.how
        first = next(iter(batches))
        assert torch.from_numpy(loader.memory).data_ptr() <= first.frames.data_ptr()
        assert first.cursor == loader.cursor


@pytest.mark.gpu
@NO_GPU
def test_batches_on_the_gpu_are_those_of_the_loader(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples, device = make_samples(clips), torch.device("cuda", 0)
    with ClipLoader(samples, CONFIG) as expected, ClipLoader(samples, CONFIG) as loader:
        with DeviceBatches(loader, device) as batches:
            assert "pinned" in batches.how and torch.from_numpy(loader.memory).is_pinned()
            kept = []
            for batch, other in islice(zip(batches, expected, strict=False), 12):
                assert batch.frames.device == device and batch.class_ids.device.type == "cpu"
                assert batch.cursor == other.cursor and batch.clip_ids == other.clip_ids
                kept.append((batch.frames, other.frames.clone()))
                batch.frames.float().std()  # work on the consumer's stream
        assert all(torch.equal(frames.cpu(), same) for frames, same in kept)
        assert not torch.from_numpy(loader.memory).is_pinned()


@pytest.mark.gpu
@NO_GPU
def test_what_the_loader_raises_is_raised_where_batches_are_taken(
    clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples(clips)
    for sample in samples[:3]:
        with sample.shard.open("r+b") as shard:
            shard.seek(sample.offset + 100)
            shard.write(b"broken")
    config = dataclasses.replace(CONFIG, max_failed_share=0.05)
    device = torch.device("cuda", 0)
    with (
        ClipLoader(samples, config) as loader,
        DeviceBatches(loader, device) as batches,
        pytest.raises(TooManyFailuresError, match="clips failed"),
    ):
        list(islice(batches, 20))
