"""What the training assets show in the UI: the curve of the loss, reconstructions, and what is taken for what."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import dagster as dg

from assets import markdown
from assets.pictures import clips_shown
from assets.report_charts import LABELLED_CLASSES, confusion_chart, loss_chart, standing_alone
from assets.stages import PretrainSettings, Settings
from warehouse.store import Store
from warehouse.takedown.takedowns import taken_down

CONFUSED = 10
"""Pairs of classes listed."""
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
    sheets = sorted((folder / "pictures").glob("step-*.png"))
    clip_ids = clips_shown(folder)
    if sheets and not taken_down(store).intersection(clip_ids):
        shown["original, masked, reconstruction"] = _reconstructions(sheets[-1], clip_ids)
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


def loss_reference(settings: Settings, classes: int | None) -> tuple[float, str]:
    """The loss of a model that knows nothing, and what it does; to be drawn beside a stage's own."""
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
