"""A resolved recipe for people, and as one JSON object."""

import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console

from assets.amounts import seconds_text
from assets.run_memory import memory_lines
from assets.stages import PretrainSettings, SupervisedSettings
from pipelines.recipe import ResolvedRecipe, StageRecipe


def print_recipe(resolved: ResolvedRecipe) -> None:
    """Print it a stage at a time."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    recipe, device = resolved.recipe, "GPU" if resolved.on_gpu else "CPU"
    plural = "" if resolved.gpus == 1 else "s"
    console.print(f"\nPreset {recipe.name}, size {recipe.size}, on {resolved.gpus} {device}{plural}")
    if recipe.start is not None:
        start = recipe.start
        console.print(f"Starts from {start.path} ({start.kind}), which stands for the stage {start.stands_for}")
    for stage in resolved.stages:
        console.print(f"\n{stage.name} on {stage.collection}")
        for name, text in _lines(stage, device):
            console.print(f"  {name:<12}{text}", soft_wrap=True)
    evaluation = recipe.evaluation.loader
    views = f"{evaluation.temporal_views} × {evaluation.spatial_views} views of each clip"
    console.print(f"\nevaluation\n  {'views':<12}{views}, sampled {evaluation.sampling}\n")


def _lines(stage: StageRecipe, device: str) -> list[tuple[str, str]]:
    fit, optim = stage.settings.fit, stage.settings.fit.optim
    epochs = "" if stage.epochs is None else f"{stage.epochs:.4g} epochs of {_clips(stage)}{_in_views(stage)}: "
    lines = [("", remark) for remark in stage.remarks]
    lines += [
        ("length", f"{epochs}{fit.steps:,} steps; a checkpoint every {fit.checkpoint_every:,}"),
        ("batch", _batch(stage, device)),
        (
            "rate",
            f"{stage.base_rate:.3g} for 256 videos × {stage.videos:,} / 256 = {optim.peak_rate:.3g}; "
            + (f"{optim.warmup_steps:,} steps of warm-up from 0, then " if optim.warmup_steps else "no warm-up, ")
            + f"half a cosine to {optim.final_rate:.3g}",
        ),
        (
            "optimiser",
            f"AdamW, betas {optim.betas[0]}, {optim.betas[1]}, weight decay {optim.weight_decay:g}, "
            f"{'no ' if optim.layer_decay == 1 else ''}layer decay{_number(optim.layer_decay, 1)}, "
            f"{'no ' if optim.clip_grad is None else ''}gradient clipping{_number(optim.clip_grad, None)}, "
            f"{'no ' if fit.ema_decay is None else ''}EMA{_number(fit.ema_decay, None)}",
        ),
        ("model", _model(stage)),
        ("views", _views(stage)),
    ]
    cost = stage.cost
    lines += [("", line) for line in memory_lines(stage.memory, stage.teacher_weights)]
    lines.append(
        ("time", f"~{seconds_text(cost.seconds)}, {cost.step_s:.3g} s a step, {cost.flops:.3g} FLOPs ({cost.how})")
    )
    return lines


def _clips(stage: StageRecipe) -> str:
    return f"{stage.clips:,} clips" if stage.clips else "its clips"


def _in_views(stage: StageRecipe) -> str:
    """Epochs of pre-training as the paper counts them: each view of a clip."""
    views = stage.settings.loader.views
    if stage.epochs is None or not isinstance(stage.settings, PretrainSettings) or views == 1:
        return ""
    return f" ({stage.epochs * views:.4g} of views, as the paper counts)"


def _batch(stage: StageRecipe, device: str) -> str:
    loader, accumulate = stage.settings.loader, stage.settings.fit.accumulate
    processes = stage.videos // (loader.clips_per_batch * accumulate)
    return (
        f"{processes} {device}{'' if processes == 1 else 's'} × {loader.clips_per_batch} videos × {accumulate} "
        f"accumulated = {stage.videos:,} videos a step; × {loader.views} views = {stage.videos * loader.views:,}"
    )


def _model(stage: StageRecipe) -> str:
    settings, fit = stage.settings, stage.settings.fit
    how = f"blocks {'checkpointed' if fit.checkpointing else 'not checkpointed'}"
    how += f", {'compiled' if fit.compile else 'not compiled'}"
    if isinstance(settings, PretrainSettings):
        return (
            f"ViT-{settings.size}, {settings.loader.frames} × {settings.loader.size}²; tubes {settings.tube_ratio:g}, "
            f"decoder mask {settings.decoder_mask} {settings.decoder_ratio:g}; {how}"
        )
    if isinstance(settings, SupervisedSettings):
        return f"drop path {settings.drop_path:g}, head dropout {settings.head_dropout:g}; {how}"
    students = ", ".join(student.size for student in settings.students)
    return f"students {students}; teacher {settings.teacher}; temperature {settings.temperature:g}; {how}"


def _views(stage: StageRecipe) -> str:
    loader = stage.settings.loader
    parts = [f"sampling {loader.sampling}", f"crop {loader.crop}"]
    if loader.flip:
        parts.append(f"flip{' except ' + ', '.join(stage.unflipped) if stage.unflipped else ''}")
    parts += ["RandAugment"] if loader.randaugment else []
    parts += [f"erasing {loader.erasing:g}"] if loader.erasing else []
    parts += [f"mixup {loader.mixup:g}, cutmix {loader.cutmix:g}"] if loader.mixup or loader.cutmix else []
    if isinstance(stage.settings, SupervisedSettings):
        parts.append(f"label smoothing {stage.settings.label_smoothing:g}")
    return ", ".join(parts)


def _number(value: float | None, off: float | None) -> str:
    return "" if value == off else f" {value:g}"


def as_json(resolved: ResolvedRecipe) -> dict[str, Any]:
    """One object: what is printed, with all settings of each stage."""
    recipe = resolved.recipe
    start = recipe.start and {
        "path": str(recipe.start.path), "kind": recipe.start.kind, "stands_for": recipe.start.stands_for
    }  # fmt: skip
    stages = [
        asdict(stage)
        | {"memory": {name: asdict(plan) | {"total": plan.total} for name, plan in stage.memory.items()}}
        for stage in resolved.stages
    ]
    return {
        "preset": recipe.name,
        "size": recipe.size,
        "gpus": resolved.gpus,
        "on_gpu": resolved.on_gpu,
        "start": start,
        "stages": stages,
        "evaluation": asdict(recipe.evaluation),
    }
