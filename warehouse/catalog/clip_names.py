"""The ways to name a clip on a command line: its id, the beginning of it, or ``namespace:native_id``."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

SHOWN = 5
"""Clips listed of those that one name could mean."""


class ClipNameError(RuntimeError):
    """Names that mean no clip of the catalog, or more than one."""


def resolve(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> list[str]:
    """The clip id of each name, in their order.

    Args:
        connection: to the catalog.
        names: clip ids, unique beginnings of clip ids, or ``namespace:native_id`` where that video is one clip.

    Raises:
        ClipNameError: lists all names that mean no clip, or several, and of these the clips.
    """
    connection.register("named", pa.table({"name": pa.array(dict.fromkeys(names), pa.string())}))
    rows = connection.execute(
        """
        WITH whole AS (
            SELECT name, clip_id FROM named JOIN clips ON clip_id = name
            UNION
            SELECT name, clip_id FROM named JOIN clips ON name = namespace || ':' || native_id
        ), meant AS (
            SELECT name, clip_id FROM whole
            UNION
            SELECT name, clip_id FROM (FROM named ANTI JOIN whole USING (name)) JOIN clips ON starts_with(clip_id, name)
            WHERE name <> ''
        )
        SELECT name, count(*), list(clip_id ORDER BY start_ms, clip_id)[:$shown],
               list(namespace || ':' || native_id || CASE WHEN start_ms IS NULL THEN ''
                    ELSE format(' {:.3f} to {:.3f} s', start_ms / 1000, end_ms / 1000) END
                    ORDER BY start_ms, clip_id)[:$shown]
        FROM meant JOIN clips USING (clip_id) GROUP BY name
        """,
        {"shown": SHOWN},
    ).fetchall()
    connection.unregister("named")
    found = {name: ids for name, _, ids, _ in rows}
    several = {name: (count, ids, videos) for name, count, ids, videos in rows if count > 1}
    problems = [f"{name!r}: no such clip" for name in dict.fromkeys(names) if name not in found]
    for name, (count, ids, videos) in several.items():
        listed = [f"  {clip}  {video}" for clip, video in zip(ids, videos, strict=True)]
        listed += [f"  and {count - SHOWN} more"] if count > SHOWN else []
        problems.append("\n".join([f"{name!r} means {count} clips:", *listed]))
    if problems:
        raise ClipNameError(
            "\n".join(problems)
            + "\nA clip is named by its id, the beginning of it, or namespace:native_id (table `clips`). One listed "
            "since the catalog was built is known once `catalog` has been materialised."
        )
    return [found[name][0] for name in names]
