"""AdamW as VideoMAE uses it: which weights decay, how rates fall towards the input, and the rate of each step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule. Rates are per step as they are applied; see :func:`scaled_rate`.

    ``layer_decay`` 1.0 treats all layers alike. ``clip_grad`` bounds the norm of all gradients together. ``betas``
    are 0.9 and 0.95 in pre-training and 0.9 and 0.999 in the supervised stages of VideoMAE V2.
    """

    peak_rate: float
    warmup_steps: int
    final_rate: float = 0.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    layer_decay: float = 1.0
    clip_grad: float | None = None


def scaled_rate(base_rate: float, videos_per_step: int) -> float:
    """The rate for a batch, by the linear rule of VideoMAE: ``base_rate`` is for 256.

    Counted are videos over all ranks; several views of a video count once.
    """
    return base_rate * videos_per_step / 256


def rate_at(step: int, steps: int, config: OptimConfig) -> float:
    """Rate of step ``step`` (from 0) of ``steps``: linear from 0 up to the peak, then half a cosine.

    The warm-up's last step has the peak, and so has the first step of the cosine; a warm-up of a single step has rate 0
    (released VideoMAE V2 code: ``linspace(0, peak, warmup_steps)``).
    """
    if step < config.warmup_steps:
        return config.peak_rate * step / max(1, config.warmup_steps - 1)
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.final_rate + (config.peak_rate - config.final_rate) * (1 + math.cos(math.pi * done)) / 2


def layer_of(name: str, depth: int) -> int:
    """Layer of a parameter: 0 for the embedding, i + 1 for the encoder's block i, depth + 1 for all else."""
    name = name.removeprefix("encoder.")
    if name.startswith("patch_embed."):
        return 0
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: not to vectors, biases, scales and the mask token (released VideoMAE code)."""
    return parameter.ndim > 1 and not name.endswith((".bias", ".scale", "mask_token"))


def parameter_groups(model: nn.Module, depth: int, config: OptimConfig) -> Iterator[dict[str, Any]]:
    """Groups of one layer each, split by whether they decay; ``scale`` multiplies the step's rate.

    ``depth`` is the encoder's number of blocks.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        layer = layer_of(name, depth) if config.layer_decay != 1 else depth + 1
        groups.setdefault((layer, decays(name, parameter)), []).append(parameter)
    for (layer, decay), parameters in sorted(groups.items(), key=lambda item: item[0]):
        yield {
            "params": parameters,
            "weight_decay": config.weight_decay if decay else 0.0,
            "scale": config.layer_decay ** (depth + 1 - layer),
        }


def build_optimizer(model: nn.Module, depth: int, config: OptimConfig) -> AdamW:
    """AdamW over the model's groups, at rate 0 until :func:`set_rate`."""
    groups = list(parameter_groups(model, depth, config))
    return AdamW(groups, lr=0.0, betas=config.betas, eps=1e-8, fused=True)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give each group the step's rate times its layer's scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
