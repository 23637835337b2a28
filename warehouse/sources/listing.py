"""What an adapter makes of a source: rows of clips, memberships, files and rejects."""

import hashlib
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from warehouse.config import SPLITS, Source

DETAIL_CHARACTERS = 300
YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")


class SourceError(ValueError):
    """A source as a whole cannot be read. The message names the file and what to do."""


@dataclass(frozen=True)
class Listing:
    """Rows for the tables of the same names (:mod:`warehouse.schema`), in the order of the annotations."""

    clips: list[dict[str, Any]] = field(default_factory=list)
    memberships: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Media:
    """A media file, or the part of one that is a clip: a row of ``files`` without its key.

    ``bytes`` and ``modified_ns`` are ``None`` if the file is missing. Of a tar's member ``bytes`` is its own and
    ``modified_ns`` the archive's; of a folder of frames ``bytes`` is the sum of the clip's frames and ``modified_ns``
    the latest of them.
    """

    path: str
    bytes: int | None
    modified_ns: int | None
    member: str | None = None
    member_offset: int | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    frame_rate: float | None = None
    first_frame: int | None = None
    frame_count: int | None = None


def clip_id(namespace: str, native_id: str, start_ms: int | None, end_ms: int | None) -> str:
    """Hex blake2b-128 that identifies a clip in the world; times are ``None`` for a whole video."""
    times = ("" if time is None else str(time) for time in (start_ms, end_ms))
    return hashlib.blake2b("\0".join((namespace, native_id, *times)).encode(), digest_size=16).hexdigest()


def path_problem(path: str) -> str | None:
    """Why a path (or id that becomes part of one) from an annotation may not be looked for, or ``None``."""
    if "\0" in path:
        return "holds a NUL byte"
    if path.startswith("/") or re.match(r"[A-Za-z]:[\\/]", path):
        return "is absolute; paths are relative to media_root"
    if ".." in re.split(r"[/\\]", path):
        return "holds `..`, which may leave media_root"
    return None


class Intake:
    """Collects the listing of one source; an annotation row ends in :meth:`add` or in :meth:`reject`, once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.listing = Listing()
        # `train_excluded` and `test_answers` are about a split too.
        named = {str(file): role.partition("_")[0] for role, file in source.annotations.items()}
        self._split_of_file = {file: split for file, split in named.items() if split in SPLITS}
        self._splits_of: dict[str, dict[str, str]] = {}  # clip id → split → where it was listed first

    def reject(self, file: Path, row: int, error_class: str, detail: str) -> None:
        """Record that a row cannot become a clip; ``detail`` says what was read and what was expected."""
        self.listing.rejects.append({
            "source": self.source.name,
            "file": _printable(str(file)),
            "row": row,
            "split": self._split_of_file.get(str(file)),
            "error_class": error_class,
            "detail": _printable(detail)[:DETAIL_CHARACTERS],
        })

    def add(
        self,
        file: Path,
        row: int,
        split: str,
        label: str | None,
        native_id: str,
        interval_ms: tuple[int, int] | None,
        media: Media,
    ) -> None:
        """Record a clip in a split, and the file that holds it.

        A clip that the split already has is rejected as ``duplicate_row``. One that another split has
        becomes a second membership of the same clip.
        """
        start_ms, end_ms = interval_ms or (None, None)
        identity = clip_id(self.source.namespace, native_id, start_ms, end_ms)
        splits = self._splits_of.setdefault(identity, {})
        if split in splits:
            self.reject(file, row, "duplicate_row", f"{native_id!r} is already in {split}: {splits[split]}")
            return
        if not splits:
            self.listing.clips.append({
                "clip_id": identity,
                "namespace": self.source.namespace,
                "native_id": native_id,
                "start_ms": start_ms,
                "end_ms": end_ms,
            })
            self.listing.files.append({"clip_id": identity, "source": self.source.name} | asdict(media))
        splits[split] = f"{file.name}, row {row}"
        self.listing.memberships.append({
            "clip_id": identity,
            "source": self.source.name,
            "split": split,
            "label": label,
            "annotation_file": _printable(str(file)),
            "annotation_row": row,
            "licence": self.source.licence,
        })


def _printable(text: str) -> str:
    """Text that Parquet can hold: undecodable bytes of a file name become ``\\udcXX`` in letters."""
    return text.encode("utf-8", "backslashreplace").decode()
