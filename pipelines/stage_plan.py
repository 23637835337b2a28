"""What a training stage would take: by a few steps on made-up clips, unless its run has finished."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from assets.derived_stages import FeatureSettings
from assets.stages import EvaluationSettings, Recipe, of_length
from assets.step_timing import stage_cost
from assets.training import collection_of, run_specs, training_clips
from loaders.windows import window_count
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
    settings = recipe.stages[name]
    done, remark = _done(store, config, recipe, name) if data_done else (0, "")
    if remark.startswith("finished"):
        return StagePlan(name, 0, None, 0.0, 0, remark)
    if isinstance(settings, EvaluationSettings):
        clips = _evaluated_clips(store, config, listings)
        if clips is None:
            unknown = f"the query of {config.training.finetune} has not run yet: its clips are not known"
            return StagePlan(name, 0, None, None, 0, unknown)
        left = math.ceil(clips / settings.loader.clips_per_batch / recipe.processes)
    elif isinstance(settings, FeatureSettings):
        windows = _windows(store, config, settings, listings)
        if windows is None:
            return StagePlan(name, 0, None, None, 0, "its clips, or how long they are, are not known yet")
        left = math.ceil(windows / settings.loader.clips_per_batch / recipe.processes)
    else:
        counted = stage_clips(store, config, name, listings)
        if counted == 0:
            return StagePlan(name, 0, None, None, 0, no_clips(config, name, listings))
        if counted is not None:
            settings = of_length(settings, counted, recipe.processes)
        elif settings.epochs is not None:
            unknown = f"{settings.epochs.count:g} epochs of a query that has not run yet: its clips are not known"
            return StagePlan(name, 0, None, None, 0, unknown)
        left = settings.fit.steps - done
    classes = len({row["label"] for listing in listings.values() for row in listing.memberships} - {None})
    cost = stage_cost(settings, SIZES[recipe.size], max(1, classes), device)
    seconds = None if cost.step_s is None else cost.step_s * left
    if isinstance(settings, EvaluationSettings) and recipe.distilled and seconds is not None:
        # Its students too, each of which takes less; those that a CPU is not tried on are not counted.
        students = [stage_cost(settings, SIZES[s.size], max(1, classes), device) for s in recipe.distilled.students]
        seconds += sum(student.step_s or 0.0 for student in students) * left
    remarks = [text for text in (remark, cost.remark) if text]
    return StagePlan(name, left, cost.step_s, seconds, cost.checkpoint_bytes, "; ".join(remarks))


def _done(store: Store, config: Config, recipe: Recipe, name: str) -> tuple[int, str]:
    """Steps that the stage's run on the present snapshots has taken, and a remark on it."""
    try:
        specs = [spec for spec in run_specs(store, config, recipe).values() if spec.stage == name]
    except SnapshotError:
        return 0, ""
    finished = [row for spec in specs for row in store.rows("runs", spec.run_id) if row["status"] == "finished"]
    if len(finished) == len(specs):
        return 0, f"finished, took {sum(row['seconds'] for row in finished):.0f} s"
    latest = checkpoints.latest(store.runs / specs[0].run_id / "checkpoints")
    return (latest.step, f"goes on after step {latest.step}") if latest else (0, "")


def stage_clips(store: Store, config: Config, stage: str, listings: Mapping[str, Listing]) -> int | None:
    """Training clips of a stage's collection: of its present snapshot, or before it has one those that its sources list
    and have; ``None`` for a query that has not run yet, and where a source is not listed."""
    name = collection_of(config, stage)
    try:
        return training_clips(store, current_snapshot(store, name))
    except SnapshotError:
        names = [source.name for source in config.sources if name in source.collections]
    if not names or not listings.keys() >= set(names):
        return None
    feeding = [listings[source] for source in names]
    listed = {
        row["clip_id"]
        for listing in feeding
        for row in listing.memberships
        if row["split"] == "train"
    } & {row["clip_id"] for listing in feeding for row in listing.files if row["bytes"] is not None}  # fmt: skip
    return len(listed)


def no_clips(config: Config, stage: str, listings: Mapping[str, Listing]) -> str:
    """Why :func:`stage_clips` counts none."""
    name = collection_of(config, stage)
    feeding = [source for source in config.sources if name in source.collections and source.name in listings]
    rows = [row for source in feeding for row in listings[source.name].memberships]
    listed = {row["clip_id"] for row in rows if row["split"] == "train"}
    files = [row for source in feeding for row in listings[source.name].files if row["clip_id"] in listed]
    if not listed or any(row["bytes"] is not None for row in files):
        return "its collection has no training clips"
    roots = ", ".join(sorted({str(source.media_root) for source in feeding}))
    return f"none of its {len(listed):,} listed training clips has a file under {roots}"


def _windows(
    store: Store, config: Config, settings: FeatureSettings, listings: Mapping[str, Listing]
) -> int | None:
    """Windows of the clips that features are extracted of; ``None`` where they cannot be counted yet."""
    total = 0
    for collection in (c for c in config.collections if c.name in config.training.features):
        try:
            snapshot = current_snapshot(store, collection.name)
        except SnapshotError:
            if collection.sql is not None or settings.loader.every is not None:
                return None
            total += len(
                {
                    (row["clip_id"], row["split"])
                    for source in config.sources
                    if collection.name in source.collections
                    for row in listings[source.name].memberships
                    if row["split"] in collection.splits
                }
            )
        else:
            for split in snapshot_splits(store, snapshot):
                total += sum(window_count(settings.loader, clip) for clip in open_snapshot(store, snapshot, split))
    return total


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
