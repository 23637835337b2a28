"""Reading one clip out of a shard by its byte range."""

import hashlib

from warehouse.catalog.snapshots import Sample


class ShardError(RuntimeError):
    """The bytes in a shard are not those that the catalog promises."""


def read_sample(sample: Sample) -> bytes:
    """The encoded video of a sample, checked against its SHA-256.

    Raises:
        ShardError: the shard is missing, too short, or holds other bytes; names shard and clip.
    """
    try:
        with sample.shard.open("rb") as file:
            file.seek(sample.offset)
            data = file.read(sample.size)
    except OSError as error:
        raise ShardError(f"{sample.shard}: cannot read clip {sample.clip_id}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sample.sha256:
        raise ShardError(
            f"{sample.shard}: bytes {sample.offset}+{sample.size} are not clip {sample.clip_id} (SHA-256 differs). "
            "Delete the shard and materialise `shards` again."
        )
    return data
