"""The classifier of the supervised stages: the encoder over all cubes, mean pooling and a linear head."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from model import cubes
from model.blocks import NORM_EPSILON, Block, CubeEmbedding, drop_path_scales, sinusoid_positions
from model.pretrainer import initialise_embedding
from model.sizes import Grid, Size


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier of clips of ``frames`` frames of ``image`` × ``image`` pixels into ``class_names``.

    ``init_scale`` multiplies the fresh head (0.001 in VideoMAE's recipes), so that training starts near equal odds.
    """

    size: Size
    frames: int
    image: int
    class_names: tuple[str, ...]
    drop_path: float = 0.0
    head_dropout: float = 0.0
    init_scale: float = 0.001

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names) or not self.class_names:
            raise ValueError(f"class names must be given, each once; got {list(self.class_names)}")

    @property
    def grid(self) -> Grid:
        """The clip's cubes."""
        return self.size.grid(self.frames, self.image)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ClassifierConfig":
        """Inverse of ``dataclasses.asdict``, also after a way through JSON."""
        return cls(**{**fields, "size": Size(**fields["size"]), "class_names": tuple(fields["class_names"])})


class Classifier(nn.Module):
    """VideoMAE's fine-tuning model, with fresh weights drawn from ``generator``."""

    kind: ClassVar[str] = "classifier"

    def __init__(self, config: ClassifierConfig, generator: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        size, grid = config.size, config.grid
        self.patch_embed = CubeEmbedding(size)
        self.blocks = nn.ModuleList(Block(size.dim, size.heads, size.hidden) for _ in range(size.depth))
        self.fc_norm = nn.LayerNorm(size.dim, eps=NORM_EPSILON)
        self.head = nn.Linear(size.dim, len(config.class_names))
        self.register_buffer("positions_ND", sinusoid_positions(grid.tokens, size.dim), persistent=False)
        self._initialise(generator)

    @torch.no_grad()
    def _initialise(self, generator: Generator | None) -> None:
        """Truncated normal (0.02) for linear layers, zeros for biases, LayerNorms at (1, 0); released VideoMAE code."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        initialise_embedding(self.patch_embed, generator)
        self.head.weight.mul_(self.config.init_scale)

    def forward(self, frames_BTHWC: Tensor, generator: Generator | None = None) -> Tensor:
        """Logits (B, classes) of clips on the scale 0..255 (uint8, or float after mixing).

        With a generator, drop path and head dropout are drawn from it; without one the model is deterministic.
        """
        size, grid = self.config.size, self.config.grid
        tokens_BND = self.patch_embed(cubes.normalise(cubes.to_cubes(frames_BTHWC, size, grid))) + self.positions_ND
        if generator is None or self.config.drop_path == 0:
            scales_L2B: list[Tensor | None] = [None] * size.depth
        else:
            scales_L2B = list(drop_path_scales(size.depth, len(frames_BTHWC), self.config.drop_path, generator))
        for block, scales_2B in zip(self.blocks, scales_L2B, strict=True):
            tokens_BND = block(tokens_BND, scales_2B)
        pooled_BD = self.fc_norm(tokens_BND.mean(1))
        if generator is not None and self.config.head_dropout > 0:
            keep = 1 - self.config.head_dropout
            noise_BD = torch.rand(pooled_BD.shape, generator=generator, device=generator.device)
            pooled_BD = pooled_BD * (noise_BD < keep) / keep
        return self.head(pooled_BD)
