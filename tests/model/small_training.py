"""A small model and an endless stream of made-up clips, for the tests that train."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from model import checkpoint as checkpoints
from model.classifier import Classifier, ClassifierConfig
from model.objectives import Classification, Pretraining
from model.optim import OptimConfig
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import Size
from model.training import FitConfig
from model.weights import read_weights

SMALL = Size("small", 32, 2, 2, 64, 8, decoder_dim=16, decoder_heads=2, decoder_hidden=64, decoder_depth=1)
NAMES = ("drift", "zoom", "turn")
CPU = torch.device("cpu")
CONFIG = FitConfig(steps=6, checkpoint_every=2, seed=11, optim=OptimConfig(3e-3, 2, clip_grad=1.0))


@dataclass(frozen=True)
class Cursor:
    position: int


@dataclass(frozen=True)
class Failed:
    clip_id: str


@dataclass(frozen=True)
class Batch:
    frames: Tensor
    class_ids: Tensor
    cursor: Cursor
    clip_ids: tuple[str, ...]
    data_wait_s: float = 0.001
    share: float = 1.0
    failed: tuple[Failed, ...] = ()


def clip(number: int) -> tuple[Tensor, int]:
    """A clip of noise and its class."""
    generator = torch.Generator().manual_seed(number)
    frames = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return frames, int(torch.randint(0, 3, (), generator=generator))


def stream(
    start: int = 0,
    clips: int = 4,
    rank: int = 0,
    ranks: int = 1,
    share: float = 0.7,
    dtype: torch.dtype = torch.uint8,
) -> Iterator[Batch]:
    """Batches of a rank from number ``start`` on; clips are dealt to ranks as ``loaders.order`` does."""
    for number in count(start):
        places = [(number * clips + i) * ranks + rank for i in range(clips)]
        frames, class_ids = zip(*(clip(place) for place in places), strict=True)
        yield Batch(
            torch.stack(frames).to(dtype),
            torch.tensor(class_ids),
            Cursor(number + 1),
            tuple(map(str, places)),
            share=share,
        )


def pretraining() -> Pretraining:
    return Pretraining(Pretrainer(PretrainerConfig(SMALL, 8, 32, tube_ratio=0.75), torch.Generator().manual_seed(1)))


def classification() -> Classification:
    config = ClassifierConfig(SMALL, 8, 32, NAMES, drop_path=0.3, head_dropout=0.3, init_scale=1.0)
    return Classification(Classifier(config, torch.Generator().manual_seed(1)), label_smoothing=0.1)


def saved_weights(folder: Path, part: str = "") -> dict[str, Tensor]:
    """The weights of the latest checkpoint, or of a part of it."""
    found = checkpoints.latest(folder)
    assert found is not None
    return dict(read_weights(found.path / part).tensors)
