"""The seam between sources, which list media, and whatever opens them: probing, hashing and encoding."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class MediaFile:
    """Where a clip's video lies: a whole file, a member of a tar, an interval of a longer video, or a folder of frames.

    Attributes:
        path: absolute path of the video, the tar archive or the folder of frames.
        member, member_offset, from_ms, to_ms, frame_rate, first_frame, frame_count: as in the table ``files``.
    """

    path: str
    member: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    frame_rate: float | None = None
    first_frame: int | None = None
    frame_count: int | None = None
    member_offset: int | None = None

    @property
    def is_interval(self) -> bool:
        """Whether the clip is a part of a longer video."""
        return self.from_ms is not None or self.to_ms is not None

    @property
    def is_folder(self) -> bool:
        """Whether the clip is in a folder of frames: those alone have a rate that is not their own."""
        return self.frame_rate is not None

    @property
    def name(self) -> str:
        """The clip's place in words, for messages."""
        end = "its end" if self.to_ms is None else f"{self.to_ms} ms"
        interval = f" from {self.from_ms or 0} ms to {end}" if self.is_interval else ""
        return f"{self.path}{f' ({self.member})' if self.member else ''}{interval}"


def media_file(media_root: Path, row: Mapping[str, Any]) -> MediaFile:
    """The media file of a row of ``files``."""
    keys = ("member", "member_offset", "from_ms", "to_ms", "frame_rate", "first_frame", "frame_count")
    return MediaFile(str(media_root / row["path"]), **{key: row[key] for key in keys})
