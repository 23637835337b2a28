"""The classifier of the supervised stages: the encoder over all cubes, mean pooling and a linear head."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor, nn

from model.blocks import drop_path_scales
from model.features import FeatureConfig, PooledEncoder


@dataclass(frozen=True)
class ClassifierConfig(FeatureConfig):
    """A classifier of clips of ``frames`` frames of ``image`` × ``image`` pixels into ``class_names``.

    ``init_scale`` multiplies the fresh head (0.001 in VideoMAE's recipes), so that training starts near equal odds.
    """

    class_names: tuple[str, ...]
    drop_path: float = 0.0
    head_dropout: float = 0.0
    init_scale: float = 0.001

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names) or not self.class_names:
            raise ValueError(f"class names must be given, each once; got {list(self.class_names)}")

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Inverse of ``dataclasses.asdict``, also after a way through JSON."""
        return super().from_dict({**fields, "class_names": tuple(fields["class_names"])})


@dataclass(frozen=True)
class Drops:
    """What drop path and dropout do to each clip of a batch. None where there is nothing of the kind."""

    branch_scales_L2B: Tensor | None
    """float32, see :func:`model.blocks.drop_path_scales`."""
    pooled_scales_BD: Tensor | None
    """float32, 0 for a feature that the head does not see and 1 / keep for one that it does."""

    def rows(self, rows_R: Tensor) -> "Drops":
        """Those of some of the clips, by their int64 numbers."""
        branches, pooled = self.branch_scales_L2B, self.pooled_scales_BD
        return Drops(
            None if branches is None else branches[:, :, rows_R],
            None if pooled is None else pooled[rows_R],
        )


class Classifier(PooledEncoder):
    """VideoMAE's fine-tuning model, with fresh weights drawn from ``generator``."""

    kind: ClassVar[str] = "classifier"
    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig, generator: Generator | None = None) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.size.dim, len(config.class_names))
        self._initialise(generator)
        with torch.no_grad():
            self.head.weight.mul_(config.init_scale)

    def forward(self, frames_BTHWC: Tensor, drops: Drops | None = None) -> Tensor:
        """Logits (B, classes) of clips on the scale 0..255 (uint8, or float after mixing).

        With ``drops``, of as many clips, drop path and head dropout apply; without, the model is deterministic.
        """
        pooled_BD = self.pooled(frames_BTHWC, drops.branch_scales_L2B if drops else None)
        if drops and drops.pooled_scales_BD is not None:
            pooled_BD = pooled_BD * drops.pooled_scales_BD
        return self.head(pooled_BD)

    def draw_drops(self, batch: int, generator: Generator) -> Drops:
        """Drop path and head dropout of a batch of clips, on the generator's device."""
        config = self.config
        branches = pooled = None
        if config.drop_path > 0:
            branches = drop_path_scales(config.size.depth, batch, config.drop_path, generator)
        if config.head_dropout > 0:
            keep = 1 - config.head_dropout
            noise_BD = torch.rand(batch, config.size.dim, generator=generator, device=generator.device)
            pooled = (noise_BD < keep) / keep
        return Drops(branches, pooled)
