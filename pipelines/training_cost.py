"""What the steps of a stage take: measured on this machine where it can be tried, else estimated from its FLOPs."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from assets.stages import TrainingSettings
from assets.step_timing import stage_cost
from model.classifier import ClassifierConfig
from model.flops import PEAK_TFLOPS, distillation_flops, training_flops
from model.pretrainer import PretrainerConfig

GPU, MFU = "H100", 0.35
"""Which GPU an estimate is for, and the share of its peak that it takes training to reach: a guess, not measured."""
ESTIMATED = f"estimate: each GPU an {GPU} at {MFU:.0%} of its {PEAK_TFLOPS[GPU]:.0f} TFLOP/s"


@dataclass(frozen=True)
class Cost:
    """``flops`` of the whole stage over all GPUs, without what checkpointing computes twice.

    Attributes:
        step_s, seconds: of a step and of the stage.
        how: where the seconds come from.
    """

    flops: float
    step_s: float
    seconds: float
    how: str


def training_cost(
    settings: TrainingSettings,
    models: Mapping[str, PretrainerConfig | ClassifierConfig],
    teacher: ClassifierConfig | None,
    gpus: int,
    here: bool,
) -> Cost:
    """Try some steps on made-up clips, if ``here``; estimate where that is not asked for, or takes too long.

    ``models`` are trained on the same views, of which ``teacher`` sees each once.
    """
    fit, loader = settings.fit, settings.loader
    rows = loader.clips_per_batch * loader.views * fit.accumulate * gpus
    if teacher:
        view_flops = distillation_flops([c for c in models.values() if isinstance(c, ClassifierConfig)], teacher)
    else:
        [model] = models.values()
        view_flops = training_flops(model)
    step_flops = rows * view_flops
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    remark = ""
    if here:
        first = teacher or next(iter(models.values()))
        classes = len(first.class_names) if isinstance(first, ClassifierConfig) else 1
        tried = stage_cost(settings, first.size, classes, device)
        if tried.step_s is not None:
            note = f" ({tried.remark})" if tried.remark else ""
            total = fit.steps * step_flops
            return Cost(total, tried.step_s, tried.step_s * fit.steps, f"tried on this machine's {device.type}{note}")
        remark = f"{tried.remark}; "
    again = 4 / 3 if fit.checkpointing else 1.0
    step_s = step_flops * again / (gpus * PEAK_TFLOPS[GPU] * 1e12 * MFU)
    return Cost(fit.steps * step_flops, step_s, fit.steps * step_s, f"{remark}{ESTIMATED}")
