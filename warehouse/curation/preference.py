"""Which of two copies is to be preferred: one stated order for all clips."""

from collections.abc import Collection, Mapping

import duckdb
import pyarrow as pa

# The readable file of each clip that stands for it: of the source with the lowest priority number.
BEST_FILE = """
    SELECT clip_id, arg_min(source, priority) AS source, min(priority) AS priority,
           arg_min(width::BIGINT * height, priority) AS pixels, arg_min(duration_ms, priority) AS duration_ms,
           arg_min(packet_hash, priority) AS packet_hash
    FROM media JOIN priority USING (source) WHERE status = 'ok' GROUP BY clip_id
"""

# People write "none stated", "unknown"; a NULL or an empty text says as little.
_STATED = "(trim(licence) <> '' AND NOT regexp_matches(lower(trim(licence)), '^(none|unknown|unstated)'))"


def preference(
    memberships: pa.Table, media: pa.Table, priority: Mapping[str, int], protected: Collection[str]
) -> dict[str, int]:
    """Rank every clip of ``memberships``: of two copies the one with the lower rank is to be preferred.

    The order, first to last: readable; protected (validation and test); labelled; source priority (of the
    sources that have a readable file, if any); whether a source states a licence for the clip; pixels of a frame;
    length; clip id.

    Args:
        memberships, media: the tables, all sources together.
        priority: source name → position in sources.toml.
        protected: ids of the clips that an evaluation uses.
    """
    with duckdb.connect() as con:
        con.register("memberships", memberships.select(["clip_id", "source", "label", "licence"]))
        wanted = ["clip_id", "source", "status", "width", "height", "duration_ms", "packet_hash"]
        con.register("media", media.select(wanted))
        register_sources(con, priority)
        con.register("protected", pa.table({"clip_id": pa.array(sorted(protected), pa.string())}))
        ranked = con.sql(f"""
            WITH member AS (
                SELECT clip_id, bool_or(label IS NOT NULL) AS labelled, min(priority) AS priority,
                       bool_or(coalesce({_STATED}, false)) AS licensed
                FROM memberships JOIN priority USING (source) GROUP BY clip_id
            )
            SELECT clip_id, row_number() OVER (ORDER BY
                best.clip_id IS NULL, protected.clip_id IS NULL, NOT labelled,
                coalesce(best.priority, member.priority), NOT licensed, pixels DESC NULLS LAST,
                duration_ms DESC NULLS LAST, clip_id) - 1
            FROM member LEFT JOIN ({BEST_FILE}) best USING (clip_id) LEFT JOIN protected USING (clip_id)
        """).fetchall()
    return dict(ranked)


def register_sources(con: duckdb.DuckDBPyConnection, priority: Mapping[str, int]) -> None:
    """Give ``con`` the table ``priority``: ``source`` and its ``priority``."""
    sources = {"source": pa.array(priority, pa.string()), "priority": pa.array(priority.values(), pa.int32())}
    con.register("priority", pa.table(sources))
