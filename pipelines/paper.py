"""The preset ``paper``: a size's rows of ``pipelines.published`` as a recipe for so many GPUs."""

from collections.abc import Mapping
from dataclasses import replace

from assets.derived_stages import DistillSettings, Student, Teacher
from assets.schedule import Epochs
from assets.stages import EvaluationSettings, PretrainSettings, Recipe, SupervisedSettings
from loaders import recipes
from loaders.views import LoaderConfig
from model.optim import OptimConfig, scaled_rate
from model.training import FitConfig
from pipelines import published
from pipelines.batches import Split, split
from pipelines.published import Row, Task

TASKS: Mapping[str, Task] = {
    "kinetics": "kinetics",
    "something_something_v1": "something_something",
    "something_something_v2": "something_something",
    "ucf101": "ucf101",
    "hmdb51": "hmdb51",
}
"""Kinds of sources that the paper fine-tunes on."""


def paper(
    size: str, gpus: int, task: Task = "kinetics", after_k710: bool = True, compiled: bool = False
) -> Recipe:
    """VideoMAE V2 at one of the paper's sizes, with the published videos of a step dealt over ``gpus``.

    ``after_k710``: whether fine-tuning starts from post-pre-trained weights. ``compiled``: whether blocks are, which
    pays on GPUs alone. Until the clips are counted (``assets.stages.of_length``), steps are those on the collections of
    the paper.
    """
    loaders = recipes.paper()
    pretrain, post = published.pretraining(size), published.post_pretraining(size)
    finetune = published.finetuning(task, size, after_k710)
    rows = {"pretrained": pretrain, "post_pretrained": post, "finetuned": finetune}
    return Recipe(
        name="paper",
        pretrained=PretrainSettings(
            size,
            _loader(pretrain, loaders.pretrained, gpus),
            _fit(pretrain, gpus, published.PRETRAINING_CLIPS, compiled),
            epochs=_epochs(pretrain),
        ),
        post_pretrained=_supervised(post, loaders.post_pretrained, gpus, published.POST_PRETRAINING_CLIPS, compiled),
        finetuned=_supervised(finetune, loaders.finetuned, gpus, published.FINETUNING_CLIPS[task], compiled),
        evaluation=EvaluationSettings(loaders.evaluation),
        processes=gpus,
        remarks={stage: _remarks(row, gpus) for stage, row in rows.items()},
    )


def task_of(kinds: set[str]) -> tuple[Task, str]:
    """What the sources of a collection are to the paper, by their kinds; and a remark where they are nothing to it."""
    tasks = {TASKS.get(kind) for kind in kinds}
    found = tasks.pop() if len(tasks) == 1 else None
    if found is not None:
        return found, ""
    what = f"sources of {', '.join(sorted(kinds))}" if kinds else "a query"
    return "kinetics", f"the paper fine-tunes on nothing like this collection ({what}): its numbers for Kinetics (ours)"


def distillation(
    students: tuple[Student, ...], loader: LoaderConfig, teacher: Teacher, task: Task, gpus: int, compiled: bool
) -> tuple[DistillSettings, tuple[str, ...]]:
    """The paper's distillation dealt over ``gpus``, and remarks on it. Only Something-Something has another row."""
    row = published.DISTILLATION["something_something" if task == "something_something" else "kinetics"]
    clips = published.FINETUNING_CLIPS[task] if teacher == "finetuned" else published.POST_PRETRAINING_CLIPS
    fit = _fit(row, gpus, clips, compiled)
    settings = DistillSettings(
        students, _loader(row, loader, gpus), fit, teacher, drop_path=row.drop_path, epochs=_epochs(row)
    )
    return settings, _remarks(row, gpus)


def _supervised(row: Row, loader: LoaderConfig, gpus: int, clips: int, compiled: bool) -> SupervisedSettings:
    return SupervisedSettings(
        _loader(row, loader, gpus),
        _fit(row, gpus, clips, compiled),
        drop_path=row.drop_path,
        head_dropout=row.head_dropout,
        label_smoothing=row.label_smoothing,
        epochs=_epochs(row),
    )


def _split(row: Row, gpus: int) -> Split:
    return split(row.videos, row.per_gpu, gpus)


def _epochs(row: Row) -> Epochs:
    return Epochs(row.epochs, row.warmup)


def _loader(row: Row, loader: LoaderConfig, gpus: int) -> LoaderConfig:
    return replace(loader, clips_per_batch=_split(row, gpus).clips)


def _fit(row: Row, gpus: int, clips: int, compiled: bool) -> FitConfig:
    """The schedule on ``clips`` clips; rates by the linear rule for the videos that a step really has."""
    dealt = _split(row, gpus)
    optim = OptimConfig(
        peak_rate=scaled_rate(row.base_rate, dealt.videos),
        final_rate=scaled_rate(row.final_rate, dealt.videos),
        warmup_steps=0,
        weight_decay=row.weight_decay,
        betas=row.betas,
        layer_decay=row.layer_decay,
        clip_grad=row.clip_grad,
    )
    fit = FitConfig(
        steps=1,
        checkpoint_every=1,
        seed=0,
        optim=optim,
        accumulate=dealt.accumulate,
        checkpointing=row.checkpointing,
        compile=compiled,
    )
    return _epochs(row).fit(fit, clips, dealt.videos)


def _remarks(row: Row, gpus: int) -> tuple[str, ...]:
    dealt, remarks = _split(row, gpus), [f"follows {row.follows}", *row.notes]
    if dealt.videos != row.videos:
        remarks.append(
            f"{row.videos} videos cannot be dealt over {gpus} GPUs: {dealt.videos} a step, and rates by the linear rule"
        )
    return tuple(remarks)
