"""What a training stage would take: by a few steps on made-up clips, unless its run has finished."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from assets.stages import EvaluationSettings, Recipe, Settings
from assets.step_timing import stage_cost
from assets.training import run_specs
from model import checkpoint as checkpoints
from model.sizes import SIZES
from warehouse.catalog.snapshots import SnapshotError, current_snapshot, open_snapshot, snapshot_splits
from warehouse.config import Config
from warehouse.sources import Listing
from warehouse.store import Store


@dataclass(frozen=True)
class StagePlan:
    """A training stage: steps still to take, expected seconds (None: not tried) and bytes, and a remark."""

    name: str
    steps: int
    step_s: float | None
    seconds: float | None
    bytes_to_write: int
    remark: str


def settings_of(recipe: Recipe) -> dict[str, Settings]:
    """What each stage is told, in their order."""
    return {
        "pretrained": recipe.pretrained,
        "post_pretrained": recipe.post_pretrained,
        "finetuned": recipe.finetuned,
        "evaluation": recipe.evaluation,
    }


def plan_stage(
    store: Store,
    config: Config,
    recipe: Recipe,
    name: str,
    listings: Mapping[str, Listing],
    data_done: bool,
    device: torch.device,
) -> StagePlan:
    """The plan of a stage. Where data is still to be curated, earlier runs do not count: snapshots will be others."""
    settings = settings_of(recipe)[name]
    done, remark = _done(store, config, recipe, name) if data_done else (0, "")
    if remark.startswith("finished"):
        return StagePlan(name, 0, None, 0.0, 0, remark)
    if isinstance(settings, EvaluationSettings):
        clips = _evaluated_clips(store, config, listings)
        if clips is None:
            unknown = f"the query of {config.training.finetune} has not run yet: its clips are not known"
            return StagePlan(name, 0, None, None, 0, unknown)
        left = math.ceil(clips / settings.loader.clips_per_batch)
    else:
        left = settings.fit.steps - done
    classes = len({row["label"] for listing in listings.values() for row in listing.memberships} - {None})
    cost = stage_cost(settings, SIZES[recipe.pretrained.size], max(1, classes), device)
    seconds = None if cost.step_s is None else cost.step_s * left
    remarks = [text for text in (remark, cost.remark) if text]
    return StagePlan(name, left, cost.step_s, seconds, cost.checkpoint_bytes, "; ".join(remarks))


def _done(store: Store, config: Config, recipe: Recipe, name: str) -> tuple[int, str]:
    """Steps that the stage's run on the present snapshots has taken, and a remark on it."""
    try:
        spec = run_specs(store, config, recipe)[name]
    except SnapshotError:
        return 0, ""
    runs = store.rows("runs", spec.run_id)
    if runs and runs[0]["status"] == "finished":
        return 0, f"finished, took {runs[0]['seconds']:.0f} s"
    latest = checkpoints.latest(store.runs / spec.run_id / "checkpoints")
    return (latest.step, f"goes on after step {latest.step}") if latest else (0, "")


def _evaluated_clips(store: Store, config: Config, listings: Mapping[str, Listing]) -> int | None:
    """Clips of the fine-tuning collection to evaluate on: those that its sources list, or its query selected last.

    ``None``: it is a query that has not run yet.
    """
    [collection] = [c for c in config.collections if c.name == config.training.finetune]
    if collection.sql is not None:
        try:
            snapshot = current_snapshot(store, collection.name)
        except SnapshotError:
            return None
        splits = snapshot_splits(store, snapshot)
        return len(open_snapshot(store, snapshot, "val" if "val" in splits else "test"))
    split = "val" if "val" in collection.splits else "test"
    return len(
        {
            row["clip_id"]
            for source in config.sources
            if collection.name in source.collections
            for row in listings[source.name].memberships
            if row["split"] == split
        }
    )
