"""A recipe with all its numbers resolved, before anything runs: what each stage follows, and what it would take."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from assets.derived_stages import DistillSettings
from assets.run_memory import planned_memory
from assets.stages import PretrainSettings, Recipe, SupervisedSettings, TrainingSettings, of_length, videos_per_step
from assets.training import collection_of
from model.classifier import ClassifierConfig
from model.memory_plan import MemoryPlan
from model.pretrainer import PretrainerConfig
from model.sizes import SIZES
from model.weights import build
from pipelines.stage_plan import no_clips, stage_clips
from pipelines.training_cost import Cost, training_cost
from warehouse.config import Config, Source
from warehouse.sources import Listing, read_source
from warehouse.store import Store

CLASSES = 710
"""Of a head whose classes are not known yet: the most that the paper has. It is a thousandth of the weights."""
PAPERS_STEPS = "steps are those on the collection of the paper"


@dataclass(frozen=True)
class StageRecipe:
    """A stage that trains.

    Attributes:
        remarks: what the numbers follow, where sources differ, what is ours.
        clips: of the training split; None where nothing lists them yet.
        epochs: that the steps come to; None with the clips, unless the stage is given in epochs.
        unflipped: sources of these clips whose label depends on left and right.
        videos: of a step: GPUs × clips of a batch × batches that are accumulated.
        base_rate: for 256 videos; the settings have the rates as they are applied.
        memory: of each GPU, for each model that is trained, by its name ("" for one alone).
        teacher_weights: of a distillation.
    """

    name: str
    collection: str
    remarks: tuple[str, ...]
    clips: int | None
    epochs: float | None
    unflipped: tuple[str, ...]
    videos: int
    base_rate: float
    settings: TrainingSettings
    memory: Mapping[str, MemoryPlan]
    teacher_weights: int | None
    cost: Cost


@dataclass(frozen=True)
class ResolvedRecipe:
    """All stages that train, and the evaluation at their end on so many GPUs; ``on_gpu``: else on a CPU."""

    recipe: Recipe
    gpus: int
    on_gpu: bool
    stages: tuple[StageRecipe, ...]


def resolve(config: Config, recipe: Recipe, here: bool) -> ResolvedRecipe:
    """Resolve a recipe for its number of GPUs.

    ``here``: they are this machine's (or its CPU), and steps are tried on it; else their time is estimated.

    Raises:
        SourceError: an annotation file cannot be read.
    """
    store, listings = Store(config.data_root), listed(config)
    on_gpu = torch.cuda.is_available() or not here
    stages = []
    for name, settings in recipe.stages.items():
        if not isinstance(settings, TrainingSettings):
            continue
        clips, remarks = stage_clips(store, config, name, listings), recipe.remarks.get(name, ())
        epochs = settings.epochs.count if settings.epochs else None
        if clips:
            settings = of_length(settings, clips, recipe.processes)
            epochs = settings.fit.steps * videos_per_step(settings, recipe.processes) / clips
        else:
            unknown = "its clips are not known yet" if clips is None else no_clips(config, name, listings)
            remarks = (*remarks, unknown if epochs is None else f"{unknown}: {PAPERS_STEPS}")
        stages.append(_stage(config, recipe, name, settings, clips, epochs, remarks, here, on_gpu))
    return ResolvedRecipe(recipe, recipe.processes, on_gpu, tuple(stages))


def listed(config: Config) -> Mapping[str, Listing]:
    """What each source lists, of those whose annotations and media are there."""
    return {source.name: read_source(source) for source in config.sources if _there(source)}


def _there(source: Source) -> bool:
    if source.kind == "hmdb51":  # its annotations are a pattern
        return source.media_root.is_dir() and any(
            any(path.parent.glob(path.name)) for path in source.annotations.values()
        )
    return source.media_root.is_dir() and all(path.is_file() for path in source.annotations.values())


def _stage(
    config: Config,
    recipe: Recipe,
    name: str,
    settings: TrainingSettings,
    clips: int | None,
    epochs: float | None,
    remarks: tuple[str, ...],
    here: bool,
    on_gpu: bool,
) -> StageRecipe:
    videos, collection = videos_per_step(settings, recipe.processes), collection_of(config, name)
    feeding = [source.name for source in config.sources if collection in source.collections]
    models = model_configs(settings, recipe.size)
    teacher = classifier(settings, recipe.size) if isinstance(settings, DistillSettings) else None
    return StageRecipe(
        name=name,
        collection=collection,
        remarks=remarks,
        clips=clips,
        epochs=epochs,
        # A query, which nothing feeds, may select clips of any source.
        unflipped=tuple(source for source in settings.loader.unflipped if source in feeding or not feeding),
        videos=videos,
        base_rate=settings.fit.optim.peak_rate * 256 / videos,
        settings=settings,
        memory={name: planned_memory(settings, model, recipe.processes, on_gpu) for name, model in models.items()},
        teacher_weights=_weights(teacher) if teacher else None,
        cost=training_cost(settings, models, teacher, recipe.processes, here),
    )


def _weights(config: ClassifierConfig) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in build(config).parameters())


def model_configs(settings: TrainingSettings, size: str) -> dict[str, PretrainerConfig | ClassifierConfig]:
    """The models that a stage trains, by name. ``size`` is the recipe's; classifiers have ``CLASSES`` classes."""
    if isinstance(settings, PretrainSettings):
        return {"": settings.model}
    if isinstance(settings, DistillSettings):
        return {student.size: classifier(settings, student.size) for student in settings.students}
    return {"": classifier(settings, size)}


def classifier(settings: SupervisedSettings | DistillSettings, size: str) -> ClassifierConfig:
    """A classifier of ``CLASSES`` classes for the clips of a stage."""
    classes = tuple(f"class {i}" for i in range(CLASSES))
    return ClassifierConfig(SIZES[size], settings.loader.frames, settings.loader.size, classes, settings.drop_path)
