"""All that the catalog knows of one clip: where it came from, why it is in or out, where it lies, who has seen it."""

import json
from collections.abc import Sequence
from typing import Any

import duckdb

History = dict[str, Any]

# Each is asked with $clip; a row of the answer becomes a dictionary. Whole values of many clips are never read: each
# condition is on the clip id alone.
_QUESTIONS = {
    "clip": "SELECT * FROM clips WHERE clip_id = $clip",
    "taken_down": "SELECT * EXCLUDE (clip_id) FROM takedowns WHERE clip_id = $clip",
    "listed": """
        SELECT m.* EXCLUDE (clip_id) FROM memberships m JOIN sources s USING (source)
        WHERE m.clip_id = $clip ORDER BY s.priority, m.split
    """,
    "files": """
        SELECT f.source, s.media_root, f.path, f.member, m.status, m.error_class, m.detail, m.codec, m.width, m.height,
               m.fps, m.frames, m.duration_ms, m.sha256
        FROM files f JOIN sources s USING (source) LEFT JOIN media m ON m.clip_id = f.clip_id AND m.source = f.source
        WHERE f.clip_id = $clip ORDER BY s.priority
    """,
    "labels": "SELECT taxonomy, class_id, class_name FROM labels WHERE clip_id = $clip ORDER BY taxonomy",
    "copies": """
        SELECT other AS clip_id, list(DISTINCT kind ORDER BY kind) AS kinds,
               any_value(c.namespace || ':' || c.native_id) AS video,
               (SELECT list(DISTINCT source ORDER BY source) FROM memberships WHERE clip_id = other) AS sources,
               other IN (SELECT clip_id FROM takedowns) AS taken_down
        FROM (SELECT clip_b AS other, kind FROM duplicate_edges WHERE clip_a = $clip
              UNION ALL SELECT clip_a, kind FROM duplicate_edges WHERE clip_b = $clip)
        JOIN clips c ON c.clip_id = other GROUP BY other ORDER BY other
    """,
    "decisions": """
        SELECT collection, split, source, keep, reason, other_clip_id FROM decisions
        WHERE clip_id = $clip ORDER BY collection, split
    """,
    "snapshots": """
        SELECT c.snapshot_id, s.collection, s.created, c.split, c.position, c.class_name, c.weight
        FROM snapshot_clips c JOIN snapshots s USING (snapshot_id)
        WHERE c.clip_id = $clip ORDER BY s.created, c.position
    """,
    "stored": """
        SELECT p.source, p.shard, h.path, p.rendition, s.offset, s.size, s.sha256, s.codec, s.width, s.height, s.frames
        FROM packing p LEFT JOIN samples s ON s.clip_id = p.clip_id AND s.rendition = p.rendition
        LEFT JOIN shards h ON h.shard = s.shard
        WHERE p.clip_id = $clip ORDER BY p.rendition
    """,
    "runs": """
        SELECT r.run_id, r.stage, r.snapshot_id, s.collection, c.split, r.status, r.started, r.finished, r.config,
               coalesce(r.started >= t.taken_at, false) AS left_out
        FROM snapshot_clips c JOIN runs r USING (snapshot_id) JOIN snapshots s USING (snapshot_id)
        LEFT JOIN takedowns t ON t.clip_id = c.clip_id
        WHERE c.clip_id = $clip ORDER BY r.started, r.run_id
    """,
    "checkpoints": """
        SELECT l.checkpoint, l.run_id, list(DISTINCT l.via_run_id ORDER BY l.via_run_id) AS seen_in
        FROM lineage l WHERE l.clip_id = $clip GROUP BY l.checkpoint, l.run_id ORDER BY l.checkpoint
    """,
}


def history(connection: duckdb.DuckDBPyConnection, clip_id: str) -> History:
    """What the catalog knows of a clip, by question.

    Returns:
        ``clip`` and ``taken_down`` (``None`` if it is not) as one row each; lists of rows: ``listed``, ``files``,
        ``labels``, ``copies``, ``decisions``, ``snapshots``, ``stored`` (its places in shards; ``offset`` is ``None``
        where one is planned and not written), ``trained_by``, ``evaluated_by``, ``extracted_by`` (runs that have
        seen it: to learn, to be scored, for features), and
        ``checkpoints`` that have, themselves or by descent (``seen_in``: the runs).
    """
    found: History = {name: _rows(connection, question, clip_id) for name, question in _QUESTIONS.items()}
    [found["clip"]] = found["clip"]
    found["taken_down"] = next(iter(found["taken_down"]), None)
    trained, evaluated, extracted = [], [], []
    for run in found.pop("runs"):
        settings, left_out = json.loads(run.pop("config")), run.pop("left_out")
        if left_out:
            continue
        if run["stage"] == "evaluation" and settings["split"] == run["split"]:
            evaluated.append(run)
        elif run["stage"] == "features":
            extracted.append(run)
        elif run["stage"] != "evaluation" and run["split"] == "train":
            trained.append(run)
    return found | {"trained_by": trained, "evaluated_by": evaluated, "extracted_by": extracted}


def _rows(connection: duckdb.DuckDBPyConnection, question: str, clip_id: str) -> Sequence[dict[str, Any]]:
    result = connection.execute(question, {"clip": clip_id})
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
