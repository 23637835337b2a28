"""What of the pipeline for a GPU can be checked without one: its arguments, and that there are such operators."""

import sys
from typing import Any

import pytest
import torch

from loaders.dali_decoder import DaliDecoder
from loaders.recipes import finetuning, pretraining
from loaders.views import EvaluationConfig, LoaderConfig

WHOLE = finetuning(4)  # RandAugment: frames as they are decoded
OWN = LoaderConfig(clips_per_batch=2, views=3, own_windows=True)
TEST = EvaluationConfig(clips_per_batch=2, temporal_views=5, spatial_views=3)


@pytest.mark.skipif(sys.platform != "linux", reason="DALI exists for Linux alone")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the whole path is tested on it")
@pytest.mark.parametrize(("config", "outputs"), [(pretraining(4), 4), (WHOLE, 1), (OWN, 3), (TEST, 15)])
def test_dali_accepts_the_pipeline_for_a_gpu(
    config: LoaderConfig | EvaluationConfig, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nvidia.dali import Pipeline, backend

    pipelines: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(backend, "check_cuda_runtime", lambda: None)
    monkeypatch.setattr(Pipeline, "build", lambda self: pipelines.append(self))
    DaliDecoder(config, torch.device("cuda", 0))
    (pipeline,) = pipelines
    # The first half of what `build` does, with no device: DALI checks the arguments. The second makes the operators.
    pipeline._device_id = None
    pipeline._build_graph()
    pipeline._init_pipeline_backend()
    assert {"SequenceRearrange", "Slice", "Resize", "Flip"} <= set(backend.RegisteredGPUOps())
    assert "decoders__Video" in backend.RegisteredMixedOps()
    assert [device for _, device in pipeline._names_and_devices] == ["gpu"] * outputs
