import dataclasses
import sys
from collections.abc import Callable

import pyarrow as pa
import pytest
import torch

from loaders.dali_choice import evaluation_loader, training_loader
from loaders.evaluation_loader import EvaluationLoader
from loaders.order import Cursor
from loaders.train_loader import ClipLoader
from loaders.views import EvaluationConfig, LoaderConfig
from warehouse.catalog.sample import Sample, Tombstone
from warehouse.catalog.samples import Places

TRAINING = LoaderConfig(clips_per_batch=2, frames=8, size=32)
EVALUATION = EvaluationConfig(clips_per_batch=2, frames=8, size=32)
GPU = torch.device("cuda", 0)
MakeSamples = Callable[[list[bytes]], list[Sample]]


@pytest.fixture
def samples(clips: list[bytes], make_samples: MakeSamples) -> list[Sample]:
    return [dataclasses.replace(sample, codec="h264") for sample in make_samples(clips)]


def test_without_a_gpu_clips_are_decoded_on_the_cpu_and_that_is_said(samples: list[Sample]) -> None:
    loader, how = training_loader(samples, TRAINING, 0, 1, Cursor(0, 4), torch.device("cpu"))
    with loader:
        assert isinstance(loader, ClipLoader) and loader.cursor == Cursor(0, 4)
        assert next(loader).frames.shape == (2, 8, 32, 32, 3)
    assert how == "clips are decoded by PyAV on the CPU, 0 worker processes: there is no NVIDIA GPU"
    scored, how = evaluation_loader(samples, EVALUATION, torch.device("cpu"))
    with scored:
        assert isinstance(scored, EvaluationLoader) and len(scored) == 6
    assert how.endswith("there is no NVIDIA GPU")


def test_clips_that_a_gpu_does_not_decode_are_decoded_on_the_cpu(samples: list[Sample]) -> None:
    samples[7] = dataclasses.replace(samples[7], codec="av1")
    loader, how = training_loader(samples, TRAINING, 0, 1, Cursor(), GPU)
    assert isinstance(loader, ClipLoader)
    assert how.endswith("DALI does not decode av1 on a GPU, and there are such clips")


def test_codecs_of_a_snapshot_are_found_without_an_object_for_each_clip(samples: list[Sample]) -> None:
    rows = [{**dataclasses.asdict(sample), "shard": sample.shard.name, "gone": False} for sample in samples]
    rows[3]["codec"] = "av1"
    rows[5] |= {"codec": None, "shard": None, "gone": True}
    places = Places(samples[0].shard.parent, pa.Table.from_pylist(rows))
    assert isinstance(places[5], Tombstone) and places.codecs() == {"h264", "av1"}
    scored, how = evaluation_loader(places, EVALUATION, GPU)
    assert isinstance(scored, EvaluationLoader) and "av1" in how


def test_where_dali_cannot_be_imported_that_is_said(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    loader, how = training_loader(samples, TRAINING, 0, 1, Cursor(), GPU)
    assert isinstance(loader, ClipLoader) and "nvidia-dali cannot be imported (" in how


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.skipif(sys.platform != "linux", reason="DALI exists for Linux alone")
def test_a_gpu_that_is_not_there_is_an_error_and_no_other_loader(samples: list[Sample]) -> None:
    with pytest.raises(RuntimeError, match="no NVIDIA GPU"):
        training_loader(samples, TRAINING, 0, 1, Cursor(), GPU)
    with pytest.raises(RuntimeError, match="no NVIDIA GPU"):
        evaluation_loader(samples, EVALUATION, GPU)
