"""What a stage costs, tried on made-up clips: seconds for a step, and bytes of its checkpoints."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from assets.derived_stages import DistillSettings
from assets.stages import PretrainSettings, Settings, TrainingSettings
from loaders.windows import WindowConfig
from model.classifier import Classifier, ClassifierConfig
from model.distillation import Distillation
from model.objectives import Classification, Clips, Draw, Objective, Pretraining, mixed_precision
from model.optim import build_optimizer
from model.parallel import blocks, checkpoint_activations
from model.pretrainer import Pretrainer
from model.sizes import SIZES, Size

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


def stage_cost(settings: Settings, size: Size, classes: int, device: torch.device) -> StageCost:
    """Try a stage on a model of ``size``: one process, without sharding and without waiting for data.

    A step is its batches forward and backward with the optimiser's update; for an evaluation, or features, a batch
    forward. ``size`` is the teacher's in a distillation.
    """
    with torch.device("meta"):
        objective = _objective(settings, size, classes)
        trained = sum(_weights(model) for model in objective.models.values())
        weights = trained + (_weights(objective.teacher) if isinstance(objective, Distillation) else 0)
    saved = _checkpoints(settings) * CHECKPOINT_BYTES * trained if isinstance(settings, TrainingSettings) else 0
    if device.type == "cpu" and weights > CPU_WEIGHTS:
        return StageCost(None, saved, f"{weights / 1e6:.0f}M weights: not tried on a CPU")
    loader = settings.loader
    views = loader.spatial_views if isinstance(loader, WindowConfig) else loader.views
    rows = loader.clips_per_batch * views
    try:
        step = _step(settings, size, classes, device)
        one_s = _seconds(step, _batch(settings, 1), 1, device)
        # A single row says little of a batch, which takes a fraction of the time for each: as many as patience allows.
        tried = rows if device.type != "cpu" else max(1, min(rows, int(PATIENCE_S / (one_s * (STEPS + 1)))))
        step_s = _seconds(step, _batch(settings, tried), STEPS, device) * rows / tried
        if isinstance(settings, TrainingSettings):
            step_s *= settings.fit.accumulate
        return StageCost(step_s, saved, "" if tried == rows else f"{tried} of {rows} rows tried")
    except torch.OutOfMemoryError:
        return StageCost(None, saved, f"out of memory with {rows} rows on one {device.type} device, unsharded")


def _weights(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _checkpoints(settings: TrainingSettings) -> int:
    return min(settings.fit.keep + 1, math.ceil(settings.fit.steps / settings.fit.checkpoint_every))  # and the best


def _objective(settings: Settings, size: Size, classes: int) -> Objective:
    """What the stage trains, or what a model that it runs was trained by."""
    if isinstance(settings, PretrainSettings):
        return Pretraining(Pretrainer(settings.model))
    names, loader = tuple(f"class {i}" for i in range(classes)), settings.loader
    model = Classifier(ClassifierConfig(size, loader.frames, loader.size, names))
    if not isinstance(settings, DistillSettings):
        return Classification(model)
    students = {
        student.size: Classifier(ClassifierConfig(SIZES[student.size], loader.frames, loader.size, names))
        for student in settings.students
    }
    return Distillation(model, students, settings.temperature)


def _batch(settings: Settings, rows: int) -> Clips:
    loader = settings.loader
    frames = torch.randint(256, (rows, loader.frames, loader.size, loader.size, 3), dtype=torch.uint8)
    return Clips(frames, torch.zeros(rows, dtype=torch.long), ("noise",) * rows)


def _step(settings: Settings, size: Size, classes: int, device: torch.device) -> Callable[[Clips], None]:
    """A function that takes one step on a batch."""
    objective = _objective(settings, size, classes)
    if isinstance(objective, Distillation):
        objective.teacher.to(device)
    for model in objective.models.values():
        model.to(device)
    if not isinstance(settings, TrainingSettings):
        [model] = objective.models.values()

        def score(batch: Clips) -> None:
            with torch.no_grad(), mixed_precision(device):
                model(batch.frames.to(device))

        return score
    optimizers = []
    for model in objective.models.values():
        if settings.fit.checkpointing:
            for block in blocks(model):
                checkpoint_activations(block)
        optimizers.append(build_optimizer(model, model.config.size.depth, settings.fit.optim))

    def train(batch: Clips) -> None:
        for loss in objective.losses(batch, Draw(0, 0, 0, 1), device).values():
            loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return train


def _seconds(step: Callable[[Clips], None], batch: Clips, steps: int, device: torch.device) -> float:
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
