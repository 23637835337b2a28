"""The transformer's parts, shared by the encoder, the decoder and the classifier.

Parameter names are those of the released VideoMAE V2 checkpoints.
"""

import math

import numpy as np
import torch
from torch import Generator, Tensor, nn

from model.attention import attention
from model.linear import Linear, gelu_linear, linear, norm_linear
from model.sizes import Size

NORM_EPSILON = 1e-6
"""Of every LayerNorm (released VideoMAE V2 models; PyTorch's default is 1e-5)."""


def sinusoid_positions(tokens: int, dim: int) -> Tensor:
    """Fixed position code of the flattened token number: float32 (tokens, dim).

    Sine on even and cosine on odd places of ``position / 10000^(2⌊j/2⌋/dim)``, computed in float64. One dimension
    over the token number, not one per axis (released VideoMAE V2 code).
    """
    place = np.arange(dim)
    angle = np.arange(tokens)[:, None] / np.power(10000.0, 2 * (place // 2) / dim)
    return torch.from_numpy(np.where(place % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32))


class CubeEmbedding(nn.Module):
    """Linear embedding of cubes. It is stored as the 3-D convolution that the released checkpoints hold."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        kernel = (size.tubelet, size.patch, size.patch)
        self.proj = nn.Conv3d(3, size.dim, kernel_size=kernel, stride=kernel)

    def forward(self, cubes_BNK: Tensor) -> Tensor:
        """Normalised cubes, RGB fastest, to tokens (B, N, dim)."""
        # A convolution whose kernel equals its stride is a matrix product, which can be taken for visible cubes alone.
        weight_DK = self.proj.weight.permute(0, 2, 3, 4, 1).flatten(1)
        return linear(cubes_BNK, weight_DK, self.proj.bias)


def initialise_embedding(embedding: CubeEmbedding, generator: Generator | None) -> None:
    """PyTorch's default for a convolution: uniform within ±1/√fan-in, weight and bias."""
    bound = 1 / math.sqrt(embedding.proj.weight[0].numel())
    nn.init.uniform_(embedding.proj.weight, -bound, bound, generator=generator)
    assert embedding.proj.bias is not None
    nn.init.uniform_(embedding.proj.bias, -bound, bound, generator=generator)


class Attention(nn.Module):
    """Multi-head self-attention with biases on queries and values, and none on keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = Linear(dim, dim)

    def forward(self, tokens_BND: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Attention over N of the normed tokens: same shape."""
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = norm_linear(tokens_BND, norm, self.qkv.weight, bias)
        return self.proj(attention(qkv.unflatten(-1, (3, self.heads, -1))))


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, tokens_BND: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Each normed token by itself: same shape."""
        hidden_BNH = norm_linear(tokens_BND, norm, self.fc1.weight, self.fc1.bias)
        return gelu_linear(hidden_BNH, self.fc2.weight, self.fc2.bias)


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPSILON)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPSILON)
        self.mlp = Mlp(dim, hidden)

    def forward(self, tokens_BND: Tensor, branch_scales_2B: Tensor | None = None) -> Tensor:
        """Same shape. ``branch_scales_2B`` weighs the attention's and the MLP's part per clip (drop path)."""
        if branch_scales_2B is None:
            tokens_BND = tokens_BND + self.attn(tokens_BND, self.norm1)
            return tokens_BND + self.mlp(tokens_BND, self.norm2)
        attention_scale, mlp_scale = branch_scales_2B[:, :, None, None]
        tokens_BND = tokens_BND + attention_scale * self.attn(tokens_BND, self.norm1)
        return tokens_BND + mlp_scale * self.mlp(tokens_BND, self.norm2)


def drop_path_scales(depth: int, batch: int, rate: float, generator: Generator) -> Tensor:
    """Branch scales of all blocks: float32 (depth, 2, batch), 0 for a dropped branch, 1 / keep for a kept one.

    The rate rises linearly from 0 in the first block to ``rate`` in the last.
    """
    keep_L11 = 1 - torch.linspace(0, rate, depth, device=generator.device)[:, None, None]
    noise_L2B = torch.rand(depth, 2, batch, generator=generator, device=generator.device)
    return (noise_L2B < keep_L11) / keep_L11
