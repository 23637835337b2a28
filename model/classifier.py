"""The classifier of the supervised stages: the encoder over all cubes, mean pooling and a linear head."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor, nn

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

    def forward(self, frames_BTHWC: Tensor, generator: Generator | None = None) -> Tensor:
        """Logits (B, classes) of clips on the scale 0..255 (uint8, or float after mixing).

        With a generator, drop path and head dropout are drawn from it; without one the model is deterministic.
        """
        pooled_BD = self.pooled(frames_BTHWC, self.config.drop_path, generator)
        if generator is not None and self.config.head_dropout > 0:
            keep = 1 - self.config.head_dropout
            noise_BD = torch.rand(pooled_BD.shape, generator=generator, device=generator.device)
            pooled_BD = pooled_BD * (noise_BD < keep) / keep
        return self.head(pooled_BD)
