"""What the training assets show in the UI: the curve of the loss, reconstructions, and what is taken for what."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import dagster as dg

from assets import markdown
from assets.amounts import share_text
from assets.derived_stages import DistillSettings
from assets.pictures import clips_shown
from assets.report_charts import LABELLED_CLASSES, confusion_chart, loss_chart, standing_alone, validation_chart
from assets.stages import PretrainSettings, Settings
from assets.student_scores import ModelScores
from assets.validation import NAME as VALIDATION
from model import checkpoint as checkpoints
from model.course import BY_LOSS, VALIDATED
from warehouse.store import Store
from warehouse.takedown.takedowns import taken_down

LAST_STEPS = 50
MODEL_COLUMNS = ("model", "top-1", "top-5", "same class as the teacher", "clips")
CONFUSED = 10
"""Pairs of classes listed."""
MEASURES: Mapping[str, Callable[[float], str]] = {
    VALIDATED: lambda value: f"top-1 of validation clips {value:.1%}",
    BY_LOSS: lambda value: f"mean training loss {-value:.4f} since the checkpoint before",
}
"""What a checkpoint was measured by (``model.course``), in words."""
SHEET_PX = (480, 720)
"""Width of the reconstructions shown, and the most of their height: the first clips of the sheet."""


def of_training(store: Store, run_id: str, settings: Settings, classes: int | None) -> dict[str, Any]:
    """Loss and speed of a run, the curve, and its last reconstructions if it draws them.

    Those that show a clip which has been taken down are left out. ``classes``: of its snapshot; None: it has none.
    """
    folder = store.runs / run_id
    progress = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    if not progress:
        return {}
    reference, name = loss_reference(settings, classes)
    shown = {
        "steps": progress[-1]["step"],
        "last loss": progress[-1]["loss"],
        "clips/s": median(row["clips_per_s"] for row in progress),
        "share of time waiting for data": median(row["data_wait_share"] for row in progress),
        "clips passed over": sum(row.get("failed", 0) for row in progress),  # runs of long ago did not count them
        "loss": markdown.chart(standing_alone(loss_chart(progress, reference, name))),
    }
    shown |= _checkpoints(folder / "checkpoints", [row for row in progress if row.get(VALIDATION) is not None])
    if isinstance(settings, DistillSettings):
        shown |= _of_students([student.size for student in settings.students], progress)
    sheets = sorted((folder / "pictures").glob("step-*.png"))
    clip_ids = clips_shown(folder)
    if sheets and not taken_down(store).intersection(clip_ids):
        shown["original, masked, reconstruction"] = _reconstructions(sheets[-1], clip_ids)
    return shown


def _checkpoints(folder: Path, validated: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which checkpoint is the best and by what, and the scores of validation (``metrics.jsonl``'s rows that have one).

    The run's own result, from which stages go on, is its last checkpoint all the same.
    """
    shown: dict[str, Any] = {}
    found = checkpoints.best(folder)
    if found and found.measure:
        shown["best checkpoint"] = f"{found.path.name}: {MEASURES[found.measure.name](found.measure.value)}"
    if validated:
        names = [key for key in validated[-1] if key.startswith(f"{VALIDATION}/")]
        series = {name.partition("/")[2]: [row[name] for row in validated] for name in names or [VALIDATION]}
        shown["last validation top-1"] = validated[-1][VALIDATION]
        chart = validation_chart([row["step"] for row in validated], series)
        shown["validation"] = markdown.chart(standing_alone(chart))
    return shown


def of_evaluation(class_names: Sequence[str], confusion: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Which classes are taken for which: the matrix as far as it can be read, and the pairs confused most.

    ``confusion[true][predicted]`` counts clips.
    """
    wrong = [
        (name, class_names[j], count, count / sum(row))
        for i, (name, row) in enumerate(zip(class_names, confusion, strict=True))
        for j, count in enumerate(row)
        if count and i != j
    ]
    wrong.sort(key=lambda pair: (-pair[2], -pair[3], pair[:2]))
    rows = [(true, predicted, count, f"{share:.0%}") for true, predicted, count, share in wrong[:CONFUSED]]
    shown = {"confused most": markdown.table(("class", "taken for", "clips", "of the class"), rows)}
    if len(class_names) <= LABELLED_CLASSES:
        shown["confusion"] = markdown.chart(standing_alone(confusion_chart(class_names, confusion)))
    return shown


def of_models(scores: Sequence[ModelScores]) -> dict[str, Any]:
    """The models that were scored, side by side."""
    return {"models": markdown.table(MODEL_COLUMNS, model_rows(scores))}


def model_rows(scores: Sequence[ModelScores]) -> list[tuple[str, ...]]:
    """The cells of ``MODEL_COLUMNS`` for each model."""
    return [
        (
            model.name,
            share_text(model.top1),
            share_text(model.top5),
            "–" if model.agreement is None else share_text(model.agreement),
            f"{model.clips:,}",
        )
        for model in scores
    ]


def _of_students(students: Sequence[str], progress: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What each student has to learn still, and the curve of each."""
    last = progress[-LAST_STEPS:]
    # One student's losses are those of the run.
    losses = {name: [row["losses"].get(name, row["loss"]) for row in progress] for name in students}
    rows = [(name, f"{sum(own[-len(last):]) / len(last):.4f}") for name, own in losses.items()]
    heading = f"KL to the teacher × temperature², mean of the last {len(last)} steps"
    shown: dict[str, Any] = {"students": markdown.table(("student", heading), rows)}
    if len(students) > 1:
        for name, own in losses.items():
            curve = [{"step": row["step"], "loss": loss} for row, loss in zip(progress, own, strict=True)]
            shown[f"loss of {name}"] = markdown.chart(standing_alone(loss_chart(curve, None, "")))
    return shown


def loss_reference(settings: Settings, classes: int | None) -> tuple[float | None, str]:
    """The loss of a model that knows nothing, and what it does; to be drawn beside a stage's own.

    Of a distillation it is not known: it depends on what the teacher says.
    """
    if isinstance(settings, DistillSettings):
        return None, ""
    if isinstance(settings, PretrainSettings):
        return 1.0, "predicting the mean"
    return math.log(classes or 1), f"all {classes or 1} classes alike"


def _reconstructions(sheet: Path, clip_ids: Sequence[str]) -> dg.MarkdownMetadataValue:
    picture = cv2.imread(str(sheet), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{sheet}: not a picture. Remove it: the next checkpoint draws another.")
    width, most = SHEET_PX
    height = round(picture.shape[0] * width / picture.shape[1])
    scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", scaled[:most], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return dg.MetadataValue.md(markdown.image(jpeg, "jpeg", ", ".join(clip_ids)))
