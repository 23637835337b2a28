"""Decisions: a clip that a source lists is kept in, or dropped from, each collection the source feeds, with a reason.

Nothing is deleted: a decision is a row, and taking it again costs no decoding. Tables come and go as Arrow; inside a
clip is its rank of preference, a number, so that a million clips are decided in memory.
"""

from collections.abc import Set

import duckdb
import numpy as np
import pyarrow as pa

from warehouse.config import Collection, Config
from warehouse.connections import open_duckdb
from warehouse.curation.preference import PROTECTED_SPLITS, register_ranks
from warehouse.schema import BY_NAME

RULE_VERSION = 3
REASONS: dict[str, str] = {
    "kept": "the clip is in the collection",
    "taken_down": "somebody has taken the clip down (`takedowns` says who, when and why)",
    "missing_file": "no source has the media file",
    "unreadable": "every media file of the clip is quarantined (`media.error_class` says why)",
    "split_not_taken": "the collection does not take this split",
    "unlabelled": "the collection is labelled and no source of it names the clip's class",
    "too_short": "shorter than the collection's `min_duration_s`",
    "too_long": "longer than the collection's `max_duration_s`",
    "too_small": "its short side has fewer pixels than the collection's `min_short_side`",
    "low_frame_rate": "fewer frames per second than the collection's `min_fps`",
    "static": "`media.motion` is below the collection's `min_motion`",
    "black": "`media.brightness` is below the collection's `min_brightness`",
    "letterboxed": "`media.picture_share` is below the collection's `min_picture_share`",
    "protected_split": "training, but the same video is in validation or test of some source",
    "video_in_training": "validation or test, but the same video is in training (rule `paper`)",
    "duplicate_of_protected": "training, but the content repeats a validation or test clip",
    "duplicate": "training, and the content repeats a clip that is kept",
}


def decide(
    config: Config,
    clips: pa.Table,
    memberships: pa.Table,
    media: pa.Table,
    edges: pa.Table,
    preferred: pa.ChunkedArray,
    taken_down: Set[str] = frozenset(),
) -> pa.Table:
    """Table ``decisions``: a row for each (collection, clip, split) that the collection's sources list.

    Every clip that is dropped as a copy has an edge to a clip that is kept or protected. A score that is NULL passes
    its threshold.

    Args:
        clips, memberships, media: the tables, all sources together; a clip with a readable file in any source is
            readable, and judged by the file of the source with the lowest priority number.
        edges: table ``duplicate_edges``.
        preferred: all clip ids, of copies the preferred first (:func:`warehouse.curation.preference.preference`).
        taken_down: ids of clips that have been taken down. They are in no collection, and no clip is a copy of one of
            them; of validation and test splits they stay protected.
    """
    schema = BY_NAME["decisions"].schema
    with open_duckdb() as con:
        for name, table in (("clips", clips), ("memberships", memberships), ("media", media), ("edges", edges)):
            con.register(name, table)
        con.register("gone", pa.table({"clip_id": pa.array(sorted(taken_down), pa.string())}))
        register_ranks(con, "by_rank", preferred)
        con.execute("CREATE TEMP VIEW ranked AS SELECT clip_id, rank AS clip FROM by_rank")
        con.register("priority", pa.table({"source": pa.array([s.name for s in config.sources], pa.string()),
                                           "priority": pa.array([s.priority for s in config.sources], pa.int32())}))
        con.execute(_FACTS)
        decided = [_decide_collection(con, config, c).cast(schema) for c in config.collections if c.sql is None]
    return pa.concat_tables([schema.empty_table(), *decided])


# Tables for all collections: `clip` is the rank of a clip; `fact` says what is known of it, `member` who lists it.
_FACTS = f"""
    CREATE TEMP TABLE clip_of AS SELECT clip, clip_id FROM ranked ORDER BY clip;
    CREATE TEMP TABLE fact AS
    WITH file AS (
        SELECT clip_id, bool_or(status = 'ok') AS readable, bool_and(status = 'missing') AS missing,
               arg_min({{'duration_ms': duration_ms, 'short_side': least(width, height), 'fps': fps, 'motion': motion,
                        'brightness': brightness, 'picture_share': picture_share}}, priority)
                   FILTER (status = 'ok') AS best
        FROM media JOIN priority USING (source) GROUP BY clip_id
    ), video AS (
        SELECT clip_id, dense_rank() OVER (ORDER BY namespace, native_id)::INTEGER AS video
        FROM (SELECT DISTINCT clip_id, namespace, native_id FROM clips)
    )
    SELECT clip, video, readable, missing, clip_id IN (SELECT clip_id FROM gone) AS taken_down, unnest(best)
    FROM ranked JOIN video USING (clip_id) LEFT JOIN file USING (clip_id);
    CREATE TEMP TABLE member AS
    SELECT clip, source, split, label IS NOT NULL AS labelled FROM memberships JOIN ranked USING (clip_id);
    CREATE TEMP TABLE protected AS
    SELECT clip, any_value(video) AS video FROM member JOIN fact USING (clip)
    WHERE split IN {PROTECTED_SPLITS} GROUP BY clip;
    CREATE TEMP TABLE copy AS
    SELECT DISTINCT least(a.clip, b.clip) AS earlier, greatest(a.clip, b.clip) AS later
    FROM edges JOIN ranked a ON a.clip_id = clip_a JOIN ranked b ON b.clip_id = clip_b
"""

# A clip once for each split; who lists it first; and why the clip alone, whatever the others are, cannot be in it.
_CANDIDATES = """
    CREATE OR REPLACE TEMP TABLE candidate AS
    WITH place AS (
        SELECT clip, split, arg_min(source, priority) AS source
        FROM member JOIN feeding USING (source) GROUP BY clip, split
    ), labelled AS (
        SELECT clip, bool_or(labelled) AS labelled FROM member JOIN feeding USING (source) GROUP BY clip
    )
    SELECT clip, split, source, video,
        CASE WHEN taken_down THEN 'taken_down'
             WHEN missing IS NULL OR missing THEN 'missing_file'
             WHEN NOT readable THEN 'unreadable'
             WHEN NOT list_contains($splits, split) THEN 'split_not_taken'
             WHEN $needs_label AND NOT labelled THEN 'unlabelled'
             WHEN duration_ms < $min_duration_ms THEN 'too_short'
             WHEN duration_ms > $max_duration_ms THEN 'too_long'
             WHEN short_side < $min_short_side THEN 'too_small'
             WHEN fps < $min_fps THEN 'low_frame_rate'
             WHEN motion < $min_motion THEN 'static'
             WHEN brightness < $min_brightness THEN 'black'
             WHEN picture_share < $min_picture_share THEN 'letterboxed' END AS reason
    FROM place JOIN labelled USING (clip) JOIN fact USING (clip)
"""

# Which protected clips training must not repeat. `protect`: all, of all sources. `paper`: not those whose video is in
# the collection's training, for of these the evaluation copy goes.
_GUARDED = {
    "protect": "CREATE OR REPLACE TEMP TABLE guarded AS SELECT clip, video FROM protected",
    "paper": """
        CREATE OR REPLACE TEMP TABLE guarded AS SELECT clip, video FROM protected
        WHERE video NOT IN (SELECT video FROM candidate WHERE split = 'train' AND reason IS NULL)
    """,
}

_AGAINST_OTHERS = """
    CREATE OR REPLACE TEMP TABLE judged AS
    WITH of_video AS (SELECT video, min(clip) AS clip FROM guarded GROUP BY video),
    in_training AS (
        SELECT video, min(clip) AS clip FROM candidate WHERE split = 'train' AND reason IS NULL GROUP BY video
    ), of_copy AS (
        SELECT clip, min(other) AS other
        FROM (SELECT earlier AS clip, later AS other FROM copy UNION ALL SELECT later, earlier FROM copy)
        WHERE other IN (SELECT clip FROM guarded) GROUP BY clip
    )
    SELECT c.clip, c.split, c.source,
        CASE WHEN c.reason IS NOT NULL THEN c.reason
             WHEN c.split = 'train' AND v.clip IS NOT NULL THEN 'protected_split'
             WHEN c.split = 'train' AND p.other IS NOT NULL THEN 'duplicate_of_protected'
             WHEN c.split <> 'train' AND g.clip IS NULL THEN 'video_in_training' END AS reason,
        CASE WHEN c.reason IS NULL AND c.split = 'train' THEN coalesce(v.clip, p.other)
             WHEN c.reason IS NULL AND g.clip IS NULL THEN t.clip END AS other
    FROM candidate c
    LEFT JOIN of_video v ON v.video = c.video
    LEFT JOIN of_copy p ON p.clip = c.clip
    LEFT JOIN guarded g ON g.clip = c.clip
    LEFT JOIN in_training t ON t.video = c.video
"""


def _decide_collection(con: duckdb.DuckDBPyConnection, config: Config, collection: Collection) -> pa.Table:
    feeding = [s for s in config.sources if collection.name in s.collections]
    con.register("feeding", pa.table({"source": pa.array([s.name for s in feeding], pa.string()),
                                      "priority": pa.array([s.priority for s in feeding], pa.int32())}))  # fmt: skip
    con.execute(_CANDIDATES, {
        "splits": list(collection.splits), "needs_label": collection.taxonomy is not None,
        "min_duration_ms": collection.min_duration_ms, "max_duration_ms": collection.max_duration_ms,
        "min_short_side": collection.min_short_side, "min_fps": collection.min_fps,
        "min_motion": collection.min_motion, "min_brightness": collection.min_brightness,
        "min_picture_share": collection.min_picture_share,
    })  # fmt: skip
    con.execute(_GUARDED[collection.leakage])
    con.execute(_AGAINST_OTHERS)
    pairs = con.execute(
        """
        WITH training AS (SELECT clip FROM judged WHERE split = 'train' AND reason IS NULL)
        SELECT later, earlier FROM copy SEMI JOIN training a ON a.clip = earlier SEMI JOIN training b ON b.clip = later
        ORDER BY later, earlier
        """
    ).fetchnumpy()
    later, earlier = repeats(pairs["later"], pairs["earlier"])
    con.register("repeated", pa.table({"clip": pa.array(later, pa.int32()), "first": pa.array(earlier, pa.int32()),
                                       "split": pa.array(["train"] * len(later), pa.string())}))  # fmt: skip
    return con.execute(
        """
        WITH decided AS (
            SELECT clip, split, source, coalesce(other, first) AS other,
                   coalesce(reason, CASE WHEN first IS NULL THEN 'kept' ELSE 'duplicate' END) AS reason
            FROM judged LEFT JOIN repeated USING (clip, split)
        )
        SELECT $collection AS collection, c.clip_id, source, split, reason = 'kept' AS keep, reason,
               o.clip_id AS other_clip_id, $version::INTEGER AS rule_version
        FROM decided JOIN clip_of c USING (clip) LEFT JOIN clip_of o ON o.clip = decided.other
        ORDER BY c.clip_id, split
        """,
        {"collection": collection.name, "version": RULE_VERSION},
    ).to_arrow_table()


def repeats(later: np.ndarray, earlier: np.ndarray) -> tuple[list[int], list[int]]:
    """The clips that repeat one that is kept, and that one, where clips are kept in the order of their numbers.

    Args:
        later, earlier: the two clips of each pair of copies, int (pairs,), sorted by ``later``, then ``earlier``.

    Returns:
        Clips that go, and for each the first clip that stays of those it has a pair with.
    """
    gone: dict[int, int] = {}
    # When a clip's pairs come up, those of every earlier clip have been seen: whether these stay is settled.
    for clip, first in zip(later.tolist(), earlier.tolist(), strict=True):
        if clip not in gone and first not in gone:
            gone[clip] = first
    return list(gone), list(gone.values())
