"""The videos inside the tar archives of a media root, by name: headers are read, nothing is extracted.

A clip that lies in a tar is read in place, so a tar is never unpacked and a name in it is never used as a path.
"""

import tarfile
from dataclasses import dataclass
from posixpath import splitext

from warehouse.sources.listing import Intake, Media, path_problem
from warehouse.sources.media_tree import VIDEO_SUFFIXES, MediaTree, is_hidden

_END_READ = 2**20
"""Bytes looked at after the last member: an archive ends in zeros up to the end of the file."""


@dataclass(frozen=True)
class Member:
    """A video in a tar: path of the archive below the media root, its modification time, name, first byte, bytes."""

    archive: str
    modified_ns: int
    name: str
    offset: int
    bytes: int

    @property
    def media(self) -> Media:
        """The row of ``files``."""
        return Media(self.archive, self.bytes, self.modified_ns, member=self.name, member_offset=self.offset)


def index_archives(intake: Intake, tree: MediaTree) -> dict[str, list[Member]]:
    """File name without suffix → the videos in archives that have it.

    What must not be read is rejected as ``bad_path``, in the archive's own name and by the member's number: links,
    devices and pipes, sparse members, names that are absolute, hold ``..`` or are not UTF-8, and the place
    where a damaged archive stops.
    """
    members: dict[str, list[Member]] = {}
    for path in tree.archives:
        if not is_hidden(path):
            for member in _read(intake, tree, path):
                members.setdefault(member.name.rpartition("/")[2].rpartition(".")[0], []).append(member)
    return members


def _read(intake: Intake, tree: MediaTree, path: str) -> list[Member]:
    """The videos of one archive; of two members with one name the later, as tar has it."""
    file = tree.root / path
    found: dict[str, Member] = {}
    number = 0
    try:
        status = file.stat()
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as archive:
            for number, entry in enumerate(archive, 1):
                if problem := _problem(entry, status.st_size):
                    intake.reject(file, number, "bad_path", f"the member {entry.name!r} {problem}")
                elif entry.isreg() and splitext(entry.name)[1].lower() in VIDEO_SUFFIXES and not _hidden(entry.name):
                    found[entry.name] = Member(path, status.st_mtime_ns, entry.name, entry.offset_data, entry.size)
            # tarfile takes a damaged header, and the end of the file, for the end of the archive.
            raw.seek(archive.offset)
            if not (end := raw.read(_END_READ)) or end.strip(b"\0"):
                raise tarfile.ReadError("a damaged header, or it was cut off" if end else "it was cut off")
    # A long chain of headers is a RecursionError; sizes that no file has are Overflow- and ValueErrors.
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError) as error:
        intake.reject(file, number + 1, "bad_path", f"the archive cannot be read after {number} members ({error}). "
                      "Fetch it again")
    return list(found.values())


def _problem(entry: tarfile.TarInfo, archive_bytes: int) -> str | None:
    """Why a member may not be read, or ``None``."""
    if problem := path_problem(entry.name):
        return problem
    if entry.name != entry.name.encode("utf-8", "ignore").decode():
        return "has a name that is not UTF-8"
    if entry.issym() or entry.islnk():
        return f"is a link to {entry.linkname!r}, and links in archives are not followed"
    if not entry.isreg() and not entry.isdir():
        return "is not a regular file"
    if entry.issparse():
        return "is sparse, so it does not lie in one piece"
    if entry.offset_data + entry.size > archive_bytes:
        return "goes on after the end of the archive. Fetch the archive again"
    return None


def _hidden(name: str) -> bool:
    return is_hidden(name.removeprefix("./"))
