"""The control of the learning benchmark: a small 3-D convolutional network, trained on the batches of the others.

It shows what can be learnt from the labelled clips at all. Where it fails, the corpus is wrong, not the model.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from loaders.batch import Batch
from model import cubes

PEAK_RATE, WEIGHT_DECAY, WARMUP_SHARE = 3e-3, 0.05, 0.1


@dataclass(frozen=True)
class ControlConfig:
    """What scoring reads of a model's configuration."""

    class_names: tuple[str, ...]


class Conv3d(nn.Module):
    """Three convolutions over time and space, mean pooling and a linear head."""

    def __init__(self, config: ControlConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv3d(3, 16, kernel_size=(3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
                nn.BatchNorm3d(16),
                nn.ReLU(),
                nn.Conv3d(16, 32, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm3d(32),
                nn.ReLU(),
                nn.Conv3d(32, 64, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm3d(64),
                nn.ReLU(),
            )
            # Zooming and turning look alike to a network that does not know where in the frame it looks.
            self.head = nn.Linear(64 * 3 * 3, len(config.class_names))

    def forward(self, frames_BTHWC: Tensor) -> Tensor:
        """Logits (B, classes) of uint8 clips."""
        pixels_BCTHW = cubes.normalise(frames_BTHWC).permute(0, 4, 1, 2, 3)
        features_BDTHW = self.layers(pixels_BCTHW)
        return self.head(functional.adaptive_avg_pool3d(features_BDTHW, (1, 3, 3)).flatten(1))


def train(model: Conv3d, batches: Iterator[Batch], steps: int) -> Iterator[float]:
    """Train in place on the next ``steps`` batches; gives the loss of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=WEIGHT_DECAY)
    model.train()
    for step in range(steps):
        batch = next(batches)
        done = step / steps
        rate = PEAK_RATE * (done / WARMUP_SHARE if done < WARMUP_SHARE else (1 + math.cos(math.pi * done)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = functional.cross_entropy(model(batch.frames), batch.class_ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()
