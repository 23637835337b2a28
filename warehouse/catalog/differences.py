"""What is different between two snapshots: clips that came, that went, and that are otherwise than they were."""

from warehouse.catalog.membership import SnapshotError
from warehouse.catalog.parquet_files import quoted
from warehouse.connections import open_duckdb
from warehouse.store import Store

EXAMPLES = 3
"""Clips named of each kind of change in each source and split."""


def snapshot_of(store: Store, name: str) -> str:
    """The id of a snapshot, given that id or the name of a collection (its present one).

    Raises:
        SnapshotError: there is neither; names those that there are.
    """
    if name in store.parts("snapshots"):
        return name
    if rows := store.rows("collection_snapshots", name) if name in store.parts("collection_snapshots") else []:
        return str(rows[-1]["snapshot_id"])
    there_are = [", ".join(store.parts(table)) or "none" for table in ("collection_snapshots", "snapshots")]
    raise SnapshotError(
        f"{name!r} is no collection of which a snapshot has been taken ({there_are[0]}), and no snapshot "
        f"({there_are[1]}). Materialise the collection's asset, or make one: reelhouse collection create"
    )


def diff(store: Store, before: str, after: str) -> list[tuple[str, str, str, int, list[str]]]:
    """Rows (change, source, split, clips, the first ``EXAMPLES`` clip ids), sorted; none where both hold the same.

    ``before`` and ``after`` are snapshot ids. A change is ``added``, ``removed``, ``relabelled`` (a class of another
    name), or ``split``, ``weight``, ``source`` or ``stored`` (rendition or stride) where one is another; a clip may
    have several. Source and split are those of ``after``, of a removed clip those of ``before``.
    """
    with open_duckdb() as connection:
        old, new = (
            f"read_parquet({quoted(str(store.path('snapshot_clips', snapshot)))}, hive_partitioning = false)"
            for snapshot in (before, after)
        )
        return connection.execute(
            f"""
            WITH pair AS (
                SELECT clip_id, o, n FROM (SELECT clip_id, o FROM {old} o) FULL JOIN (SELECT clip_id, n FROM {new} n)
                USING (clip_id)
            ), change AS (
                SELECT clip_id, coalesce(n.source, o.source) AS source, coalesce(n.split, o.split) AS split,
                       unnest(CASE WHEN o IS NULL THEN ['added'] WHEN n IS NULL THEN ['removed'] ELSE list_filter([
                           CASE WHEN o.class_name IS DISTINCT FROM n.class_name THEN 'relabelled' END,
                           CASE WHEN o.split <> n.split THEN 'split' END,
                           CASE WHEN o.weight <> n.weight THEN 'weight' END,
                           CASE WHEN o.source <> n.source THEN 'source' END,
                           CASE WHEN (o.rendition, o.stride) <> (n.rendition, n.stride) THEN 'stored' END
                       ], lambda found: found IS NOT NULL) END) AS change
                FROM pair
            )
            SELECT change, source, split, count(*), min(clip_id, {EXAMPLES}) FROM change GROUP BY ALL
            ORDER BY change, source, split
            """
        ).fetchall()
