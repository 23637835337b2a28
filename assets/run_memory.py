"""What memory a training run is planned to take."""

from collections.abc import Mapping

from torch import nn

from assets.stages import TrainingSettings
from model.distillation import Distillation
from model.memory_plan import MemoryPlan, fits_words, in_words, memory_plan, together
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


def memory_lines(plans: Mapping[str, MemoryPlan], teacher_weights: int | None) -> list[str]:
    """Of each model that is trained, by its name ("" for one alone); where they have a teacher, of all together too."""
    if teacher_weights is None:
        return [f"{name}: {plan.words()}" if name else plan.words() for name, plan in plans.items()]
    teacher = FLOAT32 * teacher_weights
    total = together(list(plans.values())) + teacher
    fits = f"; {fits_words(total)}" if any(plan.on_gpu for plan in plans.values()) else ""
    return [
        *(f"{name}: {plan.words(fits=False)}" for name, plan in plans.items()),
        f"with the teacher, whole on each ({in_words(teacher)}), all together {in_words(total)}{fits}",
    ]


def memory_words(settings: TrainingSettings, objective: Objective, devices: int, on_gpu: bool) -> str:
    """For a run's log: what its models are planned to take."""
    plans = {
        name: planned_memory(settings, model.config, devices, on_gpu) for name, model in objective.models.items()
    }
    teacher = _weights(objective.teacher) if isinstance(objective, Distillation) else None
    return "; ".join(memory_lines(plans, teacher))


def _weights(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
