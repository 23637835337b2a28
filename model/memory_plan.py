"""How much memory a training run needs on each device, before it starts.

What is sharded is counted from the shapes (FSDP2 cuts each weight along its first dimension, and the first device has
the largest piece), and what a step makes by taking one without data (``model.step_memory``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from model.step_memory import FLOAT32, TrainedConfig, step_memory
from model.weights import build

GPUS = {"16 GB": 16, "24 GB": 24, "32 GB": 32, "40 GB": 40, "48 GB": 48, "80 GB": 80, "141 GB": 141}
"""Memories that GPUs are sold with, in 10⁹ bytes; they have a little more."""
RESERVED = 3 * 10**9
"""Bytes left to what is not planned: CUDA's context, NCCL, kernels' workspaces, holes between allocations. An estimate,
which has not been measured on a GPU."""
_GIB = 2**30


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each device, and what was planned for.

    Attributes:
        devices: that share weights, gradients and optimiser.
        rows: clips × views of a batch on each device.
        accumulate: batches in a step.
        checkpointing: of each block the input alone is kept, and the rest computed again.
        on_gpu: in bfloat16; else in float32, as on a CPU.
        weights, optimizer, averaged: this device's shard of the weights, of AdamW's two moments and, if it is kept, of
            the moving average of the weights; float32.
        frames: the clips; on a GPU also those of the next batch, which are copied ahead.
        gradients: this device's shard, when it is complete; float32.
        activations: what the forward pass leaves for the backward pass.
        step: the most that gradients, activations, gathered weights and what is being worked on take at one moment.
    """

    devices: int
    rows: int
    accumulate: int
    checkpointing: bool
    on_gpu: bool
    weights: int
    optimizer: int
    averaged: int
    frames: int
    gradients: int
    activations: int
    step: int

    @property
    def total(self) -> int:
        """The most at one moment. Gradients come as activations go: it may be less than the sum of all parts."""
        return self.weights + self.optimizer + self.averaged + self.frames + self.step

    @property
    def smallest_gpu(self) -> str | None:
        """The :func:`smallest_gpu` that it fits."""
        return smallest_gpu(self.total)

    def words(self, fits: bool = True) -> str:
        """A line for a log; ``fits``: and which GPUs it fits."""
        devices = "GPU" if self.on_gpu else "process"
        lasting = {"weights": self.weights, "optimiser": self.optimizer, "averaged weights": self.averaged}
        named = ", ".join(f"{name} {in_words(size)}" for name, size in lasting.items() if size)
        return (
            f"memory of each {devices}, 1 of {self.devices}: {in_words(self.total)} for {self.rows} rows ({named},"
            f" clips {in_words(self.frames)}, a step {in_words(self.step)}, in which activations are"
            f" {in_words(self.activations)} and gradients {in_words(self.gradients)}), blocks"
            f" {'' if self.checkpointing else 'not '}checkpointed"
            f"{f'; {fits_words(self.total)}' if fits and self.on_gpu else ''}"
        )


def memory_plan(
    config: TrainedConfig,
    rows: int,
    devices: int = 1,
    accumulate: int = 1,
    checkpointing: bool = False,
    averaged: bool = False,
    mixed: bool = False,
    on_gpu: bool = True,
) -> MemoryPlan:
    """The plan of a training run of one model, sharded over ``devices`` by FSDP2.

    Args:
        rows: clips × views of a batch on each device.
        accumulate: batches in a step.
        checkpointing: of each block the input alone is kept.
        averaged: a moving average of the weights is kept.
        mixed: clips are mixed (mixup), which makes their frames float32.
        on_gpu: as on a GPU, in bfloat16; it takes none to plan for one.

    Raises ValueError where a number is less than 1 or the clip does not divide into cubes.
    """
    if min(rows, devices, accumulate) < 1:
        raise ValueError(f"rows, devices and accumulate must be at least 1, not {rows}, {devices} and {accumulate}")
    with torch.device("meta"):
        shard = FLOAT32 * sum(_largest_piece(weight, devices) for weight in build(config).parameters())
    step = step_memory(config, rows, on_gpu, devices == 1, checkpointing, accumulate > 1, mixed)
    frames = rows * config.frames * config.image * config.image * 3
    return MemoryPlan(
        devices=devices,
        rows=rows,
        accumulate=accumulate,
        checkpointing=checkpointing,
        on_gpu=on_gpu,
        weights=shard,
        optimizer=2 * shard,
        averaged=shard if averaged else 0,
        frames=frames * ((2 if on_gpu else 1) + (FLOAT32 if mixed else 0)),
        gradients=shard,
        activations=step.activations,
        step=step.peak(devices),
    )


def together(plans: Sequence[MemoryPlan]) -> int:
    """The most bytes at one moment where several models train on the same clips, in this order, each with a plan.

    All forward passes come first: while one goes backward, the activations of those after it lie there, and the
    gradients of those before it.
    """
    lasting = sum(plan.weights + plan.optimizer + plan.averaged for plan in plans)
    moments = [
        sum(before.gradients for before in plans[:place]) + plan.step + sum(a.activations for a in plans[place + 1 :])
        for place, plan in enumerate(plans)
    ]
    return lasting + max(plan.frames for plan in plans) + max(moments)


def smallest_gpu(total: int) -> str | None:
    """The smallest of ``GPUS`` that takes so many bytes with ``RESERVED`` to spare; None if there is none."""
    return next((name for name, size in GPUS.items() if total + RESERVED <= size * 10**9), None)


def fits_words(total: int) -> str:
    """Which GPUs take so many bytes, for a log."""
    gpu = smallest_gpu(total)
    return f"fits GPUs of {gpu}" if gpu else f"too much for {list(GPUS)[-1]}"


def _largest_piece(weight: nn.Parameter, devices: int) -> int:
    """Values of a weight on the first device."""
    return -(-len(weight) // devices) * (weight.numel() // len(weight))


def table(plans: Sequence[MemoryPlan]) -> str:
    """Plans as Markdown, in GiB."""
    names = {"weights": "weights", "optimizer": "optimiser", "averaged": "averaged", "frames": "clips",
             "gradients": "gradients", "activations": "activations", "step": "a step", "total": "total"}  # fmt: skip
    if not any(plan.averaged for plan in plans):
        del names["averaged"]
    on_gpu = any(plan.on_gpu for plan in plans)
    heads = ["GPUs" if on_gpu else "processes", "rows", "blocks checkpointed", *names.values()]
    if on_gpu:
        heads.append("fits GPUs of")
    lines = [f"| {' | '.join(heads)} |", f"|{'---:|' * len(heads)}"]
    for plan in plans:
        cells = [str(plan.devices), str(plan.rows), "yes" if plan.checkpointing else "no"]
        cells += [f"{getattr(plan, name) / _GIB:.2f}" for name in names]
        if plan.on_gpu:
            cells.append(plan.smallest_gpu or "none")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def in_words(size: int) -> str:
    """Bytes as GiB, or as MiB below one."""
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"
