"""Multiply-accumulates against those measured of the released code, and the paper's."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import flops
from model import flops as counts
from model.blocks import CubeEmbedding
from model.sizes import SIZES


def test_counts_are_those_of_the_released_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert flops.main(["--size", "S", "B", "g", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {name: round(value, 2) for name, value in result["gmacs"].items()} == {"S": 7.84, "B": 25.84, "g": 241.61}
    encoder_only = {name: round(figures["encoder_only"], 2) for name, figures in result["figures"].items()}
    assert encoder_only == {"S": 11.54, "B": 35.44, "g": 263.96}
    for name, published in flops.PUBLISHED.items():
        for key, value in published.items():
            if name in result["figures"]:
                assert result["figures"][name][key] == pytest.approx(value, rel=2e-3), (name, key)


def test_embedding_counts_as_the_released_convolution_over_the_whole_clip() -> None:
    size = SIZES["g"]
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        CubeEmbedding(size).proj(torch.empty(1, 3, 16, 224, 224))
    assert counter.get_total_flops() == 2 * counts.embedding_macs(size, 2048)


def test_a_formula_that_is_wrong_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "stack_macs", lambda tokens, dim, hidden, depth: tokens * dim * hidden * depth)
    with pytest.raises(ArithmeticError, match=r"tiny, dual: .* by the formula, .* by PyTorch's counter"):
        flops.gmacs("tiny")
