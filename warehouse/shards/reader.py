"""Reading one clip out of a shard by its byte range."""

import hashlib
import tarfile
from pathlib import Path
from typing import Protocol

from warehouse.shards.errors import ShardError


class Stored(Protocol):
    """A clip and the byte range of a shard that holds it: a ``Sample`` of a snapshot, or a ``StoredClip``."""

    @property
    def clip_id(self) -> str: ...
    @property
    def shard(self) -> Path: ...
    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...


def read_sample(sample: Stored) -> bytes:
    """The encoded video of a sample, checked against its SHA-256.

    A shard that was compacted since the sample was made has the clip at another place: it is found by its name.

    Raises:
        ShardError: the shard is missing, too short, or holds other bytes; names shard and clip.
    """
    try:
        with sample.shard.open("rb") as file:
            file.seek(sample.offset)
            data = file.read(sample.size)
    except OSError as error:
        raise ShardError(f"{sample.shard}: cannot read clip {sample.clip_id}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() == sample.sha256:
        return data
    data = _by_name(sample)
    if hashlib.sha256(data).hexdigest() != sample.sha256:
        raise ShardError(
            f"{sample.shard}: bytes {sample.offset}+{sample.size} are not clip {sample.clip_id} (SHA-256 differs). "
            "Delete the shard and materialise `shards` again, unless the clip was taken down."
        )
    return data


def member_name(sample: Stored) -> str:
    """The name that a shard has for a clip's video, from the header before its bytes.

    Raises:
        ShardError: there is no header of that clip.
    """
    try:
        with sample.shard.open("rb") as file:
            file.seek(sample.offset - tarfile.BLOCKSIZE)
            header = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "strict")
    except (OSError, tarfile.TarError, ValueError) as error:
        raise ShardError(f"{sample.shard}: no header before clip {sample.clip_id}: {error}") from error
    if (header.name.partition(".")[0], header.size) != (sample.clip_id, sample.size):
        raise ShardError(f"{sample.shard}: clip {sample.clip_id} is not where the catalog says. Materialise `catalog`.")
    return header.name


def _by_name(sample: Stored) -> bytes:
    """The first member of the shard that has the clip's name and size; empty if there is none."""
    try:
        with tarfile.open(sample.shard) as tar:
            for entry in tar:
                if entry.name.partition(".")[0] == sample.clip_id and entry.size == sample.size:
                    file = tar.extractfile(entry)
                    return file.read() if file else b""
    except (tarfile.TarError, OSError):
        pass  # no tar, or a damaged one: the caller says which clip was promised where
    return b""
