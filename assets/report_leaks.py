"""``leaks.html``: for each evaluation set some of the training clips that repeat its clips, side by side."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from jinja2 import Environment

from assets.leak_pictures import Wanted, pictures
from assets.report_facts import ask
from assets.report_tables import Grid, grid
from warehouse.catalog.build import connect
from warehouse.config import Config
from warehouse.media_file import media_file
from warehouse.store import Store, replace_file

PAIRS = 8
"""Pairs shown of an evaluation set: of what is left first, then of each way of finding in turn."""

# The offset is from the time in the training clip to the time in the evaluation clip; of clips of one video that share
# no time, the middles are shown. A clip's file is that of the first source that has a readable one.
_PAIRS = """
WITH pair AS (
    SELECT protected_source, protected_split, clip_id, protected_clip_id, list(DISTINCT how ORDER BY how) AS found_by,
           list(DISTINCT collection || ': ' || outcome ORDER BY collection || ': ' || outcome) AS outcomes,
           bool_or(outcome = 'left') AS is_left
    FROM leaks_found
    -- What has been taken down is not shown either.
    WHERE clip_id NOT IN (SELECT clip_id FROM takedowns) AND protected_clip_id NOT IN (SELECT clip_id FROM takedowns)
    GROUP BY ALL
), placed AS (
    SELECT *, count(*) OVER (PARTITION BY protected_source, protected_split) AS pairs,
           row_number() OVER (PARTITION BY protected_source, protected_split, is_left, found_by
                              ORDER BY clip_id, protected_clip_id) AS nth
    FROM pair
), chosen AS (
    SELECT * FROM placed
    QUALIFY row_number() OVER (PARTITION BY protected_source, protected_split
                               ORDER BY is_left DESC, nth, found_by, clip_id) <= ?
), edge AS (
    SELECT clip_a, clip_b, min(offset_ms) AS offset_ms FROM duplicate_edges WHERE offset_ms IS NOT NULL GROUP BY ALL
), file AS (
    SELECT m.clip_id, arg_min(m, s.priority) AS media, arg_min(f, s.priority) AS file,
           arg_min(s.media_root, s.priority) AS media_root
    FROM media m JOIN files f USING (clip_id, source) JOIN sources s ON s.source = m.source
    WHERE m.status = 'ok' AND m.clip_id IN (SELECT clip_id FROM chosen UNION ALL SELECT protected_clip_id FROM chosen)
    GROUP BY m.clip_id
), side AS (
    SELECT c.clip_id, c.native_id, c.start_ms, c.end_ms, file.media.duration_ms AS duration_ms, file.file AS file,
           file.media_root AS media_root
    FROM clips c LEFT JOIN file USING (clip_id)
)
SELECT p.protected_source, p.protected_split, p.pairs, p.found_by, p.outcomes, p.is_left,
       t AS training, e AS evaluation,
       CASE WHEN p.clip_id = p.protected_clip_id THEN 0
            WHEN t.native_id = e.native_id AND list_has_any(p.found_by, ['same_video', 'overlap'])
                 THEN coalesce(t.start_ms, 0) - coalesce(e.start_ms, 0)
            ELSE coalesce(forth.offset_ms, -back.offset_ms, 0) END AS offset_ms
FROM chosen p
JOIN side t ON t.clip_id = p.clip_id
JOIN side e ON e.clip_id = p.protected_clip_id
LEFT JOIN edge forth ON forth.clip_a = p.clip_id AND forth.clip_b = p.protected_clip_id
LEFT JOIN edge back ON back.clip_a = p.protected_clip_id AND back.clip_b = p.clip_id
ORDER BY p.protected_source, p.protected_split, p.is_left DESC, p.nth, p.found_by, p.clip_id
"""


@dataclass(frozen=True)
class Side:
    """One clip of a pair: ``picture`` is an address that holds its frame, or None, and then ``problem`` says why."""

    clip_id: str
    name: str
    at: str
    picture: str | None
    problem: str


@dataclass(frozen=True)
class Pair:
    """A training clip and the evaluation clip that it repeats."""

    training: Side
    evaluation: Side
    found_by: str
    outcomes: tuple[str, ...]
    is_left: bool


@dataclass(frozen=True)
class EvaluationSet:
    """The pairs shown of an evaluation set, and how many there are in all."""

    name: str
    pairs: int
    shown: tuple[Pair, ...]


def write_leak_page(store: Store, config: Config, environment: Environment) -> Path:
    """Write ``leaks.html`` beside ``report.html`` from the catalog and the media files as they are now.

    Raises:
        CatalogError: there is no catalog yet.
    """
    with connect(store) as connection:
        rules = grid(ask(connection, "SELECT * FROM leakage_rules"))
        page: dict[str, Any] = {
            "title": config.data_root.name,
            "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "rules": Grid(tuple(name.replace("_", " ") for name in rules.names), rules.rows, rules.numeric),
            "sets": evaluation_sets(connection, config.workers),
        }
    path = store.root / "leaks.html"
    replace_file(path, environment.get_template("leaks.html").render(page).encode())
    return path


def evaluation_sets(connection: duckdb.DuckDBPyConnection, workers: int) -> list[EvaluationSet]:
    """At most ``PAIRS`` leaks of each evaluation set, with a frame of both clips at the time where they agree."""
    rows = ask(connection, _PAIRS, [PAIRS])
    found = [dict(zip(rows.names, row, strict=True)) for row in rows.rows]
    for row in found:
        row["times"] = aligned_ms(row["training"]["duration_ms"], row["evaluation"]["duration_ms"], row["offset_ms"])
    wanted = [_wanted(row[side], t_ms) for row in found for side, t_ms in _sides(row) if row[side]["file"]]
    frames = pictures(wanted, workers)
    sets: dict[tuple[str, str], list[Pair]] = {}
    totals: dict[tuple[str, str], int] = {}
    for row in found:
        key = row["protected_source"], row["protected_split"]
        totals[key] = row["pairs"]
        training, evaluation = (_side(row[side], t_ms, frames) for side, t_ms in _sides(row))
        found_by = ", ".join(row["found_by"])
        sets.setdefault(key, []).append(Pair(training, evaluation, found_by, tuple(row["outcomes"]), row["is_left"]))
    return [EvaluationSet(" ".join(key), totals[key], tuple(pairs)) for key, pairs in sets.items()]


def aligned_ms(training_ms: int | None, evaluation_ms: int | None, offset_ms: int) -> tuple[int, int]:
    """Times in ms in the two clips that show the same: the middle of what they share, or the two middles.

    Args:
        training_ms, evaluation_ms: lengths; None: not known, as of a clip without a readable file.
        offset_ms: time in the evaluation clip minus time in the training clip.
    """
    t_ms, e_ms = training_ms or 0, evaluation_ms or 0
    first, last = max(0, -offset_ms), min(t_ms, e_ms - offset_ms)
    if first >= last:
        return t_ms // 2, e_ms // 2
    middle = (first + last) // 2
    return middle, middle + offset_ms


def _sides(row: Mapping[str, Any]) -> Sequence[tuple[str, int]]:
    return list(zip(("training", "evaluation"), row["times"], strict=True))


def _wanted(side: Mapping[str, Any], t_ms: int) -> Wanted:
    return media_file(Path(side["media_root"]), side["file"]), t_ms


def _side(side: Mapping[str, Any], t_ms: int, frames: Mapping[Wanted, bytes | str]) -> Side:
    interval = "" if side["start_ms"] is None else f" {side['start_ms'] / 1000:g} to {side['end_ms'] / 1000:g} s"
    name = f"{side['native_id']}{interval}"
    if not side["file"]:
        return Side(side["clip_id"], name, "", None, "no source has a readable file")
    frame = frames[_wanted(side, t_ms)]
    at = f"{side['file']['source']}, at {t_ms / 1000:.1f} s"
    if isinstance(frame, str):
        return Side(side["clip_id"], name, at, None, frame)
    return Side(side["clip_id"], name, at, f"data:image/jpeg;base64,{base64.b64encode(frame).decode()}", "")
