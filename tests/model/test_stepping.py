"""A step on the device: broken gradients change nothing, averages are what they are said to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest
import torch
from small_training import CONFIG, CPU, Batch, classification, pretraining, stream
from torch import Tensor

from model.objectives import ClipBatch, Draw, Objective, Pretraining
from model.optim import rate_at
from model.pretrainer import Pretrainer
from model.stepping import StepNumbers, add_gradients, finish_step, prepare
from model.training import FitConfig

pytestmark = pytest.mark.usefixtures("one_rank")


def one_step(
    objective: Objective, trained: Mapping, step: int, config: FitConfig = CONFIG, batches: Sequence[Batch] = ()
) -> StepNumbers:
    """As the loop takes it."""
    batches = batches or [next(stream(step))]
    draws = [Draw(config.seed, step, 0, 1, part, len(batches)) for part in range(len(batches))]
    losses = [add_gradients(objective, trained, batch, draw, CPU) for batch, draw in zip(batches, draws, strict=True)]
    rate = rate_at(step, config.steps, config.optim)
    return finish_step(trained, torch.stack(losses).sum(0), (1.0, 2.0), rate, config).wait()


def everything(trained: Mapping) -> dict[str, Tensor]:
    """All weights and all that the optimisers remember."""
    found = {}
    for one in trained.values():
        for name, weight in one.model.named_parameters():
            found[name] = weight.detach().full_tensor().clone()
            for key, value in one.optimizer.state[weight].items():
                found[f"{name}/{key}"] = getattr(value, "full_tensor", lambda value=value: value)().clone()
    return found


class Spoiled(torch.autograd.Function):
    """Changes nothing on the way forward, and breaks one number of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient.view(-1)[0] = torch.inf
        return gradient


@dataclass(frozen=True)
class SpoiledInStep:
    """Pre-training whose gradients, or whose loss, are broken in one step."""

    model: Pretrainer
    step: int
    what: str

    @property
    def models(self) -> Mapping[str, Pretrainer]:
        return {"": self.model}

    def losses(self, batch: ClipBatch, draw: Draw, device: torch.device) -> Mapping[str, Tensor]:
        if draw.step != self.step:
            return Pretraining(self.model).losses(batch, draw, device)
        if self.what == "gradient":
            handle = self.model.decoder.head.register_forward_hook(lambda module, inputs, out: Spoiled.apply(out))
            losses = Pretraining(self.model).losses(batch, draw, device)
            handle.remove()
            return losses
        return {"": Pretraining(self.model).loss(batch, draw, device) * torch.nan}


@pytest.mark.parametrize("what", ["gradient", "loss"])
@pytest.mark.parametrize("clip_grad", [None, 1.0])
def test_a_broken_step_leaves_weights_and_optimiser_as_they_were(what: str, clip_grad: float | None) -> None:
    config = replace(CONFIG, optim=replace(CONFIG.optim, clip_grad=clip_grad))
    objective = SpoiledInStep(pretraining().model, 2, what)
    trained = prepare(objective, config, CPU)
    for step in range(2):
        one_step(objective, trained, step, config)
    before = everything(trained)
    numbers = one_step(objective, trained, 2, config)
    spoiled = numbers.losses if what == "loss" else numbers.grad_norms
    assert not torch.tensor(spoiled[""]).isfinite()
    assert torch.tensor(numbers.losses[""]).isfinite() == (what == "gradient")
    after = everything(trained)
    assert len(after) == 4 * len(list(objective.model.parameters()))
    assert all(torch.equal(before[name], after[name]) for name in before)
    # The next one is taken as if nothing had been.
    one_step(objective, trained, 3, config)
    assert not any(torch.equal(before[name], now) for name, now in everything(trained).items() if "qkv" in name)


def test_averages_are_the_slow_sum() -> None:
    objective, config = classification(), replace(CONFIG, ema_decay=0.75)
    first = {name: weight.detach().double().clone() for name, weight in objective.model.named_parameters()}
    trained = prepare(objective, config, CPU)
    seen = [first]
    for step in range(5):
        one_step(objective, trained, step, config)
        seen.append({name: w.detach().full_tensor().double() for name, w in objective.model.named_parameters()})
    averaged = trained[""].averaged
    assert averaged is not None and averaged.keys() == first.keys()
    for name, average in averaged.items():
        assert average.placements == dict(objective.model.named_parameters())[name].placements
        # What is left of the first weights and, with falling shares, of those after each step.
        expected = 0.75**5 * seen[0][name] + sum(0.25 * 0.75 ** (5 - k) * seen[k][name] for k in range(1, 6))
        torch.testing.assert_close(average.full_tensor().double(), expected, rtol=1e-6, atol=1e-8)


def test_what_ranks_tell_is_summed_beside_the_losses() -> None:
    objective = pretraining()
    trained = prepare(objective, CONFIG, CPU)
    batches = list(islice(stream(), 2))
    numbers = one_step(objective, trained, 0, replace(CONFIG, accumulate=2), batches)
    assert numbers.told == (1.0, 2.0)
    own = pretraining()
    losses = [own.loss(batch, Draw(11, 0, 0, 1, part, 2), CPU).item() for part, batch in enumerate(batches)]
    assert losses[0] != losses[1]
    assert numbers.losses == pytest.approx({"": sum(losses) / 2}, rel=1e-6)
