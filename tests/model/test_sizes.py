"""The table of sizes against the parameter counts of the released models."""

import pytest
import torch

from model.classifier import Classifier, ClassifierConfig
from model.features import FeatureConfig, FeatureExtractor
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES, Grid

# Counted on the released VideoMAE V2 models at 16 × 224 × 224, decoder depth 4.
# name: pre-training, its encoder, its decoder, fine-tuning with 400 and with 710 classes, tensors in each state dict
RELEASED = {
    "S": (24_029_376, 21_879_936, 2_075_520, 22_033_936, 22_153_286, 218, 162),
    "B": (94_210_944, 86_227_200, 7_688_448, 86_534_800, 86_773_190, 218, 162),
    "L": (317_782_016, 303_860_736, 13_396_480, 304_270_736, 304_588_486, 374, 318),
    "H": (645_659_392, 631_607_040, 13_396_480, 632_119_440, 632_516_550, 478, 422),
    "g": (1_026_306_560, 1_011_610_752, 13_974_400, 1_012_174_352, 1_012_611_142, 582, 526),
}


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", RELEASED)
def test_parameters_are_those_of_the_released_models(name: str) -> None:
    pretraining, encoder, decoder, finetuning_400, finetuning_710, tensors, classifier_tensors = RELEASED[name]
    size = SIZES[name]
    with torch.device("meta"):
        pretrainer = Pretrainer(PretrainerConfig(size, 16, 224))
        k400 = Classifier(ClassifierConfig(size, 16, 224, tuple(map(str, range(400)))))
        k710 = Classifier(ClassifierConfig(size, 16, 224, tuple(map(str, range(710)))))
    assert parameters(pretrainer) == pretraining
    assert parameters(pretrainer.encoder) == encoder
    assert parameters(pretrainer.decoder) == decoder
    assert (parameters(k400), parameters(k710)) == (finetuning_400, finetuning_710)
    assert (len(pretrainer.state_dict()), len(k400.state_dict())) == (tensors, classifier_tensors)
    with torch.device("meta"):
        features = FeatureExtractor(FeatureConfig(size, 16, 224))
    assert parameters(features) == finetuning_400 - 400 * (size.dim + 1)
    assert k400.state_dict().keys() - features.state_dict().keys() == {"head.weight", "head.bias"}


def test_state_dict_names_are_those_of_the_released_checkpoints() -> None:
    block = ["attn.q_bias", "attn.v_bias", "attn.qkv.weight", "attn.proj.weight", "attn.proj.bias"]
    block += [f"{part}.{kind}" for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2") for kind in ("weight", "bias")]
    size = SIZES["tiny"]
    encoder = {f"blocks.{i}.{name}" for i in range(size.depth) for name in block}
    encoder |= {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    decoder = {f"decoder.blocks.{i}.{name}" for i in range(size.decoder_depth) for name in block}
    decoder |= {f"decoder.{part}.{kind}" for part in ("norm", "head") for kind in ("weight", "bias")}
    pretrainer = {f"encoder.{name}" for name in encoder | {"norm.weight", "norm.bias"}} | decoder
    pretrainer |= {"mask_token", "encoder_to_decoder.weight"}
    classifier = encoder | {f"{part}.{kind}" for part in ("fc_norm", "head") for kind in ("weight", "bias")}
    assert Pretrainer(PretrainerConfig(size, 16, 48)).state_dict().keys() == pretrainer
    assert Classifier(ClassifierConfig(size, 16, 48, ("a", "b"))).state_dict().keys() == classifier


def test_grid() -> None:
    assert SIZES["g"].grid(16, 224) == Grid(8, 16, 16)
    assert SIZES["B"].grid(16, 224).tokens == 1568
    for frames, image in ((16, 256), (0, 224), (16, 0), (-2, 224), (16, -14)):
        with pytest.raises(ValueError, match="do not divide"):
            SIZES["g"].grid(frames, image)
