"""Any clip by its id: where it is stored, and its bytes by one range read."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from warehouse.catalog.build import connect
from warehouse.catalog.clip_names import resolve
from warehouse.shards.reader import read_sample
from warehouse.store import Store
from warehouse.takedown.takedowns import refuse_taken_down


class NotStoredError(RuntimeError):
    """A clip is in no shard, or in none of the rendition asked for."""


@dataclass(frozen=True)
class StoredClip:
    """The byte range that holds a clip in one rendition; ``sha256`` is that of these bytes."""

    clip_id: str
    rendition: str
    shard: Path
    offset: int
    size: int
    sha256: str


def get(store: Store, clip: str, rendition: str | None = None) -> bytes:
    """The encoded video of a clip: a look-up in the catalog and one range read, checked by SHA-256.

    Args:
        clip: clip id, the beginning of one that begins no other, or ``namespace:native_id``.
        rendition: which is preferred of a clip that is stored in several; one that is stored in one has that.

    Raises:
        CatalogError: there is no catalog.
        ClipNameError: no clip has that name, or several.
        NotStoredError: the clip is in no shard, or in several renditions of which none is the preferred.
        TakenDownError: it has been taken down.
        ShardError: the shard has other bytes than the catalog says.
    """
    with connect(store) as connection:
        found = find(connection, store, clip, rendition)
    refuse_taken_down(store, found.clip_id)
    return read_sample(found)


def find(connection: duckdb.DuckDBPyConnection, store: Store, clip: str, rendition: str | None = None) -> StoredClip:
    """Where a clip is stored; arguments and errors as of :func:`get`."""
    rows = _places(connection, clip)
    if not rows:
        clip = _named(connection, clip) or resolve(connection, [clip])[0]
        rows = _places(connection, clip)
    if not rows:
        refuse_taken_down(store, clip)
        raise NotStoredError(
            f"clip {clip} is in no shard. Ask why: SELECT * FROM decisions WHERE clip_id = '{clip}'. If a collection "
            "keeps it, materialise `packing`, `shards` and `catalog`."
        )
    chosen = [row for row in rows if row[1] == rendition] if len(rows) > 1 else rows
    if not chosen:
        known = ", ".join(row[1] for row in rows)
        raise NotStoredError(f"clip {clip} is stored as {known}, and not as {rendition}. Say which one is wanted.")
    clip_id, stored_as, path, offset, size, sha256 = chosen[0]
    return StoredClip(clip_id, stored_as, store.root / path, offset, size, sha256)


def _named(connection: duckdb.DuckDBPyConnection, name: str) -> str | None:
    """The one clip that a name means: what :func:`resolve` finds, in a fraction of its time, where all is well."""
    namespace, _, native_id = name.partition(":")
    rows = connection.execute(
        "SELECT DISTINCT clip_id FROM clips WHERE namespace = ? AND native_id = ? LIMIT 2", [namespace, native_id]
    ).fetchall() or connection.execute(
        "SELECT DISTINCT clip_id FROM clips WHERE clip_id >= ? AND clip_id < ? LIMIT 2", [name, f"{name}\U0010ffff"]
    ).fetchall()
    return str(rows[0][0]) if len(rows) == 1 and name else None


def _places(connection: duckdb.DuckDBPyConnection, clip_id: str) -> list[tuple[str, str, str, int, int, str]]:
    # Two look-ups: in a fresh connection a join takes longer than both.
    rows = connection.execute(
        'SELECT clip_id, rendition, shard, "offset", size, sha256 FROM samples WHERE clip_id = ?', [clip_id]
    ).fetchall()
    places = []
    for clip, rendition, shard, *rest in sorted(rows):
        [(path,)] = connection.execute("SELECT path FROM shards WHERE shard = ?", [shard]).fetchall()
        places.append((clip, rendition, path, *rest))
    return places
