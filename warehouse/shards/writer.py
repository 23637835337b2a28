"""Executing a packing plan: one WebDataset tar and one sidecar a shard, the unit of work of the asset `shards`.

A tar is written beside its place, read back, and renamed; then its sidecar is. A shard whose sidecar fits the plan is
done, so a run that was killed goes on with the shards that are missing.
"""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from warehouse.error_classes import MediaError
from warehouse.media_bytes import open_bytes, sha256
from warehouse.shards.conformance import Conformity, examine
from warehouse.shards.encoding import FRAME_RATE, SUFFIX, encode
from warehouse.shards.errors import RenditionError, ShardError
from warehouse.shards.rendition import CONTRACTS, ORIGINAL, VERSION, Contract
from warehouse.shards.rewriting import rewrite_without
from warehouse.shards.shard_plan import Member, ShardPlan
from warehouse.shards.sidecar import Sidecar, StoredClip, read_sidecar
from warehouse.shards.tar_file import TarWriter, writing


def write_shards(plans: Sequence[ShardPlan]) -> list[Sidecar]:
    """Bring each shard to its plan; returns the sidecars. Shards that are finished are not touched.

    One that only holds clips which the plan has no more is rewritten without them, of the tar's own bytes.

    Raises:
        RenditionError: a member's file cannot be read any more, or what it was encoded to breaks the contract.
        ShardError: a member's file is not the one that was probed, or the tar does not read back as written.
    """
    return [plan.finished() or _shrink(plan) or _write(plan) for plan in plans]


def _shrink(plan: ShardPlan) -> Sidecar | None:
    """The shard less what is in the plan no more; ``None`` if it has to be written from its sources."""
    sidecar = read_sidecar(plan.tar)
    surplus = None if sidecar is None else plan.surplus(sidecar)
    if surplus is None:
        return None
    try:
        return rewrite_without(plan.tar, surplus)
    except ShardError:  # its tar is gone or damaged; the sources give the same bytes again
        return None


def _write(plan: ShardPlan) -> Sidecar:
    with writing(plan.tar) as tar:
        clips = [_store(plan, member, tar) for member in plan.members]
        try:
            digest = tar.finish([clip.sha256 for clip in clips])
        except ShardError:
            _refuse_changed(plan)
            raise
    sidecar = Sidecar(plan.shard, plan.source, plan.rendition, plan.stride, VERSION, tar.size, digest, tuple(clips))
    sidecar.write(plan.tar)
    return sidecar


def _store(plan: ShardPlan, member: Member, tar: TarWriter) -> StoredClip:
    """Write one clip into the tar."""
    if not member.readable:
        raise RenditionError(
            f"{member.media.name}: clip {member.clip_id} is planned for shard {plan.shard}, and cannot be read "
            "now (`media.error_class` says why). Bring the file back, or take the clip down."
        )
    if plan.rendition == ORIGINAL:
        suffix = Path(member.media.member or member.media.path).suffix.lower()
        return _untouched(member, tar, suffix, _as_probed(member))
    contract = CONTRACTS[plan.rendition]
    found = _meets(member, contract, plan.stride)
    if found is not None:
        return _untouched(member, tar, SUFFIX, found)
    encoded = encode(member.media, plan.rendition, plan.stride, member.fps)
    if encoded.packet_hash != member.packet_hash:
        raise ShardError(_changed(member))
    found = examine(io.BytesIO(encoded.data), contract, plan.stride, member.frames)
    if found.breach:
        raise RenditionError(
            f"{member.media.name}: clip {member.clip_id} breaks the contract of {plan.rendition} ({found.breach}) "
            'after it was encoded. Report it with the file; `rendition = "original"` keeps the bytes as they are.'
        )
    written = tar.add(member.clip_id + SUFFIX, encoded.data)
    return StoredClip(
        member.clip_id, SUFFIX, written.offset, written.size, hashlib.sha256(encoded.data).hexdigest(), contract.codec,
        found.width, found.height, found.fps, found.frames, True, member.made_from,
    )  # fmt: skip


def _meets(member: Member, contract: Contract, stride: int) -> Conformity | None:
    """What was found of a file that meets the contract and need not be encoded; ``None`` if it does not meet it."""
    media = member.media
    if media.is_interval or media.is_folder or member.rotation or member.size_changes or member.codec != contract.codec:
        return None
    if min(member.width, member.height) > contract.short_side:
        return None
    try:
        with open_bytes(media) as file:
            found = examine(file, contract, stride, member.frames)
    except (MediaError, OSError) as error:
        raise ShardError(f"{_changed(member)} ({error})") from error
    return None if found.breach else found


def _untouched(member: Member, tar: TarWriter, suffix: str, found: Conformity) -> StoredClip:
    """Copy a file's bytes. Whether they are those that were probed shows when the tar is read back."""
    assert member.sha256 is not None
    try:
        with open_bytes(member.media) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            written = tar.copy(member.clip_id + suffix, file, size)
    except (MediaError, OSError, EOFError) as error:
        raise ShardError(f"{_changed(member)} ({error})") from error
    return StoredClip(
        member.clip_id, suffix, written.offset, written.size, member.sha256, member.codec, found.width, found.height,
        found.fps, found.frames, False, member.made_from,
    )  # fmt: skip


def _as_probed(member: Member) -> Conformity:
    # As stored: the bytes are untouched, so a player is still to turn the picture.
    width, height = (member.height, member.width) if member.rotation % 180 else (member.width, member.height)
    return Conformity(width, height, member.fps or FRAME_RATE, member.frames)


def _refuse_changed(plan: ShardPlan) -> None:
    """Raise :class:`ShardError` if a file is not the one that was probed."""
    for member in plan.members:
        try:
            changed = member.sha256 is not None and sha256(member.media) != member.sha256
        except MediaError as error:
            raise ShardError(f"{_changed(member)} ({error})") from error
        if changed:
            raise ShardError(_changed(member))


def _changed(member: Member) -> str:
    return f"{member.media.name}: gone or changed since it was probed. Materialise `clips` and `media` again."
