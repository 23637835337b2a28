"""What each stage learns from a batch: the loss of pre-training and of classification.

Randomness (masks, drop path, dropout) is a function of the seed, the step and a clip's place in it, so a resumed run
repeats it without any generator being saved, and it does not hang on how a step's clips are dealt over ranks.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional

from model import cubes
from model.classifier import Classifier
from model.flops import training_flops
from model.pretrainer import Pretrainer, reconstruction_loss


class ClipBatch(Protocol):
    """What a stage reads of a batch."""

    @property
    def frames(self) -> Tensor:
        """uint8 (B, T, H, W, 3), RGB; mixed clips may be float32 on the same scale."""
        ...

    @property
    def class_ids(self) -> Tensor:
        """int64 (B,), on the CPU; -1 for unlabelled."""
        ...

    @property
    def share(self) -> float:
        """Of each row, what is its own: 1 if clips are not mixed. The rest is of row B - 1 - i."""
        ...

    @property
    def clip_ids(self) -> Sequence[str]:
        """A name for each clip; the rows of a clip (its views) follow one another."""
        ...


@dataclass(frozen=True)
class Clips:
    """A :class:`ClipBatch` of tensors that are at hand, for trying a step without a loader."""

    frames: Tensor
    class_ids: Tensor
    clip_ids: tuple[str, ...]
    share: float = 1.0


@dataclass(frozen=True)
class Draw:
    """Where a step's randomness comes from, and which part of the step a batch is.

    A step takes ``parts`` batches on each of ``ranks`` ranks, all of one size. Its clips are numbered as the loaders
    deal them out (``loaders.order``, without runs): clip i of the batch that is ``part`` on ``rank`` is number
    ``(part × clips + i) × ranks + rank``. So the same clips get the same randomness on any number of ranks, and
    however many batches make a step.
    """

    seed: int
    step: int
    rank: int
    ranks: int
    part: int = 0
    parts: int = 1

    def generator(self, purpose: str, device: torch.device) -> Generator:
        """A fresh generator on ``device``, the same on all ranks and for all parts of the step."""
        text = f"{purpose}/{self.seed}/{self.step}"
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
        return Generator(device).manual_seed(number)

    def all_rows(self, rows: int) -> int:
        """Rows of the whole step, where this part has ``rows``."""
        return rows * self.ranks * self.parts

    def own_rows(self, rows: int, clips: int, device: torch.device) -> Tensor:
        """Which rows of the whole step are those of this part: int64 (rows,). A clip has rows / clips of them."""
        views = rows // clips
        clip_C1 = (self.part * clips + torch.arange(clips, device=device)[:, None]) * self.ranks + self.rank
        return (clip_C1 * views + torch.arange(views, device=device)).flatten()


class Objective(Protocol):
    """What :func:`model.training.fit` trains: one model, or several side by side on the same batches."""

    @property
    def models(self) -> Mapping[str, Pretrainer | Classifier]:
        """What is trained, by name; the name is "" where there is one. Always the same modules."""
        ...

    @property
    def view_flops(self) -> int:
        """Floating-point operations of a step for each view (``model.flops``)."""
        ...

    def losses(self, batch: ClipBatch, draw: Draw, device: torch.device) -> Mapping[str, Tensor]:
        """For each of ``models`` the mean loss of this batch: float32 scalars. None hangs on another's weights."""
        ...


@dataclass(frozen=True)
class Pretraining:
    """Masked reconstruction of the clips of a batch."""

    model: Pretrainer

    @property
    def models(self) -> Mapping[str, Pretrainer]:
        """The one model."""
        return {"": self.model}

    @property
    def view_flops(self) -> int:
        """Of the one model."""
        return training_flops(self.model.config)

    def losses(self, batch: ClipBatch, draw: Draw, device: torch.device) -> Mapping[str, Tensor]:
        """Its :meth:`loss`."""
        return {"": self.loss(batch, draw, device)}

    def loss(self, batch: ClipBatch, draw: Draw, device: torch.device) -> Tensor:
        """Mean squared error on the normalised cubes that count: float32 scalar.

        Masks are drawn for the rows of the whole step, and each part takes its own.
        """
        config = self.model.config
        cubes_BNK = cubes.to_cubes(batch.frames.to(device, non_blocking=True), config.size, config.grid)
        rows = len(cubes_BNK)
        masks = self.model.draw_masks(draw.all_rows(rows), draw.generator("masks", device))
        masks = masks.rows(draw.own_rows(rows, len(batch.clip_ids), device))
        with mixed_precision(device):
            predicted_BMK = self.model(cubes_BNK, masks.visible_BV, masks.decoded_BM)
        target_BMK = cubes.targets(cubes.take(cubes_BNK, masks.decoded_BM))
        return reconstruction_loss(predicted_BMK, target_BMK, masks.counted_BM)


@dataclass(frozen=True)
class Classification:
    """Cross entropy with smoothed labels, shared out where clips are mixed. VideoMAE's fine-tuning smooths by 0.1."""

    model: Classifier
    label_smoothing: float = 0.0

    @property
    def models(self) -> Mapping[str, Classifier]:
        """The one model."""
        return {"": self.model}

    @property
    def view_flops(self) -> int:
        """Of the one model."""
        return training_flops(self.model.config)

    def losses(self, batch: ClipBatch, draw: Draw, device: torch.device) -> Mapping[str, Tensor]:
        """Its :meth:`loss`."""
        return {"": self.loss(batch, draw, device)}

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
        wanted_BC = soft_targets(batch.class_ids, classes, self.label_smoothing, batch.share)
        if device.type == "cuda":
            wanted_BC = wanted_BC.pin_memory()  # else the host would wait for the copy
        rows = len(frames)
        drops = self.model.draw_drops(draw.all_rows(rows), draw.generator("dropout", device))
        with mixed_precision(device):
            logits_BC = self.model(frames, drops.rows(draw.own_rows(rows, len(batch.clip_ids), device)))
        logits_BC = logits_BC.to(torch.promote_types(logits_BC.dtype, torch.float32))
        return functional.cross_entropy(logits_BC, wanted_BC.to(logits_BC, non_blocking=True))


def soft_targets(class_ids_B: Tensor, classes: int, smoothing: float, share: float) -> Tensor:
    """The wanted probabilities of each row, float32 (B, classes): ``share`` of its class, the rest of that of the row
    opposite in the batch, and of both ``smoothing`` spread over all classes."""
    one_hot_BC = functional.one_hot(class_ids_B, classes).float()
    wanted_BC = one_hot_BC * (1 - smoothing) + smoothing / classes
    return wanted_BC.lerp(wanted_BC.flip(0), 1 - share)


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 matrix products on CUDA, float32 elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
