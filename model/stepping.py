"""A step on the device: forward and backward of every model, its update and its average; the host waits for nothing.

What the host wants to know of a step it reads later (:class:`Reading`). Until then nobody knows whether the numbers
were finite, so the device itself leaves weights and optimiser as they were where they are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from model.checkpoint import Trained
from model.fit_config import FitConfig
from model.objectives import ClipBatch, Draw, Objective
from model.optim import build_optimizer, set_rate
from model.parallel import parallelise


def prepare(objective: Objective, config: FitConfig, device: torch.device) -> dict[str, Trained]:
    """Move the objective's models to the device, shard them, and give each an optimiser of its own.

    Averages begin as the weights, without a warm-up (timm's ``ModelEma``, as the released code has it).
    """
    trained = {}
    for name, model in objective.models.items():
        model.to(device)
        parallelise(model, device, config.checkpointing, config.compile)
        model.train()
        averaged = None
        if config.ema_decay is not None:
            averaged = {key: weight.detach().clone() for key, weight in model.named_parameters()}
        trained[name] = Trained(model, build_optimizer(model, model.config.size.depth, config.optim), averaged)
    return trained


@dataclass(frozen=True)
class StepNumbers:
    """What a step found out, the same on all ranks. ``told`` are sums of what each rank had to tell."""

    losses: Mapping[str, float]
    grad_norms: Mapping[str, float]
    told: tuple[float, ...]


@dataclass(frozen=True)
class Reading:
    """The numbers of a step on their way from the device to the host."""

    names: tuple[str, ...]
    ranks: int
    host: Tensor
    copied: torch.cuda.Event | None

    @classmethod
    def begin(cls, names: Sequence[str], numbers: Tensor) -> Self:
        """Start to copy them: losses summed over ranks, gradient norms, and what ranks told."""
        host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=numbers.is_cuda)
        host.copy_(numbers, non_blocking=True)
        copied = None
        if numbers.is_cuda:
            copied = torch.cuda.Event()
            copied.record()
        return cls(tuple(names), dist.get_world_size(), host, copied)

    def wait(self) -> StepNumbers:
        """The numbers, as soon as the device has them."""
        if self.copied is not None:
            self.copied.synchronize()
        numbers = self.host.tolist()
        count = len(self.names)
        return StepNumbers(
            losses=dict(zip(self.names, (total / self.ranks for total in numbers[:count]), strict=True)),
            grad_norms=dict(zip(self.names, numbers[count : 2 * count], strict=True)),
            told=tuple(numbers[2 * count :]),
        )


def add_gradients(
    objective: Objective, trained: Mapping[str, Trained], batch: ClipBatch, draw: Draw, device: torch.device
) -> Tensor:
    """Forward and backward of a batch, which is a part of a step; what it adds to each model's mean loss of the step.

    Gradients are summed over ranks after each part. To wait for the last one (FSDP2's ``set_requires_gradient_sync``)
    would save a third of what is sent, but take whole gradients on every GPU: 4 GB of g's billion weights.

    Returns float32 (models,), on the device, without a graph.
    """
    losses = objective.losses(batch, draw, device)
    own = []
    for name in trained:
        loss = losses[name] / draw.parts
        loss.backward()
        own.append(loss.detach())
    return torch.stack(own)


def finish_step(
    trained: Mapping[str, Trained], losses_M: Tensor, told: Sequence[float], rate: float, config: FitConfig
) -> Reading:
    """Clip the gradients that are there, update every model and its averages.

    ``losses_M`` are this rank's losses of the step; its numbers ``told`` are summed over ranks in the same exchange.
    """
    norms = [clip(one.model, config.optim.clip_grad) for one in trained.values()]
    # One exchange a step: every rank must know of a broken loss and of a wish to stop, or they would part ways.
    own_T = torch.tensor(told, dtype=torch.float64, pin_memory=losses_M.is_cuda)
    shared = torch.cat((losses_M.double(), own_T.to(losses_M.device, non_blocking=True)))
    dist.all_reduce(shared)
    numbers = torch.cat((shared[: len(norms)], torch.stack(norms).double(), shared[len(norms) :]))
    broken = (~numbers.isfinite().all()).float()
    for one in trained.values():
        update(one, rate, broken, config.ema_decay)
    return Reading.begin(tuple(trained), numbers)


def clip(model: nn.Module, limit: float | None) -> Tensor:
    """Scale gradients down to a norm of ``limit`` over all ranks, if there is a limit; the norm before, a scalar."""
    parameters = list(model.parameters())
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    if limit is not None:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


@torch.no_grad()
def update(one: Trained, rate: float, broken: Tensor, ema_decay: float | None) -> None:
    """Step the optimiser unless ``broken`` (float32 scalar on the device) is 1; let gradients go, renew averages."""
    set_rate(one.optimizer, rate)
    _skip_if(one.optimizer, broken)
    one.optimizer.step()
    one.optimizer.zero_grad()
    if ema_decay is not None and one.averaged is not None:
        weights = [_local(weight) for weight in one.model.parameters()]
        torch._foreach_lerp_([_local(average) for average in one.averaged.values()], weights, 1 - ema_decay)


def _skip_if(optimizer: Optimizer, broken: Tensor) -> None:
    """Tell a fused optimiser to leave all as it is where ``broken`` is 1: what PyTorch's GradScaler does."""
    state: Any = optimizer
    state.grad_scale, state.found_inf = None, broken


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
