"""The bytes of a media file, wherever they lie: a file, a member of a tar (read in place), the images of a folder.

Nothing is ever extracted: a member is a range of the archive's bytes, and its name is compared, never used as a path.
"""

import hashlib
import io
import os
import re
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from warehouse.error_classes import MISSING, MediaError, words
from warehouse.media_file import MediaFile

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png"))
"""Suffixes of the images that a folder of frames may hold."""

_PNG = b"\x89PNG\r\n\x1a\n"
# Start of frame: all JPEG markers from C0 to CF but those of tables.
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_ARCHIVES_KEPT, _FOLDERS_KEPT = 4, 16


class FileRange(io.RawIOBase):
    """A part of a file as a file of its own that can be read and sought in."""

    def __init__(self, path: str, offset: int, size: int) -> None:
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed in close()
        self._offset, self._size, self._place = offset, size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Read into ``buffer``, never past the end of the range; returns the number of bytes."""
        view = memoryview(buffer)[: max(0, self._size - self._place)]
        count = os.preadv(self._file.fileno(), [view], self._offset + self._place)
        self._place += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset`` from the range's start, the present place or the range's end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the start")
        self._place = base + offset
        return self._place

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def open_bytes(media: MediaFile) -> BinaryIO:
    """The video's bytes, of a file or of a tar's member.

    Raises:
        MediaError: ``missing_file``, ``unreadable_file``, ``unreadable_container`` (the archive) or ``empty_file``.
    """
    try:
        if media.member is None:
            file: BinaryIO = Path(media.path).open("rb")  # noqa: SIM115 - the caller closes it
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
        else:
            offset, size = _member(media)
            file = FileRange(media.path, offset, size)  # type: ignore[assignment]
    except FileNotFoundError as error:
        raise MediaError(MISSING, "no such file") from error
    except OSError as error:
        raise MediaError("unreadable_file", error.strerror or str(error)) from error
    if size == 0:
        file.close()
        raise MediaError("empty_file", "the file has no bytes")
    return file


def sha256(media: MediaFile) -> str | None:
    """SHA-256 of the file's or the member's bytes, or of a folder's images one after the other.

    ``None`` for an interval: a movie is not read whole for each of its clips.

    Raises:
        MediaError: as :func:`open_bytes` and :func:`frame_images`.
    """
    if media.is_interval:
        return None
    if media.is_folder:
        digest = hashlib.sha256()
        for _, path in frame_images(media):
            digest.update(image_bytes(path))
        return digest.hexdigest()
    try:
        with open_bytes(media) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise MediaError("unreadable_file", error.strerror or str(error)) from error


def frame_images(media: MediaFile) -> list[tuple[int, Path]]:
    """The images of a clip in a folder of frames: place in the clip (0 for ``first_frame``) and path, in order.

    The number is the last one in the file's name. Links and files of other kinds are left out.

    Raises:
        MediaError: ``missing_file`` (no such folder), ``unreadable_file``, ``unreadable_container`` (two images with
            one number) or ``no_frames`` (none of the clip's images is there).
    """
    try:
        images = _images(media.path, Path(media.path).stat().st_mtime_ns)
    except FileNotFoundError as error:
        raise MediaError(MISSING, "no such folder") from error
    except OSError as error:
        raise MediaError("unreadable_file", error.strerror or str(error)) from error
    first = media.first_frame if media.first_frame is not None else min(images, default=0)
    stop = None if media.frame_count is None else first + media.frame_count
    chosen = [
        (number - first, Path(media.path) / images[number])
        for number in sorted(images)
        if number >= first and (stop is None or number < stop)
    ]
    if not chosen:
        raise MediaError("no_frames", f"of {len(images)} numbered images none is in the clip")
    return chosen


def image_bytes(path: Path) -> bytes:
    """The bytes of one image. Raises MediaError (``unreadable_file``)."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MediaError("unreadable_file", f"{path.name}: {error.strerror}") from error


def image_codec(data: bytes) -> str:
    """FFmpeg's name of the codec of an image, by its first bytes rather than by the name of its file."""
    return "png" if data.startswith(_PNG) else "mjpeg"


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a PNG or JPEG declares; ``None`` if it does not."""
    if data.startswith(_PNG):
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    place = 2
    while data[place : place + 1] == b"\xff":
        marker = data[place + 1] if place + 1 < len(data) else 0
        if marker in _JPEG_SIZES:
            return int.from_bytes(data[place + 7 : place + 9]), int.from_bytes(data[place + 5 : place + 7])
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


@lru_cache(_FOLDERS_KEPT)
def _images(folder: str, modified_ns: int) -> dict[int, str]:
    """Number → name of the images in a folder, which has not changed since ``modified_ns``."""
    found: dict[int, str] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - a million times
            number = re.search(r"(\d+)\D*$", stem)
            if suffix.lower() not in IMAGE_SUFFIXES or number is None or not entry.is_file(follow_symlinks=False):
                continue
            other = found.setdefault(int(number[1]), entry.name)
            if other != entry.name:
                names = ", ".join(sorted((other, entry.name)))
                raise MediaError("unreadable_container", f"two images have the number {number[1]}: {names}")
    return found


def _member(media: MediaFile) -> tuple[int, int]:
    """Offset and size of a tar's member."""
    status = Path(media.path).stat()
    if found := _at_offset(media):
        return found
    try:
        members, damage = _members(media.path, status.st_size, status.st_mtime_ns)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise MediaError("unreadable_container", f"the archive: {words(error)}") from error
    if media.member not in members:
        if damage:
            raise MediaError("unreadable_container", f"the archive, before this member: {damage}")
        raise MediaError(MISSING, "no such member in the archive")
    offset, size = members[media.member]
    if offset + size > status.st_size:
        raise MediaError("truncated", "the archive ends inside the member")
    return offset, size


def _at_offset(media: MediaFile) -> tuple[int, int] | None:
    """Offset and size of a member that still lies where it was listed; ``None``: its archive has to be searched.

    Clips are read in an order that mixes the archives, and the search reads a header for each member.
    """
    if media.member is None or media.member_offset is None or media.member_offset < tarfile.BLOCKSIZE:
        return None
    with Path(media.path).open("rb", buffering=0) as file:
        header = os.pread(file.fileno(), tarfile.BLOCKSIZE, media.member_offset - tarfile.BLOCKSIZE)
        end = os.fstat(file.fileno()).st_size
    try:
        entry = tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape")
    except tarfile.TarError:
        return None
    wanted, name = (text.encode(tarfile.ENCODING, "surrogateescape") for text in (media.member, entry.name))
    # A long name stands in a header of its own before this one, which holds its beginning.
    named = wanted == name or (len(name) >= tarfile.LENGTH_NAME and wanted.startswith(name))
    if not named or not entry.isreg() or media.member_offset + entry.size > end:
        return None
    return media.member_offset, entry.size


@lru_cache(_ARCHIVES_KEPT)
def _members(path: str, size: int, modified_ns: int) -> tuple[dict[str, tuple[int, int]], str | None]:
    """Name → (offset, size) of a tar's regular members, of two with one name the later, as tar has it; and what ended
    the list before the archive's end, if anything did.
    """
    members = {}
    with tarfile.open(path, "r:") as archive:
        try:
            for entry in archive:
                if entry.isreg() and entry.sparse is None:
                    members[entry.name] = (entry.offset_data, entry.size)
        except tarfile.ReadError as error:
            return members, words(error)
    return members, None
