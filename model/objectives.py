"""What each stage learns from a batch: the loss of pre-training and of classification.

Randomness (masks, drop path, dropout) is a function of seed, step and rank, so a resumed run repeats it without any
generator being saved.
"""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional

from model import cubes
from model.classifier import Classifier
from model.pretrainer import Pretrainer, reconstruction_loss


class ClipBatch(Protocol):
    """What a stage reads of a batch."""

    @property
    def frames(self) -> Tensor:
        """uint8 (B, T, H, W, 3), RGB; mixed clips may be float32 on the same scale."""
        ...

    @property
    def class_ids(self) -> Tensor:
        """int64 (B,); -1 for unlabelled."""
        ...

    @property
    def share(self) -> float:
        """Of each row, what is its own: 1 if clips are not mixed. The rest is of row B - 1 - i."""
        ...


@dataclass(frozen=True)
class Draw:
    """Where a step's randomness comes from."""

    seed: int
    step: int
    rank: int
    ranks: int

    def number(self, purpose: str, per_rank: bool = True) -> int:
        """A 63-bit number of this step, and of this rank if ``per_rank``."""
        text = f"{purpose}/{self.seed}/{self.step}/{self.rank if per_rank else 'all'}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1

    def generator(self, purpose: str, device: torch.device, per_rank: bool = True) -> Generator:
        """A fresh generator on ``device``, seeded with :meth:`number`."""
        return Generator(device).manual_seed(self.number(purpose, per_rank))


@dataclass(frozen=True)
class Pretraining:
    """Masked reconstruction of the clips of a batch."""

    model: Pretrainer

    def loss(self, batch: ClipBatch, draw: Draw, device: torch.device) -> Tensor:
        """Mean squared error on the normalised cubes that count: float32 scalar.

        Masks are drawn for the rows of all ranks at once and each rank takes its own, so that the same global batch
        gets the same masks on any number of ranks. All ranks need batches of one size.
        """
        config = self.model.config
        cubes_BNK = cubes.to_cubes(batch.frames.to(device, non_blocking=True), config.size, config.grid)
        rows = len(cubes_BNK)
        generator = draw.generator("masks", device, per_rank=False)
        masks = self.model.draw_masks(rows * draw.ranks, generator).rows(rows * draw.rank, rows)
        with mixed_precision(device):
            predicted_BMK = self.model(cubes_BNK, masks.visible_BV, masks.decoded_BM)
        target_BMK = cubes.targets(cubes.take(cubes_BNK, masks.decoded_BM))
        return reconstruction_loss(predicted_BMK, target_BMK, masks.counted_BM)


@dataclass(frozen=True)
class Classification:
    """Cross entropy with smoothed labels, shared out where clips are mixed. VideoMAE's fine-tuning smooths by 0.1."""

    model: Classifier
    label_smoothing: float = 0.0

    def loss(self, batch: ClipBatch, draw: Draw, device: torch.device) -> Tensor:
        """Mean cross entropy: float32 scalar. Raises ValueError for a clip without a class of the model's."""
        classes = len(self.model.config.class_names)
        outside = [int(i) for i in batch.class_ids.unique() if not 0 <= i < classes]
        if outside:
            raise ValueError(
                f"step {draw.step}: class ids {outside} in a supervised batch, but the model has {classes} classes;"
                " take unlabelled clips and other taxonomies out of the snapshot"
            )
        frames = batch.frames.to(device, non_blocking=True)
        wanted_BC = soft_targets(batch.class_ids.to(device), classes, self.label_smoothing, batch.share)
        with mixed_precision(device):
            logits_BC = self.model(frames, draw.generator("dropout", device))
        return functional.cross_entropy(logits_BC.float(), wanted_BC)


def soft_targets(class_ids_B: Tensor, classes: int, smoothing: float, share: float) -> Tensor:
    """The wanted probabilities of each row, float32 (B, classes): ``share`` of its class, the rest of that of the row
    opposite in the batch, and of both ``smoothing`` spread over all classes."""
    one_hot_BC = functional.one_hot(class_ids_B, classes).float()
    wanted_BC = one_hot_BC * (1 - smoothing) + smoothing / classes
    return wanted_BC.lerp(wanted_BC.flip(0), 1 - share)


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 matrix products on CUDA, float32 elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
