"""Made-up clips and weights for the tests of models."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def random_clips(batch: int, frames: int, image: int, seed: int = 0) -> Tensor:
    """uint8 (batch, frames, image, image, 3) of noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, frames, image, image, 3), dtype=torch.uint8, generator=generator)


def roughened(model: Model) -> Model:
    """No parameter at its initial constant, where a mistake in its use would not show."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model
