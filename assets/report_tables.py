"""The report's tables and bars: what the data set is made of, asked of the catalog."""

from dataclasses import dataclass
from typing import Any

import duckdb

from assets.amounts import bytes_text, seconds_text, share_text
from assets.report_facts import Rows, Scores, ask
from warehouse.config import SPLITS, Config
from warehouse.curation.decisions import REASONS

SOURCE_COLOURS = 8
"""Colours that the template has for sources; with more sources they come again."""

DUPLICATES = """
    SELECT kind, count(*)::INTEGER AS pairs, round(avg(coverage), 3) AS "mean coverage",
           round(avg(mean_distance), 1) AS "mean distance (of 256 bits)"
    FROM duplicate_edges GROUP BY kind ORDER BY pairs DESC, kind
"""
LEAKS = """
    SELECT collection, protected_source || ' ' || protected_split AS "evaluation set", how AS "found by", outcome,
           string_agg(DISTINCT source, ', ' ORDER BY source) AS "training clips of",
           count(DISTINCT clip_id)::INTEGER AS clips
    FROM leaks_found GROUP BY ALL ORDER BY ALL
"""
TROUBLE = """
    SELECT m.source, f.path AS "file or row", m.error_class AS "error class", m.detail
    FROM media m JOIN files f USING (clip_id, source) WHERE m.status <> 'ok'
    UNION ALL
    SELECT source, parse_filename(file) || ' row ' || row, error_class, detail FROM rejects
    ORDER BY ALL
"""
LEAKS_LEFT = "SELECT count(DISTINCT clip_id) FROM leaks"
SNAPSHOTS = """
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


def grid(rows: Rows) -> Grid:
    """Values as texts: thousands apart, a dash where there is none."""
    numeric = tuple(all(isinstance(row[i], int | float | None) for row in rows.rows) for i in range(len(rows.names)))
    return Grid(rows.names, tuple(tuple(_text(value) for value in row) for row in rows.rows), numeric)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    """The count that a query answers with."""
    return int(ask(connection, query).rows[0][0] or 0)


def key_figures(connection: duckdb.DuckDBPyConnection, scores: Scores | None) -> list[tuple[str, str]]:
    """Value and name of what a reader should see first."""
    clips = number(connection, "SELECT count(DISTINCT clip_id) FROM memberships")
    kept = number(connection, "SELECT count(DISTINCT clip_id) FROM decisions WHERE keep")
    hours = ask(connection, _KEPT_HOURS).rows[0][0] or 0.0
    stored = number(connection, "SELECT sum(bytes) FROM shards")
    leaks = number(connection, "SELECT count(DISTINCT clip_id) FROM leaks_found")
    figures = [
        (f"{clips:,}", "clips listed"),
        (f"{kept:,}", "in at least one collection"),
        (seconds_text(3600 * hours), "of video kept"),
        (bytes_text(stored), "in shards"),
        (f"{leaks:,}", f"leaks found, {number(connection, LEAKS_LEFT):,} left in training"),
    ]
    if scores:
        figures.append((share_text(scores.top1), f"top-1, chance {share_text(scores.chance)}"))
    return figures


_KEPT_HOURS = """
    SELECT sum(duration_ms) / 3.6e6 FROM (
        SELECT clip_id, max(duration_ms) AS duration_ms FROM media
        WHERE status = 'ok' AND clip_id IN (SELECT clip_id FROM decisions WHERE keep) GROUP BY clip_id)
"""


def compositions(connection: duckdb.DuckDBPyConnection, config: Config) -> list[tuple[str, str, list[Bar], Grid]]:
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
            for split in collection.splits or SPLITS
            if (collection.name, split) in whole
        ]
        table = tuple((row[0], row[1], row[2], f"{row[3] or 0:.2f}", bytes_text(row[4])) for row in own)
        lines = grid(Rows(("source", "split", "clips", "hours", "in shards"), table))
        kind = f"labelled by {collection.taxonomy}" if collection.taxonomy else "unlabelled"
        found.append((collection.name, kind, bars, numbers(lines, 3, 4)))
    return found


def numbers(lines: Grid, *columns: int) -> Grid:
    """The grid with these columns set as numbers, though they are texts by now."""
    return Grid(lines.names, lines.rows, tuple(own or i in columns for i, own in enumerate(lines.numeric)))


def exclusions(connection: duckdb.DuckDBPyConnection, config: Config) -> list[tuple[str, Grid]]:
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
        found.append((collection.name, grid(Rows(("reason", "meaning", *sources, "clips"), tuple(lines)))))
    return found
