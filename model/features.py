"""The encoder over all cubes of a clip with mean pooling: what feature extraction and classification share."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor, nn

from model import cubes
from model.blocks import NORM_EPSILON, Block, CubeEmbedding, initialise_embedding, sinusoid_positions
from model.sizes import Grid, Size


@dataclass(frozen=True)
class FeatureConfig:
    """A feature extractor for clips of ``frames`` frames of ``image`` × ``image`` pixels."""

    size: Size
    frames: int
    image: int

    @property
    def grid(self) -> Grid:
        """The clip's cubes."""
        return self.size.grid(self.frames, self.image)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Inverse of ``dataclasses.asdict``."""
        return cls(**{**fields, "size": Size(**fields["size"])})


class PooledEncoder(nn.Module):
    """Embedding, blocks, mean over all tokens and a LayerNorm. Subclasses fill the weights with ``_initialise``."""

    config: FeatureConfig
    positions_ND: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        size, grid = config.size, config.grid
        self.patch_embed = CubeEmbedding(size)
        self.blocks = nn.ModuleList(Block(size.dim, size.heads, size.hidden) for _ in range(size.depth))
        self.fc_norm = nn.LayerNorm(size.dim, eps=NORM_EPSILON)
        # Worked out for the model's own grid and never stored: weights of another clip length or image size fit as
        # they are.
        self.register_buffer("positions_ND", sinusoid_positions(grid.tokens, size.dim), persistent=False)

    @torch.no_grad()
    def _initialise(self, generator: Generator | None) -> None:
        """Truncated normal (0.02) for linear layers, zeros for biases, LayerNorms at (1, 0); released VideoMAE code."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        initialise_embedding(self.patch_embed, generator)

    def pooled(self, frames_BTHWC: Tensor, branch_scales_L2B: Tensor | None = None) -> Tensor:
        """Normed mean of the last block's tokens, (B, dim), of clips on the scale 0..255 (uint8, or float when mixed).

        ``branch_scales_L2B`` weighs the parts of every block for each clip (:func:`model.blocks.drop_path_scales`).
        """
        size = self.config.size
        tokens_BND = self.patch_embed(cubes.normalise(cubes.to_cubes(frames_BTHWC, size, self.config.grid)))
        tokens_BND = tokens_BND + self.positions_ND
        for number, block in enumerate(self.blocks):
            tokens_BND = block(tokens_BND, None if branch_scales_L2B is None else branch_scales_L2B[number])
        return self.fc_norm(tokens_BND.mean(1))


class FeatureExtractor(PooledEncoder):
    """One vector for a clip: the classifier without its head (the released code's ``forward_features``)."""

    kind: ClassVar[str] = "features"

    def __init__(self, config: FeatureConfig, generator: Generator | None = None) -> None:
        super().__init__(config)
        self._initialise(generator)

    def forward(self, frames_BTHWC: Tensor) -> Tensor:
        """Features (B, dim) of clips on the scale 0..255."""
        return self.pooled(frames_BTHWC)
