"""What the report and the summary tell: read from the catalog, the ledger and the run folders."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from assets.amounts import share_text
from assets.stages import EvaluationSettings, Recipe, RunSpec, TrainingSettings
from assets.student_scores import ModelScores, compared
from assets.training import run_specs
from warehouse.catalog.snapshots import SnapshotError
from warehouse.config import Config
from warehouse.store import Store

CAUTION = {
    "smoke": "A smoke run proves that the machinery works from end to end. Its accuracy is no evidence for or against "
    "the method: the model is tiny and saw little.",
}
ONE_RUN = "One run with one seed: how much another seed would differ is not in these figures."


@dataclass(frozen=True)
class Rows:
    """The answer to a query: column names, and rows in their order."""

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class StageFacts:
    """A run of a stage of the recipe on the present snapshots.

    Attributes:
        name: of the stage; where that has several runs, of the run (``assets.training.run_specs``).
        status: as in ``runs``, or ``not run``.
        seconds: wall time of all attempts; None until one has ended.
        steps: optimiser steps asked for; None for an evaluation.
        progress: the rows of ``metrics.jsonl``, one for each step.
        classes: number of classes of the snapshot; None where stage or snapshot has none.
        picture: the last sheet of reconstructions, if the stage draws them.
    """

    name: str
    spec: RunSpec
    collection: str
    status: str
    attempts: int
    seconds: float | None
    steps: int | None
    progress: tuple[Mapping[str, Any], ...]
    classes: int | None
    picture: Path | None


@dataclass(frozen=True)
class Scores:
    """What the evaluation measured, beside what needs no model. Shares are in 0 to 1.

    ``largest`` names the class with most clips every time, ``metadata_only`` looks at width, height and number of
    frames of the original file (None: not measured). ``confusion[true][predicted]`` counts clips.
    """

    collection: str
    split: str
    clips: int
    views: int
    top1: float
    top5: float
    chance: float
    largest: float
    metadata_only: float | None
    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def figures(self) -> list[tuple[str, float]]:
        """Each accuracy with its name, the model's own first."""
        classes = len(self.class_names)
        named = [
            ("top-1 of the model", self.top1),
            ("top-5 of the model", self.top5),
            (f"top-1 by chance: one of {classes} classes at random", self.chance),
            (f"top-5 by chance: five of {classes} classes at random", min(1.0, 5 / classes)),
            ("top-1 of always naming the largest class", self.largest),
        ]
        if self.metadata_only is not None:
            named.append(("top-1 from metadata only: width, height, number of frames", self.metadata_only))
        return named

    @property
    def verdict(self) -> str:
        """One sentence on what the top-1 accuracy shows, and what it does not."""
        baselines = {"chance": self.chance, "always naming the largest class": self.largest}
        if self.metadata_only is not None:
            baselines["what the files' metadata alone give"] = self.metadata_only
        name, height = max(baselines.items(), key=lambda item: item[1])
        low, _ = interval(self.top1, self.clips)
        than = f"above {name} ({share_text(height)})"
        if low > height:
            return f"Top-1 is {than}, by more than the choice of {self.clips} clips explains."
        if self.top1 > height:
            return f"Top-1 is {than}, but by no more than luck can give with {self.clips} clips."
        return f"Top-1 is not {than}: on this data the model has shown nothing yet."


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share that was measured on ``count`` clips."""
    z = 1.96
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale


def ask(connection: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] = ()) -> Rows:
    """Run a query on the catalog."""
    result = connection.execute(query, list(values))
    return Rows(tuple(column[0] for column in result.description or ()), tuple(result.fetchall()))


def stage_facts(store: Store, config: Config, recipe: Recipe) -> list[StageFacts]:
    """The recipe's stages in their order; empty while collections have no snapshot."""
    try:
        specs = run_specs(store, config, recipe)
    except SnapshotError:
        return []
    return [_stage(store, name, spec) for name, spec in specs.items()]


def scores_of(store: Store, evaluation: StageFacts) -> Scores | None:
    """The scores of an evaluation; None if it has not finished."""
    settings = evaluation.spec.settings
    if evaluation.status != "finished" or not isinstance(settings, EvaluationSettings):
        return None
    measured = {row["metric"]: row["value"] for row in store.rows("scores", evaluation.spec.run_id)}
    result = json.loads((store.runs / evaluation.spec.run_id / "result.json").read_text())
    return Scores(
        collection=evaluation.collection,
        split=settings.split,
        clips=int(measured["clips"]),
        views=settings.loader.views,
        top1=measured["top1"],
        top5=measured["top5"],
        chance=measured["chance"],
        largest=measured["chance_largest_class"],
        metadata_only=measured.get("top1_metadata_only"),
        class_names=tuple(result["class_names"]),
        confusion=tuple(tuple(row) for row in result["confusion"]),
    )


def cautions(recipe: Recipe) -> str:
    """What has to be said beside any accuracy of this recipe."""
    return " ".join([*([CAUTION[recipe.name]] if recipe.name in CAUTION else []), ONE_RUN])


def models_of(store: Store, stages: Sequence[StageFacts]) -> list[ModelScores]:
    """The fine-tuned model and the students beside it, as far as they are scored; empty without students."""
    found = compared(store, {stage.name: stage.spec for stage in stages})
    return found if len(found) > 1 else []


def _stage(store: Store, name: str, spec: RunSpec) -> StageFacts:
    folder = store.runs / spec.run_id
    known = store.rows("runs", spec.run_id)
    run: Mapping[str, Any] = known[0] if known else {"status": "not run", "attempts": 0, "seconds": None}
    [snapshot] = store.rows("snapshots", spec.snapshot_id)
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return StageFacts(
        name=name,
        spec=spec,
        collection=snapshot["collection"],
        status=run["status"],
        attempts=run["attempts"],
        seconds=run["seconds"],
        steps=spec.settings.fit.steps if isinstance(spec.settings, TrainingSettings) else None,
        # The last line of a run that is being written, or was killed, may be cut.
        progress=tuple(json.loads(line) for line in lines if line.endswith("}")),
        classes=len(snapshot["classes"]) if snapshot["classes"] is not None else None,
        picture=max(folder.glob("pictures/step-*.png"), default=None),
    )
