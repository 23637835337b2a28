"""Duplicates: pairs of clips with the same content, their clusters, and which copy to prefer.

A ladder of tiers, from certain and cheap to dear: the same video at overlapping times, the same bytes, the same
demuxed packets, the same pictures (:mod:`warehouse.curation.perceptual`). The first is reported beside the others;
of the rest a pair is reported by the first tier that finds it. Everything is found for all sources together.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import duckdb
import pyarrow as pa

from warehouse.curation import perceptual
from warehouse.schema import BY_NAME

GROUP_CAP = 32
"""Clips with equal bytes or packets that are all paired; in a larger group each is paired with the preferred alone."""

_END_OF_TIME_MS = 2**62


def preference(
    memberships: pa.Table, media: pa.Table, priority: Mapping[str, int], protected: Collection[str]
) -> dict[str, int]:
    """Rank every clip of ``memberships``: of two copies the one with the lower rank is to be preferred.

    The order, first to last: readable; protected (validation and test); labelled; source priority (of the
    sources that have a readable file, if any); pixels of a frame; length; clip id.

    Args:
        memberships, media: the tables, all sources together.
        priority: source name → position in sources.toml.
        protected: ids of the clips that an evaluation uses.
    """
    with duckdb.connect() as con:
        _register(con, memberships=memberships, media=media)
        _register_sources(con, priority, protected)
        ranked = con.sql(f"""
            WITH member AS (
                SELECT clip_id, bool_or(label IS NOT NULL) AS labelled, min(priority) AS priority
                FROM memberships JOIN priority USING (source) GROUP BY clip_id
            )
            SELECT clip_id, row_number() OVER (ORDER BY
                best.clip_id IS NULL, protected.clip_id IS NULL, NOT labelled,
                coalesce(best.priority, member.priority), pixels DESC NULLS LAST,
                duration_ms DESC NULLS LAST, clip_id) - 1
            FROM member LEFT JOIN ({_BEST_FILE}) best USING (clip_id) LEFT JOIN protected USING (clip_id)
        """).fetchall()
    return dict(ranked)


def find_duplicates(
    clips: pa.Table,
    memberships: pa.Table,
    media: pa.Table,
    frame_hashes: pa.Table,
    *,
    priority: Mapping[str, int],
    protected: Collection[str],
) -> tuple[pa.Table, pa.Table]:
    """Tables ``duplicate_edges`` and ``duplicate_clusters`` from the tables of all sources together.

    Args:
        clips, memberships, media, frame_hashes: the tables. Only files with status ``ok`` are compared; a clip with
            several is compared by the pictures of the one whose source has the lowest priority number.
        priority: source name → position in sources.toml.
        protected: ids of the clips that an evaluation uses; they are preferred to all others.
    """
    rank = preference(memberships, media, priority, protected)
    with duckdb.connect() as con:
        _register(con, clips=clips, media=media, frame_hashes=frame_hashes)
        _register_sources(con, priority, protected)
        con.register("rank", pa.table({"clip_id": pa.array(rank, pa.string()), "rank": list(rank.values())}))
        con.execute(f"CREATE TEMP TABLE best_file AS {_BEST_FILE}")
        exact = _equal_pairs(con, "sha256")
        edges = _overlaps(con) + [_edge(a, b, "bytes") for a, b in sorted(exact)]
        packets = _equal_pairs(con, "packet_hash") - exact
        edges += [_edge(a, b, "packets") for a, b in sorted(packets)]
        edges += _perceptual_edges(con, rank, exact | packets)
    schema = BY_NAME["duplicate_edges"].schema
    edges.sort(key=lambda edge: (edge["clip_a"], edge["clip_b"], edge["kind"]))
    return pa.Table.from_pylist(edges, schema=schema), clusters(edges, rank)


def clusters(edges: Iterable[Mapping[str, Any]], rank: Mapping[str, int]) -> pa.Table:
    """Table ``duplicate_clusters``: connected components, and for each clip the preferred of itself and its neighbours.

    The canonical clip has a verified edge to the clip it stands for: two clips that are only connected through a
    third one never stand for each other.
    """
    parent: dict[str, str] = {}
    neighbours: dict[str, set[str]] = defaultdict(set)

    def root(clip: str) -> str:
        while parent.setdefault(clip, clip) != clip:
            parent[clip] = clip = parent[parent[clip]]
        return clip

    for edge in edges:
        a, b = edge["clip_a"], edge["clip_b"]
        neighbours[a].add(b)
        neighbours[b].add(a)
        first, second = sorted((root(a), root(b)))
        parent[second] = first  # the smaller id stays the root, so the root is the smallest of all
    rows = []
    for clip in sorted(neighbours):
        canonical = min((clip, *neighbours[clip]), key=rank.__getitem__)
        rows.append({"clip_id": clip, "cluster_id": root(clip), "canonical_id": canonical})
    return pa.Table.from_pylist(rows, schema=BY_NAME["duplicate_clusters"].schema)


# The readable file of each clip that stands for it: of the source with the lowest priority number.
_BEST_FILE = """
    SELECT clip_id, arg_min(source, priority) AS source, min(priority) AS priority,
           arg_min(width::BIGINT * height, priority) AS pixels, arg_min(duration_ms, priority) AS duration_ms,
           arg_min(packet_hash, priority) AS packet_hash
    FROM media JOIN priority USING (source) WHERE status = 'ok' GROUP BY clip_id
"""


def _register(con: duckdb.DuckDBPyConnection, **tables: pa.Table) -> None:
    for name, table in tables.items():
        con.register(name, table)


def _register_sources(con: duckdb.DuckDBPyConnection, priority: Mapping[str, int], protected: Collection[str]) -> None:
    sources = {"source": pa.array(priority, pa.string()), "priority": pa.array(priority.values(), pa.int32())}
    con.register("priority", pa.table(sources))
    con.register("protected", pa.table({"clip_id": pa.array(sorted(protected), pa.string())}))


def _edge(a: str, b: str, kind: str) -> dict[str, Any]:
    return {"clip_a": a, "clip_b": b, "kind": kind}


def _overlaps(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Clips of the same video whose intervals overlap; coverage is the share of the shorter interval (NULL: whole)."""
    rows = con.sql(f"""
        WITH interval_of AS (
            SELECT DISTINCT clip_id, namespace, native_id, coalesce(start_ms, 0) AS s,
                   coalesce(end_ms, {_END_OF_TIME_MS}) AS e
            FROM clips
        )
        SELECT a.clip_id, b.clip_id, (least(a.e, b.e) - greatest(a.s, b.s)) / least(a.e - a.s, b.e - b.s), a.s - b.s
        FROM interval_of a JOIN interval_of b
          ON a.namespace = b.namespace AND a.native_id = b.native_id AND a.clip_id < b.clip_id
         AND a.s < b.e AND b.s < a.e
    """).fetchall()
    return [
        _edge(a, b, "overlap") | {"coverage": coverage, "offset_ms": offset} for a, b, coverage, offset in rows
    ]


def _equal_pairs(con: duckdb.DuckDBPyConnection, column: str) -> set[tuple[str, str]]:
    """Pairs of clips, smaller id first, of which readable files agree in ``column`` (see ``GROUP_CAP``)."""
    rows = con.sql(f"""
        WITH member AS (
            SELECT DISTINCT {column} AS key, clip_id, rank
            FROM media JOIN rank USING (clip_id) WHERE status = 'ok' AND {column} IS NOT NULL
        ), placed AS (
            SELECT *, row_number() OVER (PARTITION BY key ORDER BY rank) AS place,
                   count(*) OVER (PARTITION BY key) AS members
            FROM member
        )
        SELECT DISTINCT least(x.clip_id, y.clip_id), greatest(x.clip_id, y.clip_id)
        FROM placed x JOIN placed y
          ON x.key = y.key AND x.place < y.place AND (x.members <= {GROUP_CAP} OR x.place = 1)
    """).fetchall()
    return set(rows)


def _perceptual_edges(
    con: duckdb.DuckDBPyConnection, rank: Mapping[str, int], known: Collection[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Verified pairs that are not ``known``. Of clips with equal packets one is compared and its pairs hold for all."""
    by_packets: dict[str, list[str]] = defaultdict(list)
    durations: dict[str, int] = {}
    for clip, packet_hash, duration in con.sql(
        "SELECT clip_id, coalesce(packet_hash, clip_id), coalesce(duration_ms, 0) FROM best_file JOIN rank USING "
        "(clip_id) ORDER BY rank"
    ).fetchall():
        by_packets[packet_hash].append(clip)
        durations[clip] = duration
    groups = {rank[members[0]]: members for members in by_packets.values()}
    con.register("compared", pa.table({"clip": pa.array(groups, pa.int32()),
                                       "clip_id": pa.array([g[0] for g in groups.values()], pa.string())}))  # fmt: skip
    frames = con.sql(f"""
        SELECT clip, variant, t_ms, h0, h1, h2, h3
        FROM frame_hashes JOIN best_file USING (clip_id, source) JOIN compared USING (clip_id)
        WHERE quality >= {perceptual.MIN_QUALITY}
    """)
    edges = []
    for match in perceptual.find_matches(frames, con):
        for x, y in _members(groups[match.a], groups[match.b]):
            a, b, sign = (x, y, 1) if x < y else (y, x, -1)
            if (a, b) in known:
                continue
            lengths = sorted((durations[a], durations[b]))
            similar = lengths[0] >= perceptual.NEAR_LENGTH * lengths[1]
            kind = "mirrored" if match.mirrored else "near" if similar else "contained"
            edges.append(_edge(a, b, kind) | {
                "inliers": match.inliers, "coverage": match.coverage, "mean_distance": match.mean_distance,
                "offset_ms": sign * match.offset_ms})  # fmt: skip
    return edges


def _members(first: list[str], second: list[str]) -> list[tuple[str, str]]:
    """All pairs of two groups of equal clips, or if they are too many each clip with the other group's preferred."""
    if len(first) * len(second) <= GROUP_CAP**2:
        return [(x, y) for x in first for y in second]
    return [(first[0], y) for y in second] + [(x, second[0]) for x in first[1:]]
