"""The runs that start from a trained classifier: its students, the scores of all of them, and features of clips."""

from dataclasses import replace

from assets.derived_stages import FeatureSettings
from assets.stages import EvaluationSettings, RunSpec
from warehouse.catalog.snapshots import current_snapshot, snapshot_splits
from warehouse.config import Config
from warehouse.store import Store

STUDENT = "evaluation of "
"""Begins the names of the evaluations of students …"""
TEACHER = f"{STUDENT}the teacher"
"""… and this is that of their teacher, where it is not the fine-tuned model."""


def evaluation_specs(
    store: Store, settings: EvaluationSettings, finetuned: RunSpec, distilled: RunSpec | None
) -> dict[str, RunSpec]:
    """The evaluation of the fine-tuned model, and of each student beside it; by names that begin with the stage's.

    A student is scored, as its teacher is, on the collection that it learned on, if that has a split for it.
    """
    def scored(run: RunSpec, model: str) -> RunSpec:
        split = "val" if "val" in snapshot_splits(store, run.snapshot_id) else "test"
        return RunSpec("evaluation", run.snapshot_id, model, replace(settings, split=split), run.processes)

    specs = {"evaluation": scored(finetuned, finetuned.checkpoint)}
    if distilled is not None and {"val", "test"} & set(snapshot_splits(store, distilled.snapshot_id)):
        if distilled.parent and distilled.parent != finetuned.checkpoint:
            specs[TEACHER] = replace(scored(distilled, distilled.parent), parent_sha256=distilled.parent_sha256)
        specs |= {f"{STUDENT}{name}": scored(distilled, model) for name, model in distilled.models.items()}
    return specs


def feature_specs(
    store: Store, config: Config, settings: FeatureSettings, finetuned: RunSpec, processes: int
) -> dict[str, RunSpec]:
    """The extraction of features by the fine-tuned model, of each collection that the configuration names for it."""
    return {
        f"features of {name}": RunSpec(
            "features", current_snapshot(store, name), finetuned.checkpoint, settings, processes
        )
        for name in config.training.features
    }
