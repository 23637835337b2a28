"""A clip of a snapshot as a loader reads it. Worker processes import this: it needs the standard library alone."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """A clip of a snapshot, and the byte range that holds its encoded video.

    ``class_id`` is ``None`` for an unlabelled clip; ``fps``, ``frames``, ``width`` and ``height`` are as stored.
    """

    clip_id: str
    source: str
    split: str
    class_id: int | None
    weight: float
    stride: int
    shard: Path
    offset: int
    size: int
    sha256: str
    codec: str
    fps: float
    frames: int
    width: int
    height: int


@dataclass(frozen=True)
class Tombstone:
    """The place in a snapshot of a clip that has been taken down, kept so that the order of all others stays."""

    clip_id: str
    weight: float
