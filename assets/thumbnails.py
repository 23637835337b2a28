"""Contact sheets for the UI: a frame of each of a few clips, and of both clips of a few pairs of copies.

However many clips there are, a few are drawn, by clip id, which is a hash: any clip may be among them, and the same
ones are from run to run. Clips that were taken down never are.
"""

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from assets import markdown
from assets.leak_pictures import Wanted, pictures
from assets.parquet_views import parquet_views
from warehouse.config import Config, Source
from warehouse.engine import available_cores
from warehouse.media_file import MediaFile, media_file
from warehouse.store import Store

TILES = 12
COLUMNS = 4
WIDTH_PX = 160
"""A sheet of twelve is some 60 kB: it is stored with each materialisation."""
PAIRS_A_KIND = 2
LATEST_MS = 5_000
"""Frames come from no later in a clip: what lies before them has to be decoded."""


@dataclass(frozen=True)
class _Tile:
    """A frame wanted, and the words below it."""

    clip_id: str
    wanted: Wanted
    words: str


def of_media(store: Store, config: Config, sources: Sequence[Source]) -> dict[str, dg.MarkdownMetadataValue]:
    """For each source with readable files a contact sheet of these."""
    sheets = {}
    for source in sources:
        with parquet_views(store, "media", "files", "memberships", "takedowns", part=source.name) as connection:
            rows = _rows(connection, _MEDIA)
        sheets[source.name] = [_listed(source, row) for row in rows]
    return _drawn(sheets, config.workers)


def of_shards(store: Store, config: Config, sources: Sequence[Source]) -> dict[str, dg.MarkdownMetadataValue]:
    """For each source with shards a contact sheet of what is in them: frames decoded from the tars."""
    names = ("samples", "shards", "memberships", "takedowns")
    sheets = {}
    for source in sources:
        with parquet_views(store, *names, part=source.name) as connection:
            sheets[source.name] = [_stored(store, row) for row in _rows(connection, _SAMPLES, config.rendition)]
    return _drawn(sheets, config.workers)


def of_snapshot(store: Store, config: Config, snapshot_id: str) -> dg.MarkdownMetadataValue | None:
    """A contact sheet of what training on a snapshot reads; None where all of it has been taken down."""
    with parquet_views(store, "samples", "shards", "takedowns") as connection:
        connection.register("members", store.read("snapshot_clips", snapshot_id))
        tiles = [_stored(store, row) for row in _rows(connection, _SNAPSHOT)]
    return _drawn({snapshot_id: tiles}, config.workers).get(snapshot_id)


def of_features(store: Store, run_id: str, snapshot_id: str) -> dg.MarkdownMetadataValue | None:
    """A few clips, each at the head of a row of those that its vector is nearest to (cosine distance, of the nearest
    window); None where all have been taken down."""
    with parquet_views(store, "samples", "shards", "takedowns") as connection:
        connection.register("members", store.read("snapshot_clips", snapshot_id))
        connection.read_parquet(str(store.path("features", run_id))).create_view("features")
        tiles = [_stored(store, row) for row in _rows(connection, _NEIGHBOURS)]
    return _drawn({run_id: tiles}, available_cores()).get(run_id)


def of_copies(store: Store, config: Config) -> dg.MarkdownMetadataValue | None:
    """A few verified pairs of each kind, side by side at a time where they agree; None where there is no pair."""
    with parquet_views(store, "duplicate_edges", "media", "files", "sources", "takedowns") as connection:
        rows = _rows(connection, _PAIRS)
    if not rows:
        return None
    for row in rows:
        times = _same_time(row["a"]["duration_ms"], row["b"]["duration_ms"], row["offset_ms"] or 0)
        files = [media_file(Path(row[side]["media_root"]), row[side]["file"]) for side in ("a", "b")]
        row["wanted"] = list(zip(files, times, strict=True))
    frames = pictures([wanted for row in rows for wanted in row["wanted"]], config.workers, WIDTH_PX)
    lines = [
        (
            row["kind"],
            *(_picture(frames[at], row[side]["file"]["clip_id"]) for side, at in zip("ab", row["wanted"], strict=True)),
            *(f"{row[side]['file']['source']}: {Path(row[side]['file']['path']).name}" for side in "ab"),
            row["mean_distance"] and round(row["mean_distance"], 1),
        )
        for row in rows
    ]
    return markdown.table(("kind", "clip", "copy", "file", "file of the copy", "distance (of 256 bits)"), lines)


_MEDIA = f"""
    WITH chosen AS (
        SELECT clip_id, duration_ms, width, height FROM media
        WHERE status = 'ok' AND clip_id NOT IN (SELECT clip_id FROM takedowns) ORDER BY clip_id LIMIT {TILES}
    ), named AS (
        SELECT clip_id, coalesce(min(label), min(split)) AS name FROM memberships
        WHERE clip_id IN (SELECT clip_id FROM chosen) GROUP BY clip_id
    )
    SELECT clip_id, files AS file, c.duration_ms, c.width, c.height, n.name
    FROM chosen c JOIN files USING (clip_id) JOIN named n USING (clip_id) ORDER BY clip_id
"""
_SAMPLES = f"""
    WITH chosen AS (
        SELECT * FROM samples WHERE rendition = ? AND clip_id NOT IN (SELECT clip_id FROM takedowns)
        ORDER BY clip_id LIMIT {TILES}
    ), named AS (
        SELECT clip_id, coalesce(min(label), min(split)) AS name FROM memberships
        WHERE clip_id IN (SELECT clip_id FROM chosen) GROUP BY clip_id
    )
    SELECT c.*, c.frames / c.fps * 1000 AS duration_ms, h.path, n.name
    FROM chosen c JOIN shards h USING (shard) LEFT JOIN named n USING (clip_id) ORDER BY clip_id
"""
_SNAPSHOT = f"""
    WITH chosen AS (
        SELECT clip_id, rendition, coalesce(class_name, source) AS name, split FROM members
        WHERE clip_id NOT IN (SELECT clip_id FROM takedowns) ORDER BY clip_id LIMIT {TILES}
    )
    SELECT s.*, s.frames / s.fps * 1000 AS duration_ms, h.path, c.name || ' (' || c.split || ')' AS name
    FROM chosen c JOIN samples s USING (clip_id, rendition) JOIN shards h USING (shard) ORDER BY clip_id
"""
_NEIGHBOURS = f"""
    WITH own AS (
        SELECT * FROM features WHERE clip_id NOT IN (SELECT clip_id FROM takedowns)
    ), asked AS (
        SELECT clip_id AS head, arg_min(vector, start_frame) AS vector FROM own
        WHERE clip_id IN (SELECT DISTINCT clip_id FROM own ORDER BY clip_id LIMIT {TILES // COLUMNS})
        GROUP BY clip_id
    ), near AS (
        SELECT head, clip_id, min(list_cosine_distance(own.vector, asked.vector)) AS distance FROM own, asked
        GROUP BY head, clip_id
        QUALIFY row_number() OVER (PARTITION BY head ORDER BY clip_id <> head, distance, clip_id) <= {COLUMNS}
    )
    SELECT s.*, s.frames / s.fps * 1000 AS duration_ms, h.path,
           coalesce(m.class_name, m.source) || CASE WHEN clip_id = head THEN ''
               ELSE ' at ' || printf('%.3f', distance) END AS name
    FROM near JOIN members m USING (clip_id) JOIN samples s USING (clip_id, rendition) JOIN shards h USING (shard)
    ORDER BY head, clip_id <> head, distance, clip_id
"""
# The file of a clip is that of the first source that has a readable one. Pairs that agree early come first.
_PAIRS = f"""
    WITH pair AS (
        SELECT * FROM duplicate_edges
        WHERE clip_a NOT IN (SELECT clip_id FROM takedowns) AND clip_b NOT IN (SELECT clip_id FROM takedowns)
        QUALIFY row_number() OVER (
            PARTITION BY kind ORDER BY abs(coalesce(offset_ms, 0)) > {LATEST_MS}, clip_a, clip_b
        ) <= {PAIRS_A_KIND}
    ), file AS (
        SELECT m.clip_id, arg_min(files, s.priority) AS file, arg_min(s.media_root, s.priority) AS media_root,
               arg_min(m.duration_ms, s.priority) AS duration_ms
        FROM media m JOIN files USING (clip_id, source) JOIN sources s USING (source)
        WHERE m.status = 'ok' AND m.clip_id IN (SELECT clip_a FROM pair UNION ALL SELECT clip_b FROM pair)
        GROUP BY m.clip_id
    )
    SELECT kind, mean_distance, offset_ms, a, b
    FROM pair JOIN file a ON a.clip_id = clip_a JOIN file b ON b.clip_id = clip_b ORDER BY kind, clip_a, clip_b
"""


def _rows(connection: duckdb.DuckDBPyConnection, query: str, *values: str) -> list[dict[str, Any]]:
    result = connection.execute(query, list(values))
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _listed(source: Source, row: Mapping[str, Any]) -> _Tile:
    """A tile of a row of ``files``."""
    video = media_file(source.media_root, row["file"])
    return _Tile(row["clip_id"], (video, _early_ms(row["duration_ms"])), _words(row))


def _stored(store: Store, row: Mapping[str, Any]) -> _Tile:
    """A tile of a row of ``samples``: the video is a member of its tar."""
    tar = store.root / row["path"]
    try:
        with tar.open("rb") as file:
            file.seek(row["offset"] - tarfile.BLOCKSIZE)
            name = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape").name
    except (OSError, tarfile.TarError):
        name = row["clip_id"]  # decoding will find the same wrong with the tar, and its words are shown in the tile
    video = MediaFile(str(tar), name, member_offset=row["offset"])
    return _Tile(row["clip_id"], (video, _early_ms(row["duration_ms"])), _words(row))


def _picture(frame: bytes | str, clip_id: str) -> str:
    return markdown.image(frame, "jpeg", clip_id) if isinstance(frame, bytes) else frame


def _words(row: Mapping[str, Any]) -> str:
    return f"{row['name']}, {row['width']} × {row['height']}, {row['duration_ms'] / 1000:.1f} s"


def _same_time(a_ms: int, b_ms: int, offset_ms: int) -> tuple[int, int]:
    """Times in two clips that show the same, early in what they share; ``offset_ms``: time in b minus time in a."""
    first, last = max(0, -offset_ms), min(a_ms, b_ms - offset_ms)
    time_ms = first + min(max(0, last - first) // 2, LATEST_MS)
    return time_ms, time_ms + offset_ms


def _early_ms(duration_ms: float) -> int:
    return min(round(duration_ms / 2), LATEST_MS)


def _drawn(sheets: Mapping[str, Sequence[_Tile]], workers: int) -> dict[str, dg.MarkdownMetadataValue]:
    """The sheets that have tiles; all frames are decoded together, so that processes are started once."""
    frames = pictures([tile.wanted for sheet in sheets.values() for tile in sheet], workers, WIDTH_PX)
    return {
        name: markdown.tiles([(_picture(frames[tile.wanted], tile.clip_id), tile.words) for tile in sheet], COLUMNS)
        for name, sheet in sheets.items()
        if sheet
    }
