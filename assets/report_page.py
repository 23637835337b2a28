"""The report: one HTML file, complete in itself, that tells what the data set is made of and what came of training."""

import base64
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from assets.amounts import seconds_text, share_text
from assets.derived_stages import DistillSettings
from assets.pictures import clips_shown
from assets.report_charts import confusion_chart, loss_chart
from assets.report_facts import Rows, Scores, StageFacts, ask, cautions, interval, models_of, scores_of, stage_facts
from assets.report_leaks import write_leak_page
from assets.report_tables import (
    DUPLICATES,
    LEAKS,
    LEAKS_LEFT,
    SNAPSHOTS,
    SOURCE_COLOURS,
    TROUBLE,
    Grid,
    compositions,
    exclusions,
    grid,
    key_figures,
    number,
    numbers,
)
from assets.run_previews import MODEL_COLUMNS, loss_reference, model_rows
from assets.stages import PretrainSettings, Recipe
from model.pictures import GAP_PX
from warehouse.catalog.build import connect
from warehouse.config import Config
from warehouse.store import Store, replace_file

TEMPLATE = Path(__file__).with_name("report.html")
LISTED = 40
"""Rows shown of what may be long: rejected annotation rows and quarantined files."""


def build_report(store: Store, config: Config, recipe: Recipe) -> Path:
    """Write ``report.html``, and ``leaks.html`` beside it, from the catalog, the run folders and media as they are now.

    Stages that have not run are shown as such.

    Raises:
        CatalogError: there is no catalog yet.
        ValueError: a run's sheet of reconstructions is not a picture; names it.
    """
    stages = stage_facts(store, config, recipe)
    evaluation = next((stage for stage in stages if stage.name == "evaluation"), None)
    models = models_of(store, stages)
    scores = scores_of(store, evaluation) if evaluation else None
    with connect(store) as connection:
        page = {
            "title": config.data_root.name,
            "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "data_root": str(config.data_root),
            "sources_file": config.path.name,
            "preset": recipe.name,
            "figures": key_figures(connection, scores),
            "sources": [(source.name, i % SOURCE_COLOURS) for i, source in enumerate(config.sources)],
            "compositions": compositions(connection, config),
            "exclusions": exclusions(connection, config),
            "leaks": grid(ask(connection, LEAKS)),
            "leaks_left": number(connection, LEAKS_LEFT),
            "duplicates": grid(ask(connection, DUPLICATES)),
            "accounting": grid(ask(connection, "SELECT * FROM accounting")),
            "trouble": grid(ask(connection, f"{TROUBLE} LIMIT {LISTED}")),
            "trouble_rows": number(connection, f"SELECT count(*) FROM ({TROUBLE})"),
            "snapshots": grid(ask(connection, SNAPSHOTS, [[stage.spec.snapshot_id for stage in stages]])),
        }
    page |= {
        "curves": [_curve(stage) for stage in stages if stage.progress],
        "reconstructions": [picture for stage in stages for picture in _reconstructions(stage)],
        "clips_shown": [clip for stage in stages for clip in clips_shown(store.runs / stage.spec.run_id)],
        "stages": _stages(stages),
        "scores": _accuracy(scores) if scores else None,
        "models": numbers(grid(Rows(MODEL_COLUMNS, tuple(model_rows(models)))), 1, 2, 3, 4) if models else None,
        "confusion": Markup(confusion_chart(scores.class_names, scores.confusion)) if scores else None,
        "cautions": cautions(recipe),
        "versions": _versions(),
    }
    # Whatever comes from data goes through the template's escaping; the charts alone are markup.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    write_leak_page(store, config, environment)
    path = store.root / "report.html"
    replace_file(path, environment.get_template(TEMPLATE.name).render(page).encode())
    return path


def _curve(stage: StageFacts) -> tuple[str, str, str, Markup]:
    """Name, kind of loss, how far it came, and chart of a stage's loss."""
    pretrained = isinstance(stage.spec.settings, PretrainSettings)
    distilled = isinstance(stage.spec.settings, DistillSettings)
    what = "KL to the teacher" if distilled else "cross entropy"
    if pretrained:
        what = "squared error of hidden cubes, normalised"
    reference, name = loss_reference(stage.spec.settings, stage.classes)
    last = stage.progress[-1]
    reached = f"{last['step']:,} of {stage.steps:,} steps, last loss {last['loss']:.3f}"
    return stage.spec.stage, what, reached, Markup(loss_chart(stage.progress, reference, name))


def _reconstructions(stage: StageFacts) -> Iterable[str]:
    """The clips of the stage's last sheet, each with its three rows, as addresses that hold the picture."""
    if stage.picture is None or not isinstance(stage.spec.settings, PretrainSettings):
        return
    sheet = cv2.imread(str(stage.picture), cv2.IMREAD_COLOR)
    if sheet is None:
        raise ValueError(f"{stage.picture}: not a picture. Remove it to have a report without it.")
    height = 3 * (stage.spec.settings.loader.size + GAP_PX)
    for top in range(0, len(sheet), height):
        _, encoded = cv2.imencode(".png", np.ascontiguousarray(sheet[top : top + height - GAP_PX]))
        yield f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _stages(stages: Iterable[StageFacts]) -> Grid:
    names = ("stage", "collection", "snapshot", "status", "attempts", "steps", "wall time", "clips/s", "data wait",
             "run")  # fmt: skip
    rows = []
    for stage in stages:
        speed = median(row["clips_per_s"] for row in stage.progress) if stage.progress else None
        wait = median(row["data_wait_share"] for row in stage.progress) if stage.progress else None
        rows.append(
            (
                stage.name,
                stage.collection,
                stage.spec.snapshot_id,
                stage.status,
                stage.attempts,
                stage.progress[-1]["step"] if stage.progress else None,
                None if stage.seconds is None else seconds_text(stage.seconds),
                None if speed is None else f"{speed:.1f}",
                None if wait is None else share_text(wait),
                stage.spec.run_id,
            )
        )
    return numbers(grid(Rows(names, tuple(rows))), 6, 7, 8)


def _accuracy(scores: Scores) -> dict[str, Any]:
    low, high = interval(scores.top1, scores.clips)
    rows = [(name, share_text(value), 100 * value, i < 2) for i, (name, value) in enumerate(scores.figures)]
    return {
        "collection": scores.collection,
        "split": scores.split,
        "clips": f"{scores.clips:,}",
        "views": scores.views,
        "classes": len(scores.class_names),
        "rows": rows,
        "interval": f"{share_text(low)} to {share_text(high)}",
        "verdict": scores.verdict,
    }


def _versions() -> Grid:
    packages = ("reelhouse", "torch", "av", "duckdb", "webdataset", "dagster")
    rows = [("python", platform.python_version()), *((name, version(name)) for name in packages)]
    machine = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return grid(Rows(("", ""), (*rows, ("platform", machine))))
