"""Presets: whole recipes by name. ``smoke`` shows that all works, ``small`` fits a GPU, ``paper`` is VideoMAE V2.

What their stages load, with its augmentations, is in ``loaders.recipes``; here are models and schedules. EMA is off in
all of them, as in the paper.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

import torch

from assets.stages import EvaluationSettings, PretrainSettings, Recipe, SupervisedSettings, Trained
from assets.start import Start, open_start
from loaders import recipes
from loaders.recipes import kinds_of
from loaders.views import LoaderConfig
from model.optim import OptimConfig, scaled_rate
from model.training import FitConfig
from pipelines.batches import split
from pipelines.derived import with_derived
from pipelines.own_numbers import with_numbers
from pipelines.paper import TASKS, paper, task_of
from pipelines.published import SIZES, Task
from warehouse.config import Config
from warehouse.toml_text import Document, suggest

STAGES_TRAINED = ("pretrained", "post_pretrained", "finetuned")
SMALL_VIDEOS = 64
"""Videos of a step of `small` over all GPUs."""


def smoke() -> Recipe:
    """A `tiny` model on 8 frames of 48 px: every stage for real in minutes on two CPU cores.

    Rates are far above those of large models and nothing regularises: few steps are taken, and the embedded corpus
    gives few clips. Tubes are of 0.75, not the paper's 0.9: of 36 places in a frame they leave 9, while 0.9 leaves 4,
    too few to learn much from (docs/training.md).
    """
    loaders = recipes.smoke()

    def fit(steps: int, every: int, peak_rate: float, warmup: int, second_beta: float = 0.999) -> FitConfig:
        return FitConfig(steps, every, seed=0, optim=OptimConfig(peak_rate, warmup, betas=(0.9, second_beta)))

    def supervised(loader: LoaderConfig, config: FitConfig) -> SupervisedSettings:
        return SupervisedSettings(loader, config, drop_path=0.0, label_smoothing=0.0)

    return Recipe(
        name="smoke",
        pretrained=PretrainSettings("tiny", loaders.pretrained, fit(800, 200, 3e-3, 80, 0.95), tube_ratio=0.75),
        post_pretrained=supervised(loaders.post_pretrained, fit(700, 200, 1.5e-3, 70)),
        finetuned=supervised(loaders.finetuned, fit(150, 75, 5e-4, 15)),
        evaluation=EvaluationSettings(loaders.evaluation),
        processes=1,
        remarks=dict.fromkeys(STAGES_TRAINED, ("ours: minutes on a CPU",)),
    )


def small(gpus: int = 1) -> Recipe:
    """ViT-S on 16 × 224² for one machine with a GPU or more, by the rules of the paper at a shorter length."""
    loaders = recipes.small()

    def dealt(
        loader: LoaderConfig, steps: int, base_rate: float, layer_decay: float, second_beta: float
    ) -> dict[str, Any]:
        parts = split(SMALL_VIDEOS, loader.clips_per_batch, gpus)
        rate = scaled_rate(base_rate, parts.videos)
        optim = OptimConfig(rate, steps // 10, betas=(0.9, second_beta), layer_decay=layer_decay)
        fit = FitConfig(steps, 1_000, seed=0, optim=optim, accumulate=parts.accumulate)
        return {"loader": replace(loader, clips_per_batch=parts.clips), "fit": fit}

    return Recipe(
        name="small",
        pretrained=PretrainSettings("S", **dealt(loaders.pretrained, 25_000, 1e-3, 1.0, 0.95)),
        post_pretrained=SupervisedSettings(**dealt(loaders.post_pretrained, 10_000, 7e-4, 0.75, 0.999)),
        finetuned=SupervisedSettings(**dealt(loaders.finetuned, 5_000, 7e-4, 0.75, 0.999)),
        evaluation=EvaluationSettings(loaders.evaluation),
        processes=gpus,
        remarks=dict.fromkeys(STAGES_TRAINED, ("ours: a shorter schedule, at the rates of ViT-B's scripts",)),
    )


STRIDES: Mapping[Task, int] = {"kinetics": 4, "ucf101": 4, "hmdb51": 2}
"""Frames from one sampled frame to the next in the paper's fine-tuning; Something-Something takes the whole clip."""

FRESH_HEAD = "with a head that starts afresh no source fine-tunes after K710: the row of pre-trained weights (ours)"


def recipe_of(config: Config, gpus: int | None = None) -> Recipe:
    """The recipe that a configuration names, with the stages, rows and loaders that it calls for.

    ``gpus``: those to train on; None: this machine's, or its CPU as one.

    Raises:
        ConfigError: `training.preset` is no preset, `training.size` none of its sizes, `training.start` nothing to
            start from, or numbers are given for a stage that does not run.
    """
    loaders, start = recipes.stage_loaders(config), open_start(config)
    replaced = start is not None and start.stands_for == "post_pretrained"
    post_pretrains = config.training.post_pretrain is not None and not replaced
    whole = _named(config, start, gpus, post_pretrains or replaced)
    first, post = whole.pretrained, whole.post_pretrained
    recipe = replace(
        whole,
        start=start,
        pretrained=_loading(first, loaders.pretrained) if first and not start else None,
        post_pretrained=_loading(post, loaders.post_pretrained) if post and post_pretrains else None,
        finetuned=_loading(whole.finetuned, loaders.finetuned),
        evaluation=replace(whole.evaluation, loader=loaders.evaluation),
    )
    return with_numbers(with_derived(recipe, config, loaders), config)


def _named(config: Config, start: Start | None, asked_gpus: int | None, after_k710: bool) -> Recipe:
    """The preset that a configuration names, with all its stages."""
    preset, gpus = config.training.preset, asked_gpus or max(1, torch.cuda.device_count())
    if preset == "paper":
        task, remark = task_of(kinds_of(config, config.training.finetune))
        on_gpus = asked_gpus is not None or torch.cuda.is_available()
        has_head = start is None or start.stands_for == "pretrained" or bool(start.class_names)
        keeps_head = after_k710 and task == "kinetics" and not remark and has_head
        fresh_head = after_k710 and task == "kinetics" and not keeps_head
        recipe = paper(_size(config, start), gpus, task, after_k710 and not fresh_head, compiled=on_gpus)
        ours = [remark, FRESH_HEAD if fresh_head else ""]
        own = (*recipe.remarks["finetuned"], *filter(None, ours), *_other_strides(config, task))
        return replace(recipe, remarks={**recipe.remarks, "finetuned": own}, keeps_head=keeps_head)
    if config.training.size is not None:
        _refuse(config, "size", f"the preset {preset!r} has one size. Remove this key, or take `preset = \"paper\"`")
    if preset == "small":
        return small(gpus)
    recipe = smoke()
    if asked_gpus is not None and asked_gpus > recipe.processes:
        alone = f"on one of the {asked_gpus} GPUs: its steps are too small to share"
        return replace(recipe, remarks={stage: (*said, alone) for stage, said in recipe.remarks.items()})
    return recipe


def _size(config: Config, start: Start | None) -> str:
    """The size that the paper's rows are taken for: that of the weights to start from, or as the configuration says."""
    named = config.training.size
    size = start.size if start else named
    if start and named not in (None, start.size):
        _refuse(config, "size", f"is {named!r}, but {start.path} holds a model of size {start.size!r}. Remove this key")
    if start and size not in SIZES:
        _refuse(config, "start", f"{start.path} is of size {size!r}, which the paper does not have: {', '.join(SIZES)}")
    if size is None:
        _refuse(config, "size", f"missing. Add it to [training]: the paper's numbers are for {', '.join(SIZES)}")
    if size not in SIZES:
        _refuse(config, "size", f"{size!r} is no size of the paper's. {suggest(size, SIZES)}")
    return size


def _refuse(config: Config, key: str, problem: str) -> NoReturn:
    document = Document(config.path)
    document.report(("training", key), problem)
    document.raise_problems()
    raise AssertionError("a problem was reported")


def _other_strides(config: Config, task: Task) -> list[str]:
    """A remark for each source of fine-tuning that is sampled otherwise than the paper samples it."""
    feeding = [source for source in config.sources if config.training.finetune in source.collections]
    return [
        f"source {source.name} is sampled at stride {source.stride}, in the paper at {STRIDES[task]} (its `stride`)"
        for source in feeding
        if TASKS.get(source.kind) == task in STRIDES and source.stride != STRIDES[task]
    ]


def _loading(settings: Trained, loader: LoaderConfig) -> Trained:
    """The settings with another loader, but the batches that they had."""
    return replace(settings, loader=replace(loader, clips_per_batch=settings.loader.clips_per_batch))
