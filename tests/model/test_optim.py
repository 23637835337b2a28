"""Which weights decay, how layers' rates fall, and the rate of each step."""

import numpy as np
import pytest
import torch

from model.classifier import Classifier, ClassifierConfig
from model.optim import OptimConfig, build_optimizer, parameter_groups, rate_at, scaled_rate, set_rate
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES


def test_layer_decay_of_the_giant_is_the_released_one() -> None:
    with torch.device("meta"):
        model = Classifier(ClassifierConfig(SIZES["g"], 16, 224, ("a", "b")))
    groups = list(parameter_groups(model, 40, OptimConfig(1.0, 0, layer_decay=0.9)))
    assert len(groups) == 84
    assert min(group["scale"] for group in groups) == pytest.approx(0.0133, abs=5e-5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    by_parameter = {id(parameter): group for group in groups for parameter in group["params"]}
    assert by_parameter[id(model.patch_embed.proj.weight)]["scale"] == pytest.approx(0.9**41)
    assert by_parameter[id(model.blocks[0].mlp.fc1.weight)]["scale"] == pytest.approx(0.9**40)
    assert by_parameter[id(model.blocks[39].mlp.fc1.weight)]["scale"] == pytest.approx(0.9)
    assert by_parameter[id(model.fc_norm.weight)]["scale"] == 1
    assert by_parameter[id(model.head.weight)]["scale"] == 1


def test_decay_is_for_matrices_alone() -> None:
    model = Pretrainer(PretrainerConfig(SIZES["tiny"], 16, 48))
    groups = list(parameter_groups(model, 4, OptimConfig(1.0, 0, weight_decay=0.05)))
    assert len(groups) == 2
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = (
        {names[id(p)] for group in groups if group["weight_decay"] == decay for p in group["params"]}
        for decay in (0.05, 0.0)
    )
    assert "mask_token" in spared
    assert "encoder.blocks.0.attn.q_bias" in spared
    assert "encoder.norm.weight" in spared
    assert "encoder_to_decoder.weight" in decayed
    assert "encoder.patch_embed.proj.weight" in decayed
    assert all(dict(model.named_parameters())[name].ndim >= 2 for name in decayed)
    assert len(decayed) + len(spared) == len(names)


@pytest.mark.parametrize("warmup_steps", [0, 1, 2, 10])
def test_schedule_is_the_released_one(warmup_steps: int) -> None:
    config = OptimConfig(peak_rate=1.2, warmup_steps=warmup_steps, final_rate=0.1)
    rates = [rate_at(step, 110, config) for step in range(110)]
    # As the released code goes about it, per step: a line and a cosine, put one after the other.
    after = np.arange(110 - warmup_steps)
    cosine = 0.1 + 0.5 * (1.2 - 0.1) * (1 + np.cos(np.pi * after / len(after)))
    expected = np.concatenate((np.linspace(0, 1.2, warmup_steps), cosine))
    assert rates == pytest.approx(expected.tolist(), rel=1e-12)
    assert rates[0] == (0 if warmup_steps else 1.2) and rates[warmup_steps] == 1.2


def test_rates_scale_with_batch_and_layer() -> None:
    assert scaled_rate(6e-4, 2048) == pytest.approx(4.8e-3)
    size = SIZES["tiny"]
    model = Classifier(ClassifierConfig(size, 16, 48, ("a", "b")))
    optimizer = build_optimizer(model, size.depth, OptimConfig(1.0, 0, layer_decay=0.5))
    set_rate(optimizer, 0.2)
    assert {group["lr"] for group in optimizer.param_groups} == {0.2 * 0.5**i for i in range(size.depth + 2)}
