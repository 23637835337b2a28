"""Executing a packing plan: one WebDataset tar and one sidecar a shard.

A tar is written beside its place, read back, and renamed; then its sidecar ``SHARD.json`` is. A shard whose
sidecar carries the plan's fingerprint is done, so a run that was killed goes on with the shards that are missing.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warehouse.error_classes import MediaError
from warehouse.media_bytes import open_bytes
from warehouse.media_file import MediaFile
from warehouse.shards import rendition as renditions
from warehouse.shards.reader import ShardError
from warehouse.store import fingerprint, replace_file


@dataclass(frozen=True)
class Member:
    """A clip to be written: where its video lies, and what was probed of it (columns of ``media``)."""

    clip_id: str
    media: MediaFile
    sha256: str | None
    packet_hash: str
    codec: str
    width: int
    height: int
    rotation: int
    fps: float | None
    frames: int


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be written to ``folder/shard.tar``: its members in order, the rendition, and the source's stride."""

    folder: str
    shard: str
    source: str
    rendition: str
    stride: int
    members: tuple[Member, ...]

    @property
    def tar(self) -> Path:
        """Where the tar lies."""
        return Path(self.folder) / f"{self.shard}.tar"

    @property
    def sidecar(self) -> Path:
        """Where the sidecar lies."""
        return Path(self.folder) / f"{self.shard}.json"

    @property
    def fingerprint(self) -> str:
        """Digest of all that determines the shard's bytes."""
        contents = [(m.clip_id, m.sha256, m.packet_hash, m.fps) for m in self.members]
        return fingerprint(self.shard, self.rendition, self.stride, renditions.VERSION, contents)

    def finished(self) -> dict[str, Any] | None:
        """The sidecar's content if the shard has been written to this plan, else ``None``."""
        if not (self.sidecar.exists() and self.tar.exists()):
            return None
        content = json.loads(self.sidecar.read_text())
        written = content["fingerprint"] == self.fingerprint and content["bytes"] == self.tar.stat().st_size
        return content if written else None


def write_shards(plans: Sequence[ShardPlan]) -> list[dict[str, Any]]:
    """Write each shard that is not finished; returns the sidecars' contents (the unit of work of the `shards` asset).

    Raises:
        RenditionError: a member's file cannot be read any more.
        ShardError: a member's file is not the one that was probed, or the tar does not read back as written.
    """
    return [plan.finished() or _write(plan) for plan in plans]


def _write(plan: ShardPlan) -> dict[str, Any]:
    # Imported by the workers that write, alone: webdataset loads torch, and in a process that has both Dagster's
    # definitions and DuckDB in memory it makes DuckDB report leaks at exit.
    from webdataset import TarWriter

    plan.tar.parent.mkdir(parents=True, exist_ok=True)
    temporary = plan.tar.with_name(f"{plan.shard}.{os.getpid()}.tmp")
    samples: list[dict[str, Any]] = []
    with temporary.open("wb") as file:
        # Fixed owner, mode and time: equal content gives an equal tar.
        tar = TarWriter(file, user="reelhouse", group="reelhouse", mode=0o444, mtime=0.0)
        for member in plan.members:
            encoded = _encode(plan, member)
            meta = {"clip_id": member.clip_id, "source": plan.source, "rendition": plan.rendition}
            tar.write({"__key__": member.clip_id, encoded.suffix[1:]: encoded.data, "json": meta})
            samples.append(
                {
                    "clip_id": member.clip_id,
                    "source": plan.source,
                    "shard": plan.shard,
                    "rendition": plan.rendition,
                    "size": len(encoded.data),
                    "sha256": hashlib.sha256(encoded.data).hexdigest(),
                    "codec": encoded.codec,
                    "width": encoded.width,
                    "height": encoded.height,
                    "fps": encoded.fps,
                    "frames": encoded.frames,
                }
            )
        tar.close()
        file.flush()
        os.fsync(file.fileno())
    offsets = _read_back(temporary, {sample["clip_id"]: sample["sha256"] for sample in samples})
    for sample in samples:
        sample["offset"] = offsets[sample["clip_id"]]
    content = {
        "fingerprint": plan.fingerprint,
        "shard": plan.shard,
        "bytes": temporary.stat().st_size,
        "sha256": _sha256(temporary),
        "samples": samples,
    }
    temporary.replace(plan.tar)
    replace_file(plan.sidecar, json.dumps(content, indent=1).encode())
    return content


def _encode(plan: ShardPlan, member: Member) -> renditions.Encoded:
    changed = f"{member.media.name}: gone or changed since it was probed. Materialise `clips` and `media` again."
    if plan.rendition == "np256":
        encoded = renditions.encode_np256(member.media, plan.stride, member.fps)
        if encoded.packet_hash != member.packet_hash:
            raise ShardError(changed)
        return encoded
    try:
        with open_bytes(member.media) as file:
            data = file.read()
    except (MediaError, OSError) as error:
        raise ShardError(f"{changed} ({error})") from error
    if hashlib.sha256(data).hexdigest() != member.sha256:
        raise ShardError(changed)
    suffix = Path(member.media.member or member.media.path).suffix.lower()
    # As stored: the bytes are untouched, so a player is still to turn the picture.
    width, height = (member.height, member.width) if member.rotation % 180 else (member.width, member.height)
    fps = member.fps or renditions.FRAME_RATE
    return renditions.Encoded(data, suffix, member.codec, width, height, fps, member.frames, member.packet_hash)


def _read_back(tar: Path, expected: dict[str, str]) -> dict[str, int]:
    """Offsets of the videos by clip id, after checking that the tar holds just the expected bytes."""
    offsets = {}
    with tarfile.open(tar) as archive, tar.open("rb") as file:
        for entry in archive:
            clip_id, _, suffix = entry.name.partition(".")
            if suffix == "json":
                continue
            file.seek(entry.offset_data)
            if hashlib.sha256(file.read(entry.size)).hexdigest() != expected[clip_id]:
                raise ShardError(f"{tar}: clip {clip_id} does not read back as it was written. Check the disk.")
            offsets[clip_id] = entry.offset_data
    if offsets.keys() != expected.keys():
        raise ShardError(f"{tar}: {len(offsets)} clips read back of {len(expected)} written. Check the disk.")
    return offsets


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
