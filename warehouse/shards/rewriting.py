"""Taking clips out of a shard that stands: its other members are copied into a new tar, byte for byte."""

import tarfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from warehouse.media_bytes import FileRange
from warehouse.shards.errors import ShardError
from warehouse.shards.sidecar import Sidecar, read_sidecar, sidecar_path
from warehouse.shards.tar_file import clear_leftovers, writing

_AGAIN = "Materialise `shards` again."


def rewrite_without(tar: Path, clip_ids: Collection[str]) -> Sidecar:
    """Rewrite a shard with the same members less some, and its sidecar; returns the new sidecar.

    Bytes are copied, never encoded again, and each clip is checked against its SHA-256 on the way. The result depends
    on the members alone: it is the tar that the plan without these clips would have given, so the step `shards` takes
    the shard for finished once the clips are out of ``packing``.

    The new tar is written beside the old one and renamed, then the sidecar is. Killed at any moment, the shard is old,
    or new with the old sidecar; the same call, or one with more clips, then ends what was begun. Ids that the shard
    does not hold (any more) change nothing: called again, it returns what stands, without writing.

    A shard that is left without a member loses its tar; its sidecar stays, with no ``members``, ``bytes`` 0 and an
    empty ``sha256``. The tables are the caller's: the clips leave ``packing`` first, then comes this, then
    :func:`warehouse.shards.tables.tabulate`, which writes a source's ``shards`` and ``samples`` from ``packing`` and
    the sidecars. The clips behind those taken out have moved: whoever has their old places, from before or from a
    snapshot that is open, finds them by their names (:func:`warehouse.shards.reader.read_sample`).

    Args:
        tar: the shard, ``SHARD.tar``, with ``SHARD.json`` beside it.
        clip_ids: clips to be taken out.

    Raises:
        ShardError: tar or sidecar is missing or damaged, or a member's bytes are not those the sidecar promises; names
            them. Nothing has been changed then.
    """
    clear_leftovers(tar)  # they may hold what is to go
    sidecar = read_sidecar(tar)
    if sidecar is None:
        raise ShardError(f"{sidecar_path(tar)}: no sidecar, or an older one. {_AGAIN}")
    kept = [member for member in sidecar.members if member.key not in clip_ids]
    if not kept:
        return _empty(tar, sidecar)
    if len(kept) == len(sidecar.members) and sidecar.fits(tar):
        return sidecar
    there = _members(tar)
    lost = [member.key for member in kept if member.key not in there]
    if lost:
        raise ShardError(f"{tar}: clip {lost[0]} is in its sidecar and not in the tar. {_AGAIN}")
    with writing(tar) as target:
        for member in kept:
            offset, size = there[member.key]
            with FileRange(str(tar), offset, size) as source:
                target.copy(member.key + member.suffix, source, size)  # type: ignore[arg-type]
        digest = target.finish([member.sha256 for member in kept])
    members = tuple(
        replace(member, offset=written.offset) for member, written in zip(kept, target.members, strict=True)
    )
    shrunk = replace(sidecar, bytes=target.size, sha256=digest, members=members)
    shrunk.write(tar)
    return shrunk


def _empty(tar: Path, sidecar: Sidecar) -> Sidecar:
    tar.unlink(missing_ok=True)
    empty = replace(sidecar, bytes=0, sha256="", members=())
    if sidecar != empty:
        empty.write(tar)
    return empty


def _members(tar: Path) -> dict[str, tuple[int, int]]:
    """Offset and size of each member by its key, as the tar's own headers have them."""
    try:
        with tarfile.open(tar, "r:") as archive:
            return {entry.name.partition(".")[0]: (entry.offset_data, entry.size) for entry in archive}
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{tar}: cannot be read ({error}). {_AGAIN}") from error
