"""The report: one HTML file, complete in itself, that tells what the data set is made of and what came of training."""

import base64
import math
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import duckdb
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from assets.amounts import bytes_text, seconds_text, share_text
from assets.report_charts import confusion_chart, loss_chart
from assets.report_facts import Rows, Scores, StageFacts, ask, cautions, interval, scores_of, stage_facts
from assets.stages import PretrainSettings, Recipe
from model.pictures import GAP_PX
from warehouse.catalog.build import connect
from warehouse.config import Config
from warehouse.curation.decisions import REASONS
from warehouse.store import Store, replace_file

TEMPLATE = Path(__file__).with_name("report.html")
SOURCE_COLOURS = 8
"""Colours that the template has for sources; with more sources they come again."""
LISTED = 40
"""Rows shown of what may be long: rejected annotation rows and quarantined files."""


def build_report(store: Store, config: Config, recipe: Recipe) -> Path:
    """Write ``report.html`` under the data root from the catalog and the run folders as they are now.

    Stages that have not run are shown as such.

    Raises:
        CatalogError: there is no catalog yet.
    """
    stages = stage_facts(store, config, recipe)
    evaluation = next((stage for stage in stages if stage.steps is None), None)
    scores = scores_of(store, evaluation) if evaluation else None
    with connect(store) as connection:
        page = {
            "title": config.data_root.name,
            "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "data_root": str(config.data_root),
            "sources_file": config.path.name,
            "preset": recipe.name,
            "figures": _key_figures(connection, scores),
            "sources": [(source.name, i % SOURCE_COLOURS) for i, source in enumerate(config.sources)],
            "compositions": _compositions(connection, config),
            "exclusions": _exclusions(connection, config),
            "leaks": _leaks(connection),
            "leaks_left": _number(connection, _LEAKS_LEFT),
            "duplicates": _grid(ask(connection, _DUPLICATES)),
            "accounting": _grid(ask(connection, "SELECT * FROM accounting")),
            "trouble": _grid(ask(connection, f"{_TROUBLE} LIMIT {LISTED}")),
            "trouble_rows": _number(connection, f"SELECT count(*) FROM ({_TROUBLE})"),
            "snapshots": _grid(ask(connection, _SNAPSHOTS, [[stage.spec.snapshot_id for stage in stages]])),
        }
    page |= {
        "curves": [_curve(stage) for stage in stages if stage.progress],
        "reconstructions": [picture for stage in stages for picture in _reconstructions(stage)],
        "stages": _stages(stages),
        "scores": _accuracy(scores) if scores else None,
        "confusion": Markup(confusion_chart(scores.class_names, scores.confusion)) if scores else None,
        "cautions": cautions(recipe),
        "versions": _versions(),
    }
    # Whatever comes from data goes through the template's escaping; the charts alone are markup.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    path = store.root / "report.html"
    replace_file(path, environment.get_template(TEMPLATE.name).render(page).encode())
    return path


_DUPLICATES = """
    SELECT kind, count(*)::INTEGER AS pairs, round(avg(coverage), 3) AS "mean coverage",
           round(avg(mean_distance), 1) AS "mean distance (of 256 bits)"
    FROM duplicate_edges GROUP BY kind ORDER BY pairs DESC, kind
"""
_LEAKS = """
    SELECT source AS "training clip of", protected_source AS "repeats a clip of",
           string_agg(DISTINCT protected_split, ', ' ORDER BY protected_split) AS "its split",
           how AS "found by", count(DISTINCT clip_id)::INTEGER AS clips
    FROM leaks_found GROUP BY source, protected_source, how ORDER BY source, protected_source, how
"""
_TROUBLE = """
    SELECT m.source, f.path AS "file or row", m.error_class AS "error class", m.detail
    FROM media m JOIN files f USING (clip_id, source) WHERE m.status <> 'ok'
    UNION ALL
    SELECT source, parse_filename(file) || ' row ' || row, error_class, detail FROM rejects
    ORDER BY ALL
"""
_LEAKS_LEFT = "SELECT count(DISTINCT clip_id) FROM leaks"
_SNAPSHOTS = """
    SELECT collection, snapshot_id AS snapshot, strftime(created, '%Y-%m-%d %H:%M UTC') AS taken, clips,
           len(classes) AS classes, CASE WHEN list_contains(?, snapshot_id) THEN 'yes' ELSE '' END AS "trained on"
    FROM snapshots ORDER BY collection, created
"""


@dataclass(frozen=True)
class Grid:
    """A table of the page: texts, and for each column whether it is of numbers."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True)
class Bar:
    """A stacked bar: its name, its whole as a text, and (text, colour number, percent of the widest) parts."""

    name: str
    total: str
    parts: tuple[tuple[str, int, float], ...]


def _grid(rows: Rows) -> Grid:
    numeric = tuple(all(isinstance(row[i], int | float | None) for row in rows.rows) for i in range(len(rows.names)))
    return Grid(rows.names, tuple(tuple(_text(value) for value in row) for row in rows.rows), numeric)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(ask(connection, query).rows[0][0] or 0)


def _key_figures(connection: duckdb.DuckDBPyConnection, scores: Scores | None) -> list[tuple[str, str]]:
    clips = _number(connection, "SELECT count(DISTINCT clip_id) FROM memberships")
    kept = _number(connection, "SELECT count(DISTINCT clip_id) FROM decisions WHERE keep")
    hours = ask(connection, _KEPT_HOURS).rows[0][0] or 0.0
    stored = _number(connection, "SELECT sum(bytes) FROM shards")
    leaks = _number(connection, "SELECT count(DISTINCT clip_id) FROM leaks_found")
    figures = [
        (f"{clips:,}", "clips listed"),
        (f"{kept:,}", "in at least one collection"),
        (seconds_text(3600 * hours), "of video kept"),
        (bytes_text(stored), "in shards"),
        (f"{leaks:,}", f"leaks found, {_number(connection, _LEAKS_LEFT):,} left in training"),
    ]
    if scores:
        figures.append((share_text(scores.top1), f"top-1, chance {share_text(scores.chance)}"))
    return figures


_KEPT_HOURS = """
    SELECT sum(duration_ms) / 3.6e6 FROM (
        SELECT clip_id, max(duration_ms) AS duration_ms FROM media
        WHERE status = 'ok' AND clip_id IN (SELECT clip_id FROM decisions WHERE keep) GROUP BY clip_id)
"""


def _compositions(connection: duckdb.DuckDBPyConnection, config: Config) -> list[tuple[str, str, list[Bar], Grid]]:
    """For each collection: name, what it is, a bar for each split with a part for each source, and the table."""
    colour = {source.name: i % SOURCE_COLOURS for i, source in enumerate(config.sources)}
    rows = ask(connection, "SELECT collection, source, split, clips, hours, bytes FROM composition").rows
    whole: dict[tuple[str, str], int] = {}
    for collection, _, split, clips, *_ in rows:
        whole[collection, split] = whole.get((collection, split), 0) + clips
    widest = max(whole.values(), default=1)
    found = []
    for collection in config.collections:
        own = [row[1:] for row in rows if row[0] == collection.name]
        bars = [
            Bar(
                split,
                f"{whole[collection.name, split]:,}",
                tuple(
                    (f"{row[0]}: {row[2]:,} clips", colour.get(row[0], 0), 100 * row[2] / widest)
                    for row in own
                    if row[1] == split
                ),
            )
            for split in collection.splits
            if (collection.name, split) in whole
        ]
        table = tuple((row[0], row[1], row[2], f"{row[3] or 0:.2f}", bytes_text(row[4])) for row in own)
        grid = _grid(Rows(("source", "split", "clips", "hours", "in shards"), table))
        kind = f"labelled by {collection.taxonomy}" if collection.taxonomy else "unlabelled"
        found.append((collection.name, kind, bars, _numbers(grid, 3, 4)))
    return found


def _numbers(grid: Grid, *columns: int) -> Grid:
    """The grid with these columns set as numbers, though they are texts by now."""
    return Grid(grid.names, grid.rows, tuple(own or i in columns for i, own in enumerate(grid.numeric)))


def _exclusions(connection: duckdb.DuckDBPyConnection, config: Config) -> list[tuple[str, Grid]]:
    """For each collection, reasons down and sources across."""
    rows = ask(connection, "SELECT collection, reason, source, sum(clips)::INTEGER FROM exclusions GROUP BY ALL").rows
    found = []
    for collection in config.collections:
        counts = {(reason, source): clips for name, reason, source, clips in rows if name == collection.name}
        sources = [s.name for s in config.sources if any(source == s.name for _, source in counts)]
        lines = []
        for reason, meaning in REASONS.items():
            across = [counts.get((reason, source), 0) for source in sources]
            if sum(across):
                lines.append((reason, meaning.replace("`", ""), *(count or None for count in across), sum(across)))
        found.append((collection.name, _grid(Rows(("reason", "meaning", *sources, "clips"), tuple(lines)))))
    return found


def _leaks(connection: duckdb.DuckDBPyConnection) -> Grid:
    return _grid(ask(connection, _LEAKS))


def _curve(stage: StageFacts) -> tuple[str, str, str, Markup]:
    """Name, kind of loss, how far it came, and chart of a stage's loss."""
    if isinstance(stage.spec.settings, PretrainSettings):
        what, reference, name = "squared error of hidden cubes, normalised", 1.0, "predicting the mean"
    else:
        classes = stage.classes or 1
        what, reference, name = "cross entropy", math.log(classes), f"all {classes} classes alike"
    last = stage.progress[-1]
    reached = f"{last['step']:,} of {stage.steps:,} steps, last loss {last['loss']:.3f}"
    return stage.spec.stage, what, reached, Markup(loss_chart(stage.progress, reference, name))


def _reconstructions(stage: StageFacts) -> Iterable[str]:
    """The clips of the stage's last sheet, each with its three rows, as addresses that hold the picture."""
    if stage.picture is None or not isinstance(stage.spec.settings, PretrainSettings):
        return
    sheet = cv2.imread(str(stage.picture), cv2.IMREAD_COLOR)
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
                stage.spec.stage,
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
    return _numbers(_grid(Rows(names, tuple(rows))), 6, 7, 8)


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
    return _grid(Rows(("", ""), (*rows, ("platform", machine))))
