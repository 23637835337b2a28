"""Operations of a model, worked out from the architecture, and what a device can do.

Counted are the matrix products (a convolution is one) of the model as it is computed here: only the visible cubes are
embedded. A multiply-accumulate (MAC) is two floating-point operations.
"""

from collections.abc import Iterable
from functools import cache

import torch
from torch import Generator

from model.classifier import ClassifierConfig
from model.features import FeatureConfig
from model.masking import draw_masks
from model.pretrainer import PretrainerConfig
from model.sizes import Size

PEAK_TFLOPS: dict[str, float] = {
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H200 NVL": 835.0,
    "H100": 989.4,
    "H200": 989.4,
    "A100": 312.0,
    "B200": 2250.0,
}
"""Dense bfloat16, by a part of the name that PyTorch gives the GPU; the first that fits. NVIDIA's data sheets, which
state twice as much, for sparse matrices; without a further word the SXM module."""


@cache
def peak_tflops(device: torch.device) -> float | None:
    """The most TFLOP/s of dense bfloat16 that a device can do; None where it is not known (any CPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((tflops for part, tflops in PEAK_TFLOPS.items() if part in name), None)


@cache
def training_flops(config: PretrainerConfig | FeatureConfig) -> int:
    """Floating-point operations of one view, forward and backward; what checkpointing computes again is not counted.

    The backward pass has two products for each of the forward pass.
    """
    return 3 * 2 * forward_macs(config)


def distillation_flops(students: Iterable[ClassifierConfig], teacher: ClassifierConfig) -> int:
    """Floating-point operations of one view, on which all ``students`` train, and which ``teacher`` sees once."""
    return sum(map(training_flops, students)) + 2 * forward_macs(teacher)


def forward_macs(config: PretrainerConfig | FeatureConfig) -> int:
    """Multiply-accumulates of the forward pass of one view."""
    size, tokens = config.size, config.grid.tokens
    if isinstance(config, PretrainerConfig):
        masks = draw_masks(1, config.grid, config.tube_ratio, config.decoder_mask, config.decoder_ratio, Generator())
        visible, decoded = masks.visible_BV.shape[1], masks.decoded_BM.shape[1]
        return embedding_macs(size, visible) + pretraining_macs(size, visible, decoded)
    head = size.dim * len(config.class_names) if isinstance(config, ClassifierConfig) else 0
    return embedding_macs(size, tokens) + stack_macs(tokens, size.dim, size.hidden, size.depth) + head


def stack_macs(tokens: int, dim: int, hidden: int, depth: int) -> int:
    """Of transformer blocks: the linear layers of attention and MLP, and the two products of tokens with tokens."""
    return depth * (tokens * (4 * dim * dim + 2 * dim * hidden) + 2 * tokens * tokens * dim)


def embedding_macs(size: Size, cubes: int) -> int:
    """Of the embedding of ``cubes`` cubes."""
    return cubes * size.cube_values * size.dim


def pretraining_macs(size: Size, visible: int, decoded: int) -> int:
    """Of the encoder behind the embedding and of the decoder, for so many tokens of a clip."""
    encoder = stack_macs(visible, size.dim, size.hidden, size.depth) + visible * size.dim * size.decoder_dim
    decoder = stack_macs(visible + decoded, size.decoder_dim, size.decoder_hidden, size.decoder_depth)
    return encoder + decoder + decoded * size.decoder_dim * size.cube_values
