"""What storing has kept of a source's clips, and what it costs in bytes, for the UI: the table beside its shards.

However many clips there are, the pictures of a few are compared, drawn by clip id, which is a hash, in processes that
can be killed. Clips that are stored untouched are not among them: they have lost nothing.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from assets import markdown
from assets.parquet_views import parquet_views
from warehouse.config import Config, Source
from warehouse.engine import Failure, map_unordered
from warehouse.media_file import media_file
from warehouse.shards.quality import EncodedClip, PictureQuality, measure
from warehouse.store import Store

CLIPS = 8
FRAMES = 64
"""Compared of each clip, from its first: two groups of pictures of `np256`, and some 0.2 s of one core."""
SECONDS_A_CLIP = 60.0

Measured = PictureQuality | str
"""A clip's quality, or in words why it could not be measured."""


def of_shards(store: Store, config: Config, sources: Sequence[Source]) -> dict[str, dg.MarkdownMetadataValue]:
    """For each source with shards what is kept of the picture, and how large that is, by rendition.

    Clips whose source file is gone are not counted: there is nothing to compare them with.
    """
    sizes: dict[str, list[dict[str, Any]]] = {}
    drawn: dict[str, list[EncodedClip]] = {}
    for source in sources:
        with parquet_views(store, "samples", "shards", "media", "files", "takedowns", part=source.name) as connection:
            sizes[source.name] = connection.execute(_SIZES).to_arrow_table().to_pylist()
            rows = connection.execute(_DRAWN).to_arrow_table().to_pylist()
        drawn[source.name] = [_encoded(store, source, row) for row in rows]
    measured = _measured([clip for clips in drawn.values() for clip in clips], config.workers)
    return {
        source: _shown(sizes[source], [(clip, measured[clip]) for clip in drawn[source]])
        for source in sizes
        if sizes[source]
    }


# An interval of a movie and a folder of frames have no file of their own: theirs is the size of their packets.
_SIZES = """
    SELECT s.rendition, count(*) AS clips, count(*) FILTER (s.sha256 IS DISTINCT FROM m.sha256) AS encoded,
           sum(if(m.sha256 IS NULL OR m.container = 'images', m.video_bytes, m.bytes))::BIGINT AS source_bytes,
           sum(s.size)::BIGINT AS stored_bytes
    FROM samples s JOIN media m USING (clip_id)
    WHERE m.status = 'ok' AND s.clip_id NOT IN (SELECT clip_id FROM takedowns) GROUP BY s.rendition ORDER BY s.rendition
"""
# What is stored untouched has the bytes of its file.
_DRAWN = f"""
    WITH drawn AS (
        SELECT s.* FROM samples s JOIN media m USING (clip_id)
        WHERE m.status = 'ok' AND s.sha256 IS DISTINCT FROM m.sha256
            AND s.clip_id NOT IN (SELECT clip_id FROM takedowns)
        QUALIFY row_number() OVER (PARTITION BY s.rendition ORDER BY s.clip_id) <= {CLIPS}
    )
    SELECT d.clip_id, d.rendition, d.offset, d.size, d.sha256, h.path AS shard, files AS file
    FROM drawn d JOIN shards h USING (shard) JOIN files USING (clip_id) ORDER BY d.rendition, d.clip_id
"""


def _encoded(store: Store, source: Source, row: dict[str, Any]) -> EncodedClip:
    return EncodedClip(
        row["clip_id"], store.root / row["shard"], row["offset"], row["size"], row["sha256"], row["rendition"],
        source.stride, media_file(Path(source.media_root), row["file"]),
    )  # fmt: skip


def _measured(clips: Sequence[EncodedClip], workers: int) -> dict[EncodedClip, Measured]:
    found: dict[EncodedClip, Measured] = {}
    units = [[clip] for clip in clips]
    for [clip], [result] in map_unordered(partial(measure, FRAMES), units, workers=workers, timeout_s=SECONDS_A_CLIP):
        found[clip] = result.error_class if isinstance(result, Failure) else result
    return found


def _shown(sizes: Sequence[dict[str, Any]], clips: Sequence[tuple[EncodedClip, Measured]]) -> dg.MarkdownMetadataValue:
    """A column for each rendition; below, the clips that could not be measured."""
    columns = []
    for row in sizes:
        known = [q for clip, q in clips if clip.rendition == row["rendition"] and isinstance(q, PictureQuality)]
        columns.append(_of_bytes(row) | _of_pictures(known))
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, *(column.get(name) for column in columns)) for name in names]
    shown = markdown.table(("", *(row["rendition"] for row in sizes)), rows)
    failed = [(clip.clip_id, clip.media.name, quality) for clip, quality in clips if isinstance(quality, str)]
    if not failed:
        return shown
    return dg.MetadataValue.md(f"{shown.value}\n\n{markdown.table(('not measured', 'file', 'why'), failed).value}")


def _of_bytes(row: dict[str, Any]) -> dict[str, int | float]:
    return {
        "clips": row["clips"],
        "encoded": row["encoded"],
        "stored untouched": row["clips"] - row["encoded"],
        "source, MB": round(row["source_bytes"] / 1e6, 3),
        "stored, MB": round(row["stored_bytes"] / 1e6, 3),
        "stored / source": round(row["stored_bytes"] / row["source_bytes"], 3),
    }


def _of_pictures(clips: Sequence[PictureQuality]) -> dict[str, int | float]:
    """Means over clips of the means over their frames; the least is that of the worst frame. Nothing of no clip."""
    if not clips:
        return {}
    return {
        "clips compared": len(clips),
        "frames compared": sum(clip.frames for clip in clips),
        "PSNR, dB: mean": round(float(np.mean([clip.psnr for clip in clips])), 1),
        "PSNR, dB: least": round(min(clip.least_psnr for clip in clips), 1),
        "SSIM: mean": round(float(np.mean([clip.ssim for clip in clips])), 4),
        "SSIM: least": round(min(clip.least_ssim for clip in clips), 4),
    }
