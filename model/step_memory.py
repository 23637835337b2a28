"""What a training step needs beside sharded weights, found by taking one on tensors that have shapes and no data.

Nothing here knows what a layer keeps: every tensor that the step makes is counted from when it is made until it is let
go, as an allocator would. What FSDP2 holds meanwhile is counted along: whole weights of the block in use, whole
gradients of a block until they are shared out. For a model of a billion weights this takes a second or two.

A step on a GPU is taken as its operations come on a CPU under autocast to bfloat16, with PyTorch's fused attention in
both places. Not seen are the kernels' own workspaces, of which the largest is that of attention's backward pass: the
gradient of the queries in float32.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model import cubes
from model.blocks import Block
from model.classifier import Classifier, ClassifierConfig
from model.parallel import blocks, checkpoint_activations, precision
from model.pretrainer import Pretrainer, PretrainerConfig, reconstruction_loss
from model.weights import build

TrainedConfig = PretrainerConfig | ClassifierConfig
FLOAT32 = 4
"""Bytes."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a step besides sharded weights, optimiser and the batch's frames.

    Attributes:
        activations: what the forward pass leaves for the backward pass.
        moments: the most bytes at one time without sharded gradients, and what those add up to at that time over all
            devices, for each stretch of the step in which that does not change.
    """

    activations: int
    moments: tuple[tuple[int, int], ...]

    def peak(self, devices: int) -> int:
        """The most at one time on each of so many devices."""
        return max(others + -(-gradients // devices) for others, gradients in self.moments)


@cache
def step_memory(
    config: TrainedConfig,
    rows: int,
    on_gpu: bool,
    alone: bool,
    checkpointing: bool = False,
    accumulated: bool = False,
    mixed: bool = False,
) -> StepMemory:
    """Take a step of ``rows`` clips.

    Args:
        on_gpu: in bfloat16; else in float32, as on a CPU.
        alone: on one device; of several each also holds the weights that are on their way for the next block.
        checkpointing: what a block keeps is its input alone; the rest is computed again.
        accumulated: the gradients of batches before are there.
        mixed: the frames are float32, as they come out of mixup.
    """
    with torch.device("meta"):
        model = build(config)
    assert isinstance(model, Pretrainer | Classifier)
    policy = precision(torch.device("cuda" if on_gpu else "cpu"))
    if policy.param_dtype is not None:
        _round_weights(model, policy.param_dtype)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = model.to_empty(device="cpu")
        if checkpointing:
            for block in blocks(model):
                checkpoint_activations(block)
        shape = (rows, config.frames, config.image, config.image, 3)
        frames = torch.empty(shape, dtype=torch.float32 if mixed else torch.uint8)
        with _Live([*model.parameters(), *model.buffers(), frames]) as live:
            outside = _follow_sharding(model, live, 1 if alone else 2)
            for _ in range(2 if accumulated else 1):
                live.moments = [(live.bytes, live.gradients)]
                before = live.bytes
                loss = _loss(model, frames, on_gpu)
                activations = live.bytes - before
                loss.backward()
                del loss
                live.share_out(outside)
                live.share_out([])  # which waits for the last copy
    return StepMemory(activations, tuple(live.moments))


def _round_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """As FSDP2 gathers them, but for norms: autocast computes those in float32 on a GPU, and not on a CPU."""
    for module in model.modules():
        if not isinstance(module, nn.LayerNorm):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


def _loss(model: Pretrainer | Classifier, frames_BTHWC: Tensor, bfloat16: bool) -> Tensor:
    """As ``model.objectives`` has it, where bfloat16 takes a GPU."""
    generator = torch.Generator()
    products = torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16)
    if isinstance(model, Pretrainer):
        cubes_BNK = cubes.to_cubes(frames_BTHWC, model.config.size, model.config.grid)
        masks = model.draw_masks(len(cubes_BNK), generator)
        with products:
            predicted_BMK = model(cubes_BNK, masks.visible_BV, masks.decoded_BM)
        target_BMK = cubes.targets(cubes.take(cubes_BNK, masks.decoded_BM))
        return reconstruction_loss(predicted_BMK, target_BMK, masks.counted_BM)
    with products:
        logits_BC = model(frames_BTHWC, model.draw_drops(len(frames_BTHWC), generator))
    return functional.cross_entropy(logits_BC.float(), torch.zeros(logits_BC.shape))


def _follow_sharding(model: nn.Module, live: "_Live", gathered: int) -> list[nn.Parameter]:
    """Have ``live`` count what FSDP2 holds of blocks; returns the weights outside of them, whole during all of a step.

    ``gathered``: how many times a block's weights are there while it is in use.
    """
    outside = dict.fromkeys(model.parameters())
    for block in blocks(model):
        weights = list(block.parameters())
        for weight in weights:
            del outside[weight]
        _follow_block(block, weights, live, gathered * sum(weight.nbytes for weight in weights))
    live.hold(sum(weight.nbytes for weight in outside))
    return list(outside)


def _follow_block(block: Block, weights: list[nn.Parameter], live: "_Live", gathered: int) -> None:
    complete = 0

    def before(*_: object) -> None:
        live.hold(gathered)

    def after(_block: nn.Module, _inputs: object, output: Tensor) -> None:
        live.hold(-gathered)
        output.register_hook(before)  # its gradient comes first in the block's backward pass

    def count(_weight: Tensor) -> None:
        nonlocal complete
        complete += 1
        if complete == len(weights):
            complete = 0
            live.hold(-gathered)
            live.share_out(weights)

    block.register_forward_pre_hook(before)
    block.register_forward_hook(after)
    for weight in weights:
        weight.register_post_accumulate_grad_hook(count)


class _Live(TorchDispatchMode):
    """Counts the bytes of all tensors made under it that are still there, but for those that are ``known``."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.bytes = self.gradients = 0
        self.moments: list[tuple[int, int]] = [(0, 0)]
        self._counted = {tensor.untyped_storage()._cdata for tensor in known}
        self._shared: set[int] = set()
        self._sent = 0

    def __torch_dispatch__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return made

    def _see(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place not in self._counted:
            self._counted.add(place)
            self.hold(storage.nbytes())
            weakref.finalize(storage, self._gone, place, storage.nbytes())

    def _gone(self, place: int, size: int) -> None:
        self._counted.discard(place)
        self.bytes -= size

    def hold(self, size: int) -> None:
        """Count bytes that no tensor here stands for, or no longer if negative."""
        self.bytes += size
        most, gradients = self.moments[-1]
        self.moments[-1] = (max(most, self.bytes), gradients)

    def share_out(self, weights: Sequence[nn.Parameter]) -> None:
        """The gradients of ``weights`` are copied to be summed over the devices; the copy before has arrived."""
        copied = FLOAT32 * sum(weight.numel() for weight in weights)
        self.hold(copied)
        for weight in weights:
            weight.grad = None
        self.hold(-self._sent)
        self._sent = copied
        fresh = [weight for weight in weights if id(weight) not in self._shared]
        self._shared.update(id(weight) for weight in fresh)
        self.gradients += FLOAT32 * sum(weight.numel() for weight in fresh)
        self.moments.append((self.bytes, self.gradients))
