"""The made-up tables of the catalog benchmark: a data root as it is when curation and shards are done."""

import json
from pathlib import Path

import duckdb

from warehouse.connections import open_duckdb
from warehouse.schema import BY_NAME
from warehouse.store import Store, replace_file

SOURCES = {  # share of the clips, as in UnlabeledHybrid; namespace; whether its classes are labels
    "kinetics400": (0.18, "youtube", True),
    "kinetics600": (0.13, "youtube", True),
    "kinetics700": (0.18, "youtube", True),
    "something_something_v2": (0.13, "something_something_v2", False),
    "webvid": (0.19, "webvid", False),
    "own_videos": (0.19, "own_videos", False),
}
LABELLED = tuple(name for name, (_, _, labelled) in SOURCES.items() if labelled)
CLASSES, CLIPS_A_SHARD = 400, 440
COLLECTIONS = {  # sources and splits
    "unlabeled_hybrid": (tuple(SOURCES), ("train",)),
    "labeled_hybrid": (LABELLED, ("train", "val")),
    "kinetics400": (("kinetics400",), ("train", "val")),
}

# One in 20 clips is in validation; one in 40 shares its video with one of these; one in 50 is a copy of the next; one
# in 100 has no file. Ids are hashes, as real ones are; native ids have the length of YouTube's.
_MADE = """
    CREATE TEMP TABLE made AS
    SELECT i, md5(i::VARCHAR) AS clip_id, source, namespace, labelled,
           left(md5('video' || (CASE WHEN i % 40 = 1 THEN i - 1 ELSE i END)), 11) AS native_id,
           CASE WHEN i % 40 = 1 THEN 20000 ELSE 0 END AS start_ms,
           CASE WHEN i % 20 = 0 THEN 'val' ELSE 'train' END AS split,
           hash(i) % {classes} AS class, hash(i + 1000000007) % 1000 AS dice, i % 100 = 7 AS missing,
           CASE WHEN i % 40 = 1 THEN 'protected_split' WHEN i % 50 = 2 THEN 'duplicate' END AS repeated,
           source || '-np256-' || printf('%05d', i // {clips_a_shard}) AS shard
    FROM range({clips}) r(i) JOIN shares ON i >= first AND i < beyond
"""
_TABLES = {
    "clips": "SELECT clip_id, namespace, native_id, start_ms, start_ms + 10000 AS end_ms",
    "memberships": """SELECT clip_id, source, split, CASE WHEN labelled THEN 'class ' || class END AS label,
        source || '.csv' AS annotation_file, i + 1 AS annotation_row, 'licence of ' || namespace AS licence""",
    "files": """SELECT clip_id, source, clip_id || '.mp4' AS path, NULL AS member, NULL AS member_offset,
        NULL AS from_ms, NULL AS to_ms, NULL AS frame_rate, NULL AS first_frame, NULL AS frame_count,
        CASE WHEN NOT missing THEN 600000 + dice * 100 END AS bytes, CASE WHEN NOT missing THEN i END AS modified_ns""",
    "media": """SELECT clip_id, source, CASE WHEN missing THEN 'missing' ELSE 'ok' END AS status,
        CASE WHEN missing THEN 'missing_file' END AS error_class, NULL AS detail, 600000 + dice * 100 AS bytes,
        md5('file' || i) AS listed, sha256(i::VARCHAR) AS sha256, 'mp4' AS container, 'h264' AS codec,
        'yuv420p' AS pixel_format, CASE WHEN dice < 600 THEN 340 ELSE 1280 END AS width,
        CASE WHEN dice < 600 THEN 256 ELSE 720 END AS height, 0 AS rotation, false AS size_changes, 30.0 AS fps,
        false AS variable_rate, 250 + dice % 100 AS frames, 250 + dice % 100 AS declared_frames,
        CASE WHEN NOT missing THEN (250 + dice % 100) * 1000 // 30 END AS duration_ms, true AS has_audio,
        590000 AS video_bytes, md5('packets' || i) AS packet_hash, dice / 5000 AS motion, 0.4 AS brightness,
        1.0 AS picture_share""",
    "packing": "SELECT shard, i % {clips_a_shard} AS position, clip_id, source, 'np256' AS rendition",
    "samples": """SELECT clip_id, source, shard, (i % {clips_a_shard}) * 600064 + 512 AS "offset",
        500000 + dice * 100 AS size, 'np256' AS rendition, sha256('stored' || i) AS sha256, 'h264' AS codec,
        340 AS width, 256 AS height, 30.0 AS fps, 250 + dice % 100 AS frames""",
}
_WHOLE = {
    "duplicate_edges": """SELECT least(a.clip_id, b.clip_id) AS clip_a, greatest(a.clip_id, b.clip_id) AS clip_b,
        'near' AS kind, 40 AS inliers, 0.9 AS coverage, 6.0 AS mean_distance, 0 AS offset_ms
        FROM made a JOIN made b ON b.i = a.i + 1 WHERE a.i % 50 = 2""",
    "duplicate_clusters": """SELECT clip_id, min(clip_id) OVER (PARTITION BY (i - 2) // 50) AS cluster_id,
        min(clip_id) OVER (PARTITION BY (i - 2) // 50) AS canonical_id FROM made WHERE i % 50 IN (2, 3)""",
    "labels": """SELECT clip_id, 'kinetics' AS taxonomy, class AS class_id, 'class ' || class AS class_name, source
        FROM made WHERE labelled ORDER BY clip_id""",
    "classes": "SELECT 'kinetics' AS taxonomy, i AS class_id, 'class ' || i AS class_name FROM range({classes}) r(i)",
}


def make_up(work: Path, clips: int) -> None:
    """Write a configuration and the Parquet files of a data root with ``clips`` clips below ``work``."""
    replace_file(work / "sources.toml", _toml().encode())
    store, firsts, first = Store(work / "data"), [], 0
    for place, (source, (share, namespace, labelled)) in enumerate(SOURCES.items()):
        beyond = clips if place == len(SOURCES) - 1 else first + round(share * clips)
        firsts.append((source, namespace, labelled, first, beyond))
        first = beyond
    numbers = {"clips": clips, "classes": CLASSES, "clips_a_shard": CLIPS_A_SHARD}
    with open_duckdb() as con:
        con.execute("CREATE TEMP TABLE shares (source TEXT, namespace TEXT, labelled BOOL, first INT, beyond INT)")
        con.executemany("INSERT INTO shares VALUES (?, ?, ?, ?, ?)", firsts)
        con.execute(_MADE.format(**numbers))
        for source in SOURCES:
            for table, query in _TABLES.items():
                stored = "AND NOT missing AND repeated IS NULL" if table in ("packing", "samples") else ""
                _write(con, store, table, f"{query} FROM made WHERE source = '{source}' {stored}".format(**numbers),
                       source)  # fmt: skip
            shards = f"""SELECT shard, source, 'np256' AS rendition,
                'shards/' || source || '/' || shard || '.tar' AS path,
                count(*) AS samples, count(*) * 600064 AS bytes, sha256(shard) AS sha256
                FROM made WHERE source = '{source}' AND NOT missing AND repeated IS NULL GROUP BY shard, source"""
            _write(con, store, "shards", shards, source)
        for table, query in _WHOLE.items():
            _write(con, store, table, query.format(**numbers))
        decided = " UNION ALL ".join(
            f"""SELECT '{name}' AS collection, clip_id, source, split, reason = 'kept' AS keep, reason,
            NULL AS other_clip_id, 3 AS rule_version FROM (SELECT *, CASE WHEN missing THEN 'missing_file'
            WHEN split NOT IN ({_listed(splits)}) THEN 'split_not_taken' ELSE coalesce(repeated, 'kept') END AS reason
            FROM made WHERE source IN ({_listed(sources)}))"""
            for name, (sources, splits) in COLLECTIONS.items()
        )
        _write(con, store, "decisions", decided)
    store.write("collections", [
        {"collection": name, "splits": list(splits), "leakage": "protect",
         "taxonomy": None if name == "unlabeled_hybrid" else "kinetics"}
        for name, (_, splits) in COLLECTIONS.items()
    ])  # fmt: skip
    store.write("sources", [
        {"source": name, "kind": "folder", "namespace": namespace, "media_root": "videos", "stride": 4,
         "licence": f"licence of {namespace}", "priority": place}
        for place, (name, (_, namespace, _)) in enumerate(SOURCES.items())
    ])  # fmt: skip


def _write(con: duckdb.DuckDBPyConnection, store: Store, table: str, query: str, part: str | None = None) -> None:
    columns = ", ".join(f'"{name}"' for name in BY_NAME[table].schema.names)
    store.write(table, con.execute(f"SELECT {columns} FROM ({query})").to_arrow_reader(), part)


def _listed(texts: tuple[str, ...]) -> str:
    return ", ".join(f"'{text}'" for text in texts)


def _toml() -> str:
    head = """
[reelhouse]
data_root = "data"

[training]
preset = "smoke"
pretrain = "unlabeled_hybrid"
post_pretrain = "labeled_hybrid"
finetune = "kinetics400"

[collections.unlabeled_hybrid]
splits = ["train"]

[collections.labeled_hybrid]
splits = ["train", "val"]
taxonomy = "kinetics"

[collections.kinetics400]
splits = ["train", "val"]
taxonomy = "kinetics"

[taxonomies.kinetics]
"""
    source = """
[sources.{name}]
kind = "folder"
media_root = "videos"
annotations = "clips.csv"
namespace = "{namespace}"
collections = {collections}
stride = 4
licence = "licence of {namespace}"
"""
    return head + "".join(
        source.format(name=name, namespace=namespace, collections=json.dumps(
            [collection for collection, (sources, _) in COLLECTIONS.items() if name in sources]))
        for name, (_, namespace, _) in SOURCES.items()
    )  # fmt: skip
