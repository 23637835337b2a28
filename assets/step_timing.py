"""What a stage costs, tried on made-up clips: seconds for a step, and bytes of its checkpoints."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from assets.stages import EvaluationSettings, PretrainSettings, Settings, SupervisedSettings
from model.classifier import Classifier, ClassifierConfig
from model.objectives import Classification, Draw, Pretraining, mixed_precision
from model.optim import build_optimizer
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import Size

CPU_WEIGHTS = 100_000_000
"""Larger models are not tried on a CPU: one clip would take minutes."""
PATIENCE_S = 6.0
"""A trial of whole batches that would take longer is made with fewer rows and scaled."""
STEPS = 2
CHECKPOINT_BYTES = 16
"""A weight in a checkpoint: float32 for the weight, twice for Adam, and once more in ``weights.safetensors``."""


@dataclass(frozen=True)
class StageCost:
    """``step_s`` is None if the stage was not tried; ``remark`` then says why, or how a scaled figure came about."""

    step_s: float | None
    checkpoint_bytes: int
    remark: str = ""


@dataclass
class _Batch:
    frames: Tensor
    class_ids: Tensor
    share: float = 1.0


def stage_cost(settings: Settings, size: Size, classes: int, device: torch.device) -> StageCost:
    """Try a stage on a model of ``size``: one process, without sharding and without waiting for data.

    A step is a batch forward and backward with the optimiser's update; for an evaluation a batch forward.
    """
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in _model(settings, size, classes).parameters())
    saved = 0 if isinstance(settings, EvaluationSettings) else _checkpoints(settings) * CHECKPOINT_BYTES * weights
    if device.type == "cpu" and weights > CPU_WEIGHTS:
        return StageCost(None, saved, f"{weights / 1e6:.0f}M weights: not tried on a CPU")
    rows = settings.loader.clips_per_batch * settings.loader.views
    try:
        step = _step(settings, size, classes, device)
        one_s = _seconds(step, _batch(settings, 1), 1, device)
        # A single row says little of a batch, which takes a fraction of the time for each: as many as patience allows.
        tried = rows if device.type != "cpu" else max(1, min(rows, int(PATIENCE_S / (one_s * (STEPS + 1)))))
        step_s = _seconds(step, _batch(settings, tried), STEPS, device) * rows / tried
        return StageCost(step_s, saved, "" if tried == rows else f"{tried} of {rows} rows tried")
    except torch.OutOfMemoryError:
        return StageCost(None, saved, f"out of memory with {rows} rows on one {device.type} device, unsharded")


def _checkpoints(settings: PretrainSettings | SupervisedSettings) -> int:
    return min(settings.fit.keep, math.ceil(settings.fit.steps / settings.fit.checkpoint_every))


def _model(settings: Settings, size: Size, classes: int) -> Pretrainer | Classifier:
    if isinstance(settings, PretrainSettings):
        loader = settings.loader
        return Pretrainer(PretrainerConfig(size, loader.frames, loader.size, settings.tube_ratio, settings.cell_ratio))
    names = tuple(f"class {i}" for i in range(classes))
    return Classifier(ClassifierConfig(size, settings.loader.frames, settings.loader.size, names))


def _batch(settings: Settings, rows: int) -> _Batch:
    loader = settings.loader
    frames = torch.randint(256, (rows, loader.frames, loader.size, loader.size, 3), dtype=torch.uint8)
    return _Batch(frames, torch.zeros(rows, dtype=torch.long))


def _step(settings: Settings, size: Size, classes: int, device: torch.device) -> Callable[[_Batch], None]:
    """A function that takes one step on a batch."""
    model = _model(settings, size, classes).to(device)
    if isinstance(settings, EvaluationSettings):
        model.eval()

        def score(batch: _Batch) -> None:
            with torch.no_grad(), mixed_precision(device):
                model(batch.frames.to(device))

        return score
    optimizer = build_optimizer(model, size.depth, settings.fit.optim)
    objective = Pretraining(model) if isinstance(model, Pretrainer) else Classification(model)

    def train(batch: _Batch) -> None:
        objective.loss(batch, Draw(0, 0, 0, 1), device).backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def _seconds(step: Callable[[_Batch], None], batch: _Batch, steps: int, device: torch.device) -> float:
    """Seconds a step, after one that is not counted."""
    step(batch)
    _wait(device)
    started = time.perf_counter()
    for _ in range(steps):
        step(batch)
    _wait(device)
    return (time.perf_counter() - started) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
