"""Operations by the formula and by PyTorch's own count; the peak of a GPU by its name."""

import pytest
import torch
from made_up_models import random_clips
from small_training import NAMES, SMALL
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model import cubes, flops
from model.classifier import Classifier, ClassifierConfig
from model.features import FeatureConfig, FeatureExtractor
from model.masking import DECODER_MASKS, DecoderMask
from model.pretrainer import Pretrainer, PretrainerConfig

CLIPS = random_clips(1, 8, 32)


@pytest.mark.parametrize("decoder_mask", DECODER_MASKS)
def test_a_training_step_of_pre_training_takes_what_is_said(decoder_mask: DecoderMask) -> None:
    model = Pretrainer(PretrainerConfig(SMALL, 8, 32, tube_ratio=0.75, decoder_mask=decoder_mask))
    masks = model.draw_masks(1, torch.Generator().manual_seed(0))
    assert flops.forward_macs(model.config) == counted(
        model, cubes.to_cubes(CLIPS, SMALL, model.config.grid), masks.visible_BV, masks.decoded_BM
    )
    assert flops.training_flops(model.config) == 6 * flops.forward_macs(model.config)


def test_so_do_a_classifier_and_a_feature_extractor() -> None:
    classifier = Classifier(ClassifierConfig(SMALL, 8, 32, NAMES))
    features = FeatureExtractor(FeatureConfig(SMALL, 8, 32))
    assert flops.forward_macs(classifier.config) == counted(classifier, CLIPS)
    assert flops.forward_macs(features.config) == counted(features, CLIPS)
    assert flops.forward_macs(classifier.config) - flops.forward_macs(features.config) == 3 * SMALL.dim


def counted(model: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-accumulates. PyTorch's counter does not know oneDNN's products, so the meta device has to do."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.to("meta")(*(given.to("meta") for given in inputs))
    return counter.get_total_flops() // 2


def test_the_peak_is_that_of_the_gpu_s_form(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {
        "NVIDIA H100 80GB HBM3": 989.4,
        "NVIDIA H100 PCIe": 756.0,
        "NVIDIA H200": 989.4,
        "NVIDIA A100-SXM4-80GB": 312.0,
        "NVIDIA GeForce RTX 3060": None,
    }
    for name, peak in peaks.items():
        flops.peak_tflops.cache_clear()
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert flops.peak_tflops(torch.device("cuda", 0)) == peak
    assert flops.peak_tflops(torch.device("cpu")) is None
