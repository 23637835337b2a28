"""Assets from snapshots to scores, and which runs the present snapshots and the recipe call for."""

from collections.abc import Mapping

import dagster as dg
import pyarrow.compute as pc

from assets.derived_runs import evaluation_specs, feature_specs
from assets.derived_stages import DistillSettings, FeatureSettings
from assets.stage_runs import run_stages
from assets.stages import EvaluationSettings, Recipe, RunSpec, of_length
from warehouse.catalog.snapshots import current_snapshot
from warehouse.config import Config
from warehouse.store import Store
from warehouse.toml_text import Document

DESCRIPTIONS = {
    "pretrained": "VideoMAE V2 pre-training: tube-masked encoder, running-cell-masked decoder.",
    "post_pretrained": "Supervised post-pre-training on the labelled hybrid, from the pre-trained encoder.",
    "finetuned": "Fine-tuning on the target collection, from the weights of the stage before.",
    "distilled": "Smaller models that learn from a trained one, all at once: KL to its softened probabilities.",
    "features": "A vector of each clip by the fine-tuned model, or of windows of it, in the table `features`.",
    "evaluation": "Top-1 and top-5 of the fine-tuned model over several views a clip, beside chance and a metadata "
    "baseline.",
}


def training_assets(config: Config, recipe: Recipe) -> list[dg.AssetsDefinition]:
    """An asset for each stage of the recipe, under the stage's name."""
    store = Store(config.data_root)

    def asset(stage: str, before: str | None) -> dg.AssetsDefinition:
        deps = dict.fromkeys([*_collections(config, stage), *([before] if before else [])])

        @dg.asset(name=stage, description=DESCRIPTIONS[stage], group_name="training", kinds={"torch"}, deps=list(deps))
        def run(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            specs = run_specs(store, config, recipe, last=stage)
            return run_stages(context, store, {name: spec for name, spec in specs.items() if spec.stage == stage})

        return run

    names = list(recipe.stages)
    return [asset(stage, before) for before, stage in zip([None, *names], names, strict=False)]


def _collections(config: Config, stage: str) -> tuple[str, ...]:
    return config.training.features if stage == "features" else (collection_of(config, stage),)


def collection_of(config: Config, stage: str) -> str:
    """The collection that a stage trains or is scored on: of students that of their teacher."""
    training = config.training
    taught = training.teacher if stage == "distilled" else stage
    name = {"pretrained": training.pretrain, "post_pretrained": training.post_pretrain}.get(taught, training.finetune)
    if name is None:
        raise ValueError(f"{config.path} names no collection for the stage {stage}")
    return name


def run_specs(store: Store, config: Config, recipe: Recipe, last: str | None = None) -> dict[str, RunSpec]:
    """The runs that the present snapshots and the recipe call for, by stage, up to the stage ``last`` (None: all).

    Each starts from the one before, and the first from the recipe's file of weights, if it has one. Of a stage with
    several runs (evaluations, features) each has a name that begins with the stage's.

    Raises:
        SnapshotError: a collection of these stages has no snapshot yet.
        ConfigError: fine-tuning is to go on with a head that does not know all of its classes.
    """
    specs: dict[str, RunSpec] = {}
    left: dict[str, tuple[str, str | None]] = {}  # weights that a stage leaves, or that stand for it, and their SHA-256
    if recipe.start:
        left[recipe.start.stands_for] = (str(recipe.start.path), recipe.start.sha256)
    for stage, settings in recipe.stages.items():
        if isinstance(settings, EvaluationSettings):
            specs |= evaluation_specs(store, settings, specs["finetuned"], specs.get("distilled"))
        elif isinstance(settings, FeatureSettings):
            specs |= feature_specs(store, config, settings, specs["finetuned"], recipe.processes)
        else:
            snapshot = current_snapshot(store, collection_of(config, stage))
            if stage == "finetuned" and recipe.keeps_head:
                _check_head(store, config, recipe, specs, snapshot)
            sized = of_length(settings, training_clips(store, snapshot), recipe.processes)
            last_left = next(reversed(left.values()), (None, None))
            parent, sha256 = left[settings.teacher] if isinstance(settings, DistillSettings) else last_left
            specs[stage] = RunSpec(stage, snapshot, parent, sized, recipe.processes, sha256)
            left[stage] = (specs[stage].checkpoint, None)
        if stage == last:
            break
    return specs


def _check_head(store: Store, config: Config, recipe: Recipe, specs: Mapping[str, RunSpec], snapshot_id: str) -> None:
    """Raise ConfigError unless the classifier that fine-tuning starts from knows all classes of the snapshot."""
    wanted = _classes(store, snapshot_id)
    if recipe.start and "post_pretrained" not in specs:
        key, teacher, known = "start", str(recipe.start.path), recipe.start.class_names
    else:
        key, teacher = "post_pretrain", str(config.training.post_pretrain)
        known = _classes(store, specs["post_pretrained"].snapshot_id)
    lacking = [name for name in wanted if name not in set(known)]
    if lacking:
        document = Document(config.path)
        document.report(
            ("training", key),
            f"{teacher} has {len(wanted) - len(lacking)} of the {len(wanted)} classes of {config.training.finetune},"
            f" and not {', '.join(map(repr, lacking[:3]))}{' …' if len(lacking) > 3 else ''}: its head would start"
            f" afresh, at the rate of one that knows them ({recipe.finetuned.fit.optim.peak_rate:.3g}). Correct the"
            " names: by `aliases` or `classes` of the taxonomy, or by the list that the weights were converted with",
        )
        document.raise_problems()


def _classes(store: Store, snapshot_id: str) -> tuple[str, ...]:
    return tuple(store.rows("snapshots", snapshot_id)[0]["classes"] or ())


def training_clips(store: Store, snapshot_id: str) -> int:
    """Clips of a snapshot's training split, those that have been taken down since among them."""
    return pc.sum(pc.equal(store.read("snapshot_clips", snapshot_id, ["split"])["split"], "train")).as_py() or 0

