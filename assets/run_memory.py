"""What memory a training run is planned to take."""

from torch import nn

from assets.stages import TrainingSettings
from model.distillation import Distillation
from model.memory_plan import MemoryPlan, in_words, memory_plan
from model.objectives import Objective
from model.step_memory import FLOAT32, TrainedConfig


def planned_memory(settings: TrainingSettings, config: TrainedConfig, devices: int, on_gpu: bool) -> MemoryPlan:
    """The plan of a model that a stage trains on so many devices."""
    loader, fit = settings.loader, settings.fit
    return memory_plan(
        config,
        loader.clips_per_batch * loader.views,
        devices,
        fit.accumulate,
        fit.checkpointing,
        averaged=fit.ema_decay is not None,
        mixed=loader.mixup > 0,
        on_gpu=on_gpu,
    )


def memory_words(settings: TrainingSettings, objective: Objective, devices: int, on_gpu: bool) -> str:
    """For a run's log: of each model that is trained, and the teacher if there is one."""
    lines = []
    for name, model in objective.models.items():
        words = planned_memory(settings, model.config, devices, on_gpu).words()
        lines.append(f"{name}: {words}" if name else words)
    if isinstance(objective, Distillation):
        lines.append(f"the teacher, whole on each: {in_words(FLOAT32 * _weights(objective.teacher))}")
    return "; ".join(lines)


def _weights(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
