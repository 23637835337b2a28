"""What the stages of each preset draw of their clips: sampling, augmentation and batches, by VideoMAE V2's recipes.

Sections named are of the VideoMAE V2 facts. The models and schedules of the presets are in ``pipelines.presets``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from loaders.views import EvaluationConfig, LoaderConfig
from warehouse.config import DIRECTED_KINDS, Config
from warehouse.toml_text import Document

WORKERS = 8  # for each GPU


@dataclass(frozen=True)
class StageLoaders:
    """What each stage of a run loads, named as the stages are."""

    pretrained: LoaderConfig
    post_pretrained: LoaderConfig
    finetuned: LoaderConfig
    evaluation: EvaluationConfig


def smoke() -> StageLoaders:
    """8 frames of 48 px for a `tiny` model.

    Nothing regularises: few steps are taken, and the embedded corpus gives few clips, so each view has frames of its
    own. Crops are the mild ones, as a direction must stay in the frame to be seen.
    """
    frames, size = 8, 48
    supervised = LoaderConfig(clips_per_batch=24, frames=frames, size=size, workers=1)
    return StageLoaders(
        pretrained=LoaderConfig(clips_per_batch=16, views=2, own_windows=True, frames=frames, size=size, workers=1),
        post_pretrained=supervised,
        finetuned=supervised,
        evaluation=EvaluationConfig(clips_per_batch=8, frames=frames, size=size, temporal_views=3, workers=1),
    )


def small() -> StageLoaders:
    """The paper's views in batches for one machine with a GPU or more."""
    return _videomae(pretrain_clips=32, supervised_clips=32)


def paper() -> StageLoaders:
    """The paper's views. Batches are 32 videos × 4 views (§4.1), and 2 videos × 2 views after it (§4.2), until
    ``pipelines.paper`` deals a step's videos over GPUs."""
    return _videomae(pretrain_clips=32, supervised_clips=2)


def _videomae(pretrain_clips: int, supervised_clips: int) -> StageLoaders:
    return StageLoaders(
        pretrained=pretraining(pretrain_clips),
        post_pretrained=finetuning(supervised_clips),
        finetuned=finetuning(supervised_clips),
        # Five windows in time × three crops, as Kinetics is tested (§3.3).
        evaluation=EvaluationConfig(clips_per_batch=4, temporal_views=5, spatial_views=3, workers=WORKERS),
    )


def pretraining(clips_per_batch: int) -> LoaderConfig:
    """Four crops of one window of 16 × 224²; no flip, no colour (§3.4)."""
    return LoaderConfig(clips_per_batch, views=4, sampling="dense", crop="multi_scale", workers=WORKERS)


def finetuning(clips_per_batch: int) -> LoaderConfig:
    """Two views of one window of 16 × 224², each augmented by itself, and clips mixed (§3.4)."""
    return LoaderConfig(
        clips_per_batch,
        views=2,
        sampling="linspace",
        crop="random_resized",
        flip=True,
        randaugment=True,
        erasing=0.25,
        mixup=0.8,
        cutmix=1.0,
        workers=WORKERS,
    )


RECIPES: dict[str, Callable[[], StageLoaders]] = {"smoke": smoke, "small": small, "paper": paper}


def stage_loaders(config: Config) -> StageLoaders:
    """The loaders of the preset that a configuration names, as its sources call for.

    Clips of sources where a flip changes the label are not flipped. A labelled stage that learns from
    Something-Something alone takes frames from the whole clip (``segments``), and is tested so in 2 × 3 views (§3.3).
    The configuration's shares of sources are pre-training's, its shard-local runs every training stage's.

    Raises:
        ConfigError: `training.preset` is no preset.
    """
    preset, training = config.training.preset, config.training
    if preset not in RECIPES:
        document = Document(config.path)
        document.report(("training", "preset"), f"{preset!r} is not a preset. Choose from {', '.join(RECIPES)}")
        document.raise_problems()
    loaders = RECIPES[preset]()
    evaluation = loaders.evaluation
    if preset != "smoke" and _whole_clips(config, training.finetune):
        evaluation = replace(evaluation, sampling="segments", temporal_views=2)
    runs = training.run_clips
    return StageLoaders(
        pretrained=replace(loaders.pretrained, source_shares=training.source_shares or None, run_clips=runs),
        post_pretrained=replace(_labelled(loaders.post_pretrained, config, training.post_pretrain), run_clips=runs),
        finetuned=replace(_labelled(loaders.finetuned, config, training.finetune), run_clips=runs),
        evaluation=evaluation,
    )


def kinds_of(config: Config, collection: str | None) -> set[str]:
    """The kinds of the sources that feed a collection; none of one that is a query."""
    return {source.kind for source in config.sources if collection in source.collections}


def _labelled(loader: LoaderConfig, config: Config, collection: str | None) -> LoaderConfig:
    if loader.flip:
        loader = replace(loader, unflipped=tuple(source.name for source in config.sources if not source.flip))
    if loader.sampling == "linspace" and _whole_clips(config, collection):
        loader = replace(loader, sampling="segments")
    return loader


def _whole_clips(config: Config, collection: str | None) -> bool:
    """Whether all sources of a collection are such that what happens in a clip takes all of it."""
    kinds = kinds_of(config, collection)
    return bool(kinds) and kinds <= set(DIRECTED_KINDS)
