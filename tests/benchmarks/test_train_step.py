"""The plain implementation is the same model as ours, and the figures are of what they say."""

import json

import pytest
import torch

from benchmarks import train_step
from benchmarks import train_step_arms as arms
from model.huggingface import to_their_names


def test_all_arms_compute_the_same_loss_and_gradients() -> None:
    generator = torch.Generator().manual_seed(5)
    drawn = arms.build(arms.OURS, "tiny", frames=8, image=48, batch=2).model.state_dict()
    # No weight at its initial constant, where a mistake in its use would not show.
    weights = {key: value + 0.1 * torch.randn(value.shape, generator=generator) for key, value in drawn.items()}
    losses, gradients = {}, {}
    for name in arms.ARMS:
        arm = arms.build(name, "tiny", frames=8, image=48, batch=2)
        arm.model.load_state_dict(to_their_names(weights) if name == arms.TRANSFORMERS else weights)
        losses[name] = arm.step()
        gradients[name] = {key: value.grad for key, value in arm.model.named_parameters()}
    # Theirs has other names, and another epsilon in one norm; tests/model holds it equal to the last gradient.
    assert losses[arms.TRANSFORMERS] == pytest.approx(losses[arms.OURS_ENCODER_ONLY], abs=1e-4)
    for ours, other in (
        (arms.OURS, arms.PLAIN),
        (arms.OURS, arms.OURS_WITHOUT_ONEDNN),
        (arms.OURS_ENCODER_ONLY, arms.PLAIN_ENCODER_ONLY),
    ):
        assert losses[other] == pytest.approx(losses[ours], abs=1e-5), other
        assert gradients[other].keys() == gradients[ours].keys()
        for key, gradient in gradients[other].items():
            torch.testing.assert_close(gradient, gradients[ours][key], rtol=1e-5, atol=1e-5, msg=f"{other}: {key}")
    assert abs(losses[arms.OURS] - losses[arms.OURS_ENCODER_ONLY]) > 1e-3


def test_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(train_step, "_in_fresh_process", lambda environment, function, *given: function(*given))
    threads = str(torch.get_num_threads())  # it is set in this very process
    arguments = ["--sizes", "tiny", "--turns", "2", "--frames", "8", "--image", "48", "--threads", threads]
    assert train_step.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    figures = result["sizes"]["tiny"]
    assert figures["arms"].keys() == set(arms.ARMS)
    assert result["speedup_vs_plain"] == {"tiny": figures["speedup"][arms.PLAIN]}
    assert result["memory_vs_plain"] == {"tiny": figures["memory"][arms.PLAIN]}
    assert "| ViT-B, the paper (hours, memory of feature maps) | 1.79 × | 0.52 |" in train_step.table(result)


def test_memory_is_that_of_one_step_in_a_process_of_its_own() -> None:
    def mib(name: str) -> float:
        return train_step.fresh_memory(name, "tiny", (8, 96, 2), 1)

    ours, plain = mib(arms.OURS), mib(arms.PLAIN)
    # Of 576 tokens in each of two clips, 58 seen and 288 decoded: the weights of attention written out are 9 MiB alone.
    assert 5 < ours < 0.8 * plain
