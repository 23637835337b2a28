"""Duplicates: verified pairs of clips with the same content.

A ladder of tiers, from certain and cheap to dear: the same video at overlapping times, the same bytes, the same
demuxed packets, the same pictures (:mod:`warehouse.curation.perceptual`). The first is reported beside the others;
of the rest a pair is reported by the first tier that finds it. Everything is found for all sources together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from warehouse.connections import open_duckdb
from warehouse.curation import perceptual, preference
from warehouse.curation.candidates import FLIPPED, unpack
from warehouse.curation.clusters import clusters
from warehouse.curation.preference import BEST_FILE, register_ranks, register_sources
from warehouse.schema import BY_NAME

GROUP_CAP = 32
"""Clips with equal bytes or packets that are all paired; in a larger group each is paired with the preferred clip of
every source, so that one stands for it also in a collection that some sources do not feed."""

NEAR_LENGTH = 0.8
"""Clips whose lengths differ by less than this ratio are ``near``, others ``contained``."""

MEMORY = "2GB"
"""What DuckDB may take; beyond, it writes to the folder of the search's memory."""

CLIP_COLUMNS = ["clip_id", "namespace", "native_id", "start_ms", "end_ms"]
MEMBERSHIP_COLUMNS = preference.MEMBERSHIP_COLUMNS
MEDIA_COLUMNS = [*preference.MEDIA_COLUMNS, "sha256"]
_END_OF_TIME_MS = 2**62


@dataclass(frozen=True)
class Duplicates:
    """Tables ``duplicate_edges`` and ``duplicate_clusters``, and how many pairs were compared frame by frame."""

    edges: pa.Table
    clusters: pa.Table
    compared: int


def find_duplicates(
    clips: pa.Table,
    memberships: pa.Table,
    media: pa.Table,
    hash_files: Mapping[str, tuple[Path, str]],
    memory: Path,
    *,
    priority: Mapping[str, int],
) -> Duplicates:
    """Find all pairs in the tables of all sources together.

    Args:
        clips, memberships, media: the tables, or the columns of them that are named above. Only files with status
            ``ok`` are compared; a clip with several is compared by the pictures of the one whose source has the
            lowest priority number.
        hash_files: for each source its part of ``frame_hashes``, and the fingerprint of that file's content.
        memory: folder for what the search remembers; it may be deleted at any time.
        priority: source name → position in sources.toml.
    """
    preferred = preference.preference(memberships, media, priority)
    memory.mkdir(parents=True, exist_ok=True)
    with open_duckdb(memory_limit=MEMORY, temp_directory=str(memory / "duckdb")) as con:
        con.register("clips", clips.select(CLIP_COLUMNS))
        con.register("media", media.select(MEDIA_COLUMNS))
        register_sources(con, priority)
        register_ranks(con, "ranked", preferred)
        con.execute(_EDGES)
        con.execute(_OVERLAPS)
        for column, kind in (("sha256", "bytes"), ("packet_hash", "packets")):
            con.execute(_equal_pairs(column, kind))
        con.execute(_GROUPS)
        # A million rows of text, of no more use when the search needs all memory for its hashes.
        for name in ("clips", "media", "ranked"):
            con.unregister(name)
        del clips, memberships, media
        compared = _compared(con, tuple(sorted(priority, key=priority.__getitem__)))
        found = perceptual.find_matches(compared, hash_files, memory)
        con.register("matches", _match_table(found.matches))
        con.execute(_MATCHED_PAIRS)
        edges = con.sql("FROM edges ORDER BY clip_a, clip_b, kind").to_arrow_table()
    edges = edges.cast(BY_NAME["duplicate_edges"].schema)
    return Duplicates(edges, clusters(edges, preferred), found.compared)


_EDGES = """
    CREATE TABLE edges (clip_a VARCHAR, clip_b VARCHAR, kind VARCHAR, inliers INTEGER, coverage DOUBLE,
                        mean_distance DOUBLE, offset_ms BIGINT)
"""

# Clips of the same video whose intervals overlap; coverage is the share of the shorter interval.
_OVERLAPS = f"""
    INSERT INTO edges (clip_a, clip_b, kind, coverage, offset_ms)
    WITH interval_of AS (
        SELECT DISTINCT clip_id, namespace, native_id, coalesce(start_ms, 0) AS s,
               coalesce(end_ms, {_END_OF_TIME_MS}) AS e
        FROM clips
    )
    SELECT a.clip_id, b.clip_id, 'overlap', (least(a.e, b.e) - greatest(a.s, b.s)) / least(a.e - a.s, b.e - b.s),
           a.s - b.s
    FROM interval_of a JOIN interval_of b
      ON a.namespace = b.namespace AND a.native_id = b.native_id AND a.clip_id < b.clip_id AND a.s < b.e AND b.s < a.e
"""


def _equal_pairs(column: str, kind: str) -> str:
    """Pairs of clips of which readable files agree in ``column``, unless an exact tier has them already."""
    return f"""
        INSERT INTO edges (clip_a, clip_b, kind)
        WITH member AS (
            SELECT {column} AS key, clip_id, any_value(rank) AS rank, arg_min(source, priority) AS source
            FROM media JOIN ranked USING (clip_id) JOIN priority USING (source)
            WHERE status = 'ok' AND {column} IS NOT NULL
            GROUP BY ALL
        ), placed AS (
            SELECT *, row_number() OVER (PARTITION BY key, source ORDER BY rank) AS place,
                   count(*) OVER (PARTITION BY key) AS members
            FROM member
        ), small AS (
            FROM placed WHERE members BETWEEN 2 AND {GROUP_CAP}
        ), pairs AS (
            SELECT x.clip_id AS x, y.clip_id AS y FROM small x JOIN small y USING (key) WHERE x.clip_id < y.clip_id
            UNION
            SELECT least(x.clip_id, y.clip_id), greatest(x.clip_id, y.clip_id)
            FROM (FROM placed WHERE members > {GROUP_CAP} AND place = 1) x
            JOIN (FROM placed WHERE members > {GROUP_CAP}) y USING (key) WHERE x.clip_id <> y.clip_id
        )
        SELECT x, y, '{kind}' FROM pairs
        ANTI JOIN (FROM edges WHERE kind = 'bytes') known ON known.clip_a = x AND known.clip_b = y
    """


# Of clips with equal packets one is compared, and its pairs hold for all: which one does not depend on preference, so
# that what is remembered of it stays true.
_GROUPS = f"""
    CREATE TABLE grouped AS
    WITH member AS (
        SELECT clip_id, source, rank, duration_ms,
               min(clip_id) OVER (PARTITION BY coalesce(packet_hash, clip_id)) AS compared_id
        FROM ({BEST_FILE}) JOIN ranked USING (clip_id)
    )
    SELECT *, row_number() OVER (PARTITION BY compared_id, source ORDER BY rank) AS place,
           count(*) OVER (PARTITION BY compared_id) AS members
    FROM member
"""

_MATCHED_PAIRS = f"""
    INSERT INTO edges
    WITH numbered AS (
        SELECT compared_id, row_number() OVER (ORDER BY compared_id) - 1 AS number
        FROM (SELECT DISTINCT compared_id FROM grouped)
    ), member AS (
        SELECT number, clip_id, place, members, coalesce(duration_ms, 0) AS ms
        FROM grouped JOIN numbered USING (compared_id)
    )
    SELECT least(x.clip_id, y.clip_id) AS clip_a, greatest(x.clip_id, y.clip_id) AS clip_b,
           CASE WHEN mirrored THEN 'mirrored'
                WHEN least(x.ms, y.ms) >= {NEAR_LENGTH} * greatest(x.ms, y.ms) THEN 'near' ELSE 'contained' END,
           inliers, coverage, mean_distance, CASE WHEN x.clip_id < y.clip_id THEN offset_ms ELSE -offset_ms END
    FROM matches JOIN member x ON x.number = a JOIN member y ON y.number = b
    ANTI JOIN (FROM edges WHERE kind IN ('bytes', 'packets')) known
      ON known.clip_a = least(x.clip_id, y.clip_id) AND known.clip_b = greatest(x.clip_id, y.clip_id)
    WHERE x.members * y.members <= {GROUP_CAP**2} OR x.place = 1 OR y.place = 1
"""


def _compared(con: duckdb.DuckDBPyConnection, sources: tuple[str, ...]) -> perceptual.Compared:
    """One clip of each group of equal packets; it ranks as the group's preferred."""
    columns = con.sql("""
        SELECT compared_id, any_value(source) FILTER (clip_id = compared_id) AS source, min(rank) AS rank
        FROM grouped GROUP BY compared_id ORDER BY compared_id
    """).fetchnumpy()
    names = {name: place for place, name in enumerate(sources)}
    return perceptual.Compared(
        ids=np.asarray(columns["compared_id"]).astype("S32"),
        source=np.fromiter((names[name] for name in columns["source"]), np.int16, len(columns["source"])),
        rank=np.asarray(columns["rank"]),
        sources=sources,
    )


def _match_table(matches: np.ndarray) -> pa.Table:
    a, b, how = unpack(matches["pair"])
    rest = {name: matches[name] for name in ("inliers", "coverage", "mean_distance", "offset_ms")}
    return pa.table({"a": a, "b": b, "mirrored": how == FLIPPED, **rest})
