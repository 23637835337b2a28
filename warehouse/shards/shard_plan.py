"""What ``packing`` plans for a source: shards, each with its members and the files that they are to be made from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.config import Source
from warehouse.media_file import MediaFile, media_file
from warehouse.shards.rendition import VERSION
from warehouse.shards.sidecar import Sidecar, read_sidecar
from warehouse.store import Store, fingerprint

MEDIA_KEYS = ("sha256", "packet_hash", "codec", "width", "height", "rotation", "size_changes", "fps", "frames")
"""Columns of ``media`` that a member has."""
_FILE_KEYS = (
    "path", "member", "member_offset", "from_ms", "to_ms", "frame_rate", "first_frame", "frame_count",
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A clip to be written: where its video lies, and what was probed of it (columns of ``media``).

    ``readable`` is false where its file is missing or damaged now: it can stay in a shard that has it, and cannot be
    written.
    """

    clip_id: str
    media: MediaFile
    readable: bool
    sha256: str | None
    packet_hash: str
    codec: str
    width: int
    height: int
    rotation: int
    size_changes: bool
    fps: float | None
    frames: int

    @property
    def made_from(self) -> str:
        """Digest of what the stored bytes depend on."""
        return fingerprint(self.sha256, self.packet_hash, self.fps)


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

    def finished(self) -> Sidecar | None:
        """The shard's sidecar if its tar has been written to this plan, else ``None``."""
        sidecar = read_sidecar(self.tar)
        if sidecar is None or not sidecar.fits(self.tar) or self.surplus(sidecar) != set():
            return None
        return sidecar

    def surplus(self, sidecar: Sidecar) -> set[str] | None:
        """Clips of a shard that are not in this plan any more; ``None`` if more than that is different.

        A member that cannot be read now is taken as it was stored.
        """
        settings = (self.rendition, self.stride, VERSION)
        if (sidecar.rendition, sidecar.stride, sidecar.version) != settings:
            return None
        planned = {member.clip_id for member in self.members}
        stored = [member for member in sidecar.members if member.key in planned]
        if len(stored) != len(self.members):
            return None
        for member, there in zip(self.members, stored, strict=True):
            if member.clip_id != there.key or (member.readable and member.made_from != there.made_from):
                return None
        return {member.key for member in sidecar.members} - planned


class SourceShards:
    """The shards that ``packing`` plans for a source, by name.

    Attributes:
        names, renditions, sizes: of each shard; ``sizes`` is its number of members.
    """

    def __init__(self, store: Store, source: Source) -> None:
        self._store, self._source = store, source
        packing = store.read("packing", source.name)
        packing = packing.sort_by([("shard", "ascending"), ("position", "ascending")])
        runs = pc.run_end_encode(packing["shard"].combine_chunks(), run_end_type=pa.int64())
        self.names: list[str] = runs.values.to_pylist()
        ends = runs.run_ends.to_numpy()
        self._starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        self.sizes: list[int] = (ends - self._starts).tolist()
        self.renditions: list[str] = packing["rendition"].take(pa.array(self._starts)).to_pylist()
        self._clips = packing["clip_id"]
        media = store.read("media", source.name, ("clip_id", "status", *MEDIA_KEYS))
        files = store.read("files", source.name, ("clip_id", *_FILE_KEYS))
        # Rows of either table for each clip; a clip that is in neither has NULLs.
        self._media, self._files = (
            table.take(pc.index_in(self._clips, value_set=table["clip_id"])) for table in (media, files)
        )

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[ShardPlan]:
        return (self.plan(number) for number in range(len(self)))

    def plan(self, number: int) -> ShardPlan:
        """A shard and its members."""
        here = slice(int(self._starts[number]), int(self._starts[number]) + self.sizes[number])
        part = [table.slice(here.start, self.sizes[number]).to_pylist() for table in (self._media, self._files)]
        clips = self._clips.slice(here.start, self.sizes[number]).to_pylist()
        return ShardPlan(
            folder=str(self._store.shards / self._source.name),
            shard=self.names[number],
            source=self._source.name,
            rendition=self.renditions[number],
            stride=self._source.stride,
            members=tuple(self._member(*row) for row in zip(clips, *part, strict=True)),
        )

    def _member(self, clip_id: str, media: dict[str, Any], file: dict[str, Any]) -> Member:
        listed = file["path"] is not None
        where = media_file(self._source.media_root, file) if listed else MediaFile(str(self._source.media_root))
        return Member(clip_id, where, listed and media["status"] == "ok", **{key: media[key] for key in MEDIA_KEYS})
