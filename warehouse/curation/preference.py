"""Which of two copies is to be preferred: one stated order for all clips."""

from collections.abc import Mapping

import duckdb
import numpy as np
import pyarrow as pa

from warehouse.connections import open_duckdb

PROTECTED_SPLITS = ("test", "val")
"""What an evaluation uses, and training must not repeat."""

MEMBERSHIP_COLUMNS = ["clip_id", "source", "split", "label", "licence"]
MEDIA_COLUMNS = ["clip_id", "source", "status", "width", "height", "duration_ms", "packet_hash"]

# The readable file of each clip that stands for it: of the source with the lowest priority number.
BEST_FILE = """
    SELECT clip_id, arg_min(source, priority) AS source, min(priority) AS priority,
           arg_min(width::BIGINT * height, priority) AS pixels, arg_min(duration_ms, priority) AS duration_ms,
           arg_min(packet_hash, priority) AS packet_hash
    FROM media JOIN priority USING (source) WHERE status = 'ok' GROUP BY clip_id
"""

# People write "none stated", "unknown"; a NULL or an empty text says as little.
_STATED = "(trim(licence) <> '' AND NOT regexp_matches(lower(trim(licence)), '^(none|unknown|unstated)'))"


def preference(memberships: pa.Table, media: pa.Table, priority: Mapping[str, int]) -> pa.ChunkedArray:
    """The ids of all clips of ``memberships``; of two copies the one that comes first is to be preferred.

    The order, first to last: readable; protected (validation and test); labelled; source priority (of the
    sources that have a readable file, if any); whether a source states a licence for the clip; pixels of a frame;
    length; clip id.

    Args:
        memberships, media: the tables, all sources together, or their columns ``MEMBERSHIP_COLUMNS`` and
            ``MEDIA_COLUMNS``.
        priority: source name → position in sources.toml.
    """
    with open_duckdb() as con:
        con.register("memberships", memberships.select(MEMBERSHIP_COLUMNS))
        con.register("media", media.select(MEDIA_COLUMNS))
        register_sources(con, priority)
        ranked = con.sql(f"""
            WITH member AS (
                SELECT clip_id, bool_or(split IN {PROTECTED_SPLITS}) AS protected,
                       bool_or(label IS NOT NULL) AS labelled, min(priority) AS priority,
                       bool_or(coalesce({_STATED}, false)) AS licensed
                FROM memberships JOIN priority USING (source) GROUP BY clip_id
            )
            SELECT clip_id
            FROM member LEFT JOIN ({BEST_FILE}) best USING (clip_id)
            ORDER BY best.clip_id IS NULL, NOT protected, NOT labelled,
                coalesce(best.priority, member.priority), NOT licensed, pixels DESC NULLS LAST,
                duration_ms DESC NULLS LAST, clip_id
        """).to_arrow_table()
    return ranked["clip_id"]


def register_ranks(con: duckdb.DuckDBPyConnection, name: str, preferred: pa.ChunkedArray) -> None:
    """Give ``con`` a view with ``clip_id`` and its ``rank`` in :func:`preference`, 0 first."""
    con.register(name, pa.table({"clip_id": preferred, "rank": np.arange(len(preferred), dtype=np.int32)}))


def register_sources(con: duckdb.DuckDBPyConnection, priority: Mapping[str, int]) -> None:
    """Give ``con`` the table ``priority``: ``source`` and its ``priority``."""
    sources = {"source": pa.array(priority, pa.string()), "priority": pa.array(priority.values(), pa.int32())}
    con.register("priority", pa.table(sources))
