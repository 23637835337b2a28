"""What a run would take, before anything runs: read-only, from the sources, the tables and a trial of a few clips."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from assets.stages import EvaluationSettings, Recipe, Settings
from assets.step_timing import stage_cost
from assets.training import run_specs
from model import checkpoint as checkpoints
from model.sizes import SIZES
from warehouse import steps, trial
from warehouse.catalog.snapshots import SnapshotError
from warehouse.config import Config, Source
from warehouse.sources import Listing, read_source
from warehouse.store import Store, fingerprint

TRIED = 3
HASH_BYTES = 56
"""A row of ``frame_hashes`` on disk: four words that do not compress, and what names them."""
STAGES = ("pretrained", "post_pretrained", "finetuned", "evaluation")


@dataclass(frozen=True)
class SourcePlan:
    """A source: what it lists, what is done, and what the rest would take with all workers.

    Attributes:
        hours: of the files that are there; exact if ``hours_known``, else estimated from the clips tried; None if
            none of them could be read.
        to_probe, to_store: clips that have still to be probed, and at most to be written to shards.
        probe_s, store_s: expected wall time; None if it could not be measured.
        bytes_to_write: expected size of what is missing of tables and shards.
    """

    name: str
    clips: int
    files: int
    rejected_rows: int
    bytes: int
    hours: float | None
    hours_known: bool
    to_probe: int
    to_store: int
    probe_s: float | None
    store_s: float | None
    bytes_to_write: int


@dataclass(frozen=True)
class StagePlan:
    """A training stage: steps still to take, expected seconds (None: not tried) and bytes, and a remark."""

    name: str
    steps: int
    step_s: float | None
    seconds: float | None
    bytes_to_write: int
    remark: str


@dataclass(frozen=True)
class Plan:
    """The whole run."""

    sources: tuple[SourcePlan, ...]
    stages: tuple[StagePlan, ...]
    device: str
    free_bytes: int

    @property
    def seconds(self) -> float:
        """Expected wall time of all that was measured."""
        parts = [s.probe_s for s in self.sources] + [s.store_s for s in self.sources]
        return sum(part or 0.0 for part in [*parts, *(stage.seconds for stage in self.stages)])

    @property
    def complete(self) -> bool:
        """Whether every part that is to be done could be measured."""
        data = all((s.probe_s is not None or not s.to_probe) and (s.store_s is not None or not s.to_store)
                   for s in self.sources)  # fmt: skip
        return data and all(stage.seconds is not None for stage in self.stages)

    @property
    def bytes_to_write(self) -> int:
        """Expected size of all that is missing."""
        return sum(part.bytes_to_write for part in (*self.sources, *self.stages))


def make_plan(config: Config, recipe: Recipe) -> Plan:
    """List the sources, try ``TRIED`` clips of each that has work left, and try each stage that has not finished.

    Raises:
        SourceError: a source cannot be read at all.
    """
    store = Store(config.data_root)
    with tqdm(total=2 * len(config.sources) + len(STAGES), desc="plan", leave=False, delay=3) as bar:
        listings: dict[str, Listing] = {}
        for source in config.sources:
            listings[source.name] = read_source(source)
            bar.update()
        work = {source.name: _work(store, config, source, listings) for source in config.sources}
        costs = _try_clips(config, listings, work)
        bar.update(len(config.sources))
        sources = tuple(_plan_source(store, config, s, listings[s.name], work[s.name], costs) for s in config.sources)
        data_done = not any(source.to_probe or source.to_store for source in sources)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        stages = []
        for name in STAGES:
            stages.append(_plan_stage(store, config, recipe, name, listings, data_done, device))
            bar.update()
    return Plan(sources, tuple(stages), device.type, shutil.disk_usage(_existing(config.data_root)).free)


@dataclass(frozen=True)
class _Work:
    """Clip ids of a source: files there, and those of them that are to be probed and to be stored."""

    present: set[str]
    probe: set[str]
    store: set[str]


def _work(store: Store, config: Config, source: Source, listings: Mapping[str, Listing]) -> _Work:
    files = {row["clip_id"]: row for row in listings[source.name].files}
    present = {clip for clip, row in files.items() if row["bytes"] is not None}
    probed = _probed(store, source, files)
    unreadable = {clip for clip, row in probed.items() if row["status"] != "ok"}
    # What decisions left out needs no place; what an earlier source has, is stored there.
    decided = store.rows("decisions")
    out = {row["clip_id"] for row in decided} - {row["clip_id"] for row in decided if row["keep"]}
    earlier = {
        row["clip_id"]
        for other in config.sources
        if other.priority < source.priority and other.name in listings and other.collections
        for row in listings[other.name].files
        if row["bytes"] is not None
    }
    stored = {
        member.clip_id
        for plan in (steps.shard_plans(store, source) if store.path("packing", source.name).exists() else ())
        if plan.rendition == config.rendition and plan.finished()
        for member in plan.members
    }
    to_probe = files.keys() - probed.keys()
    to_store = present - unreadable - (out - to_probe) - earlier - stored if source.collections else set()
    return _Work(present, set(to_probe), to_store)


def _probed(store: Store, source: Source, files: Mapping[str, Mapping]) -> dict[str, dict]:
    """Rows of ``media`` that describe the files as they are now, as the step `probe` would find them."""
    if not store.is_current("frame_hashes", source.name, fingerprint(steps.PROBE_VERSION)):
        return {}
    now = {clip: (row["bytes"], row["modified_ns"]) for clip, row in files.items()}
    rows = store.rows("media", source.name)
    return {row["clip_id"]: row for row in rows if now.get(row["clip_id"]) == (row["bytes"], row["modified_ns"])}


def _try_clips(
    config: Config, listings: Mapping[str, Listing], work: Mapping[str, _Work]
) -> dict[str, list[trial.ClipCost]]:
    """Costs of the clips tried, by source; sources with nothing to do are not tried."""
    chosen = []
    for source in config.sources:
        todo = work[source.name].probe | work[source.name].store
        paths = [
            source.media_root / row["path"] for row in listings[source.name].files
            if row["clip_id"] in todo and row["bytes"]
        ]  # fmt: skip
        chosen += trial.choose(source, config.rendition, paths, TRIED)
    costs: dict[str, list[trial.ClipCost]] = {source.name: [] for source in config.sources}
    for cost in trial.try_clips(chosen, config.workers):
        if cost is not None:
            costs[cost.source].append(cost)
    return costs


def _plan_source(
    store: Store,
    config: Config,
    source: Source,
    listing: Listing,
    work: _Work,
    all_costs: Mapping[str, list[trial.ClipCost]],
) -> SourcePlan:
    costs = all_costs[source.name]
    usable = [cost for cost in costs if cost.encode_s is not None]
    known = [row["duration_ms"] for row in store.rows("media", source.name) if row["status"] == "ok"]
    hours_known = not work.probe
    if hours_known:
        hours = sum(known) / 3.6e6
    else:
        hours = _mean([cost.duration_s for cost in usable], len(work.present), 3600)
    to_probe = len(work.probe & work.present)
    hashes = _mean([cost.hashes for cost in costs], to_probe) or 0
    stored = _mean([cost.stored_bytes for cost in usable], len(work.store)) or 0
    return SourcePlan(
        name=source.name,
        clips=len(listing.files),
        files=len(work.present),
        rejected_rows=len(listing.rejects),
        bytes=sum(row["bytes"] or 0 for row in listing.files),
        hours=hours,
        hours_known=hours_known,
        to_probe=len(work.probe),
        to_store=len(work.store),
        probe_s=_mean([cost.probe_s for cost in costs], to_probe, config.workers),
        store_s=_mean([cost.encode_s for cost in usable], len(work.store), config.workers),
        bytes_to_write=round(hashes * HASH_BYTES + stored),
    )


def _mean(values: list, count: int, divisor: float = 1.0) -> float | None:
    """The mean of the values times ``count`` / ``divisor``; None if something is to be estimated from nothing."""
    if count == 0:
        return 0.0
    return sum(values) / len(values) * count / divisor if values else None


def _plan_stage(
    store: Store,
    config: Config,
    recipe: Recipe,
    name: str,
    listings: Mapping[str, Listing],
    data_done: bool,
    device: torch.device,
) -> StagePlan:
    settings: Settings = {
        "pretrained": recipe.pretrained,
        "post_pretrained": recipe.post_pretrained,
        "finetuned": recipe.finetuned,
        "evaluation": recipe.evaluation,
    }[name]
    done, remark = _done(store, config, recipe, name) if data_done else (0, "")
    if remark.startswith("finished"):
        return StagePlan(name, 0, None, 0.0, 0, remark)
    if isinstance(settings, EvaluationSettings):
        left = math.ceil(_evaluated_clips(config, listings) / settings.loader.clips_per_batch)
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


def _evaluated_clips(config: Config, listings: Mapping[str, Listing]) -> int:
    """Clips that the sources of the fine-tuning collection list for evaluation."""
    [collection] = [c for c in config.collections if c.name == config.training.finetune]
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


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return path if path.exists() else _existing(path.parent)
