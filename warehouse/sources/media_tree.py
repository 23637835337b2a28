"""One walk over a media root: which videos, tar archives and folders of frames there are, and what not to touch."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from warehouse.media_bytes import IMAGE_SUFFIXES
from warehouse.sources.listing import Intake, Media, SourceError

VIDEO_SUFFIXES = frozenset((
    ".3g2", ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
    ".ts", ".webm", ".wmv", ".y4m",
))
_COMPRESSED_TAR = re.compile(r".*\.(?:tar\.(?:gz|bz2|xz|zst|Z)|tgz|tbz2?|txz)", re.DOTALL)


@dataclass
class MediaTree:
    """The video files below a media root, by path relative to it (with ``/``).

    Files without a video suffix are left out. A link to a folder inside the root is not descended into (its files
    are reached by their real path) but remembered in ``links``. ``archives`` are the tars, and ``frame_folders`` the
    folders that hold images. ``refused_files``, ``refused_folders`` and ``refused_archives`` map what is there but may
    not be read (links that leave the root, unreadable folders, pipes and devices, names that are not UTF-8,
    compressed tars) to the reason.
    """

    root: Path
    files: dict[str, os.DirEntry[str]] = field(default_factory=dict)
    archives: dict[str, os.DirEntry[str]] = field(default_factory=dict)
    frame_folders: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    refused_files: dict[str, str] = field(default_factory=dict)
    refused_folders: dict[str, str] = field(default_factory=dict)
    refused_archives: dict[str, str] = field(default_factory=dict)

    @classmethod
    def walk(cls, root: Path) -> "MediaTree":
        """Walk the root once, without a stat for each file.

        Raises:
            SourceError: the root is not a folder that can be read.
        """
        tree = cls(root)
        real_root = os.path.realpath(root)
        pending = [""]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(root / folder) as entries:
                    for entry in entries:
                        tree._place(entry, folder + entry.name, real_root, pending)
            except OSError as error:
                if not folder:
                    raise SourceError(f"{root}: cannot be read ({error.strerror}). Correct `media_root`") from error
                tree.refused_folders[folder.rstrip("/")] = f"cannot be read ({error.strerror})"
        tree.files = dict(sorted(tree.files.items()))
        tree.archives = dict(sorted(tree.archives.items()))
        return tree

    def _place(self, entry: os.DirEntry[str], path: str, real_root: str, pending: list[str]) -> None:
        """Put one entry where it belongs; folders to descend into go to ``pending``."""
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a million times
        if suffix in IMAGE_SUFFIXES and not entry.is_dir(follow_symlinks=False):
            self.frame_folders.add(path.rpartition("/")[0])
            return
        is_video, is_archive = suffix in VIDEO_SUFFIXES, suffix == ".tar"
        is_folder = is_file = False
        reason = None
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:  # a link to itself
            reason = f"cannot be followed ({error.strerror})"
        target = os.path.realpath(entry.path) if entry.is_symlink() else None
        if target is not None and target != real_root and not target.startswith(real_root.rstrip(os.sep) + os.sep):
            reason = "is a link that leaves media_root. Make media_root the folder with the real files"
        elif not path.isascii() and path != path.encode("utf-8", "ignore").decode():
            reason = "has a name that is not UTF-8. Rename it"
        elif target is None and not is_folder and not is_file:
            reason = "is not a regular file"
        if is_folder and reason:
            self.refused_folders[path] = reason
        elif is_folder and target is not None:
            self.links[path] = os.path.relpath(target, real_root).replace(os.sep, "/")
        elif is_folder:
            pending.append(path + "/")
        elif is_video and reason:
            self.refused_files[path] = reason
        elif is_video:
            self.files[path] = entry
        elif is_archive and reason:
            self.refused_archives[path] = reason
        elif is_archive:
            self.archives[path] = entry
        elif _COMPRESSED_TAR.fullmatch(entry.name):
            self.refused_archives[path] = (
                "is a compressed tar, whose members cannot be read in place. Decompress it to a .tar, or extract it"
            )

    def media(self, path: str, interval_ms: tuple[int | None, int | None] = (None, None)) -> Media:
        """A video below the root (one stat), or the part of it from one time to another."""
        entry = self.files.get(self.followed(path))
        try:
            status = entry.stat() if entry is not None else None
        except OSError:  # a link without its target, or a file that went away since the walk
            status = None
        size, modified_ns = (None, None) if status is None else (status.st_size, status.st_mtime_ns)
        return Media(path, size, modified_ns, from_ms=interval_ms[0], to_ms=interval_ms[1])

    def refusal(self, path: str) -> str | None:
        """Why a path may not be read: itself or a folder above it was refused. ``None``: it may."""
        followed = self.followed(path)
        for place in (followed, *_folders(followed)):
            reason = self.refused_files.get(place) or self.refused_folders.get(place)
            if reason:
                return f"{place!r} {reason}"
        return None

    def followed(self, path: str) -> str:
        """The path with linked folders inside the root replaced by what they are links to."""
        for _ in range(8 if self.links else 0):
            linked = next((folder for folder in _folders(path) if folder in self.links), None)
            if linked is None:
                break
            path = (PurePosixPath(self.links[linked]) / path[len(linked) + 1 :]).as_posix()
        return path

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """File name without suffix → the paths that have it (refused ones too, hidden ones not)."""
        paths: dict[str, list[str]] = {}
        for path in (*self.files, *self.refused_files):
            if not is_hidden(path):
                paths.setdefault(path.rpartition("/")[2].rpartition(".")[0], []).append(path)
        return paths

    def find(self, stem: str, missing: str, prefer: Callable[[str], tuple[Any, ...]]) -> str:
        """Path of the video with this name without suffix, or ``missing`` where there is none.

        Of several one that may be read, then the least by ``prefer``, then the one in the fewest folders, then the
        first by name.
        """
        paths = self.by_stem.get(stem)
        if paths is None:
            return missing
        return min(paths, key=lambda path: (path in self.refused_files, *prefer(path), path.count("/"), path))

    def reject_refused(self, intake: Intake, *others: Mapping[str, str]) -> None:
        """Record the refused folders, and ``others``: rows of the media root itself, numbered from 1."""
        refused = dict(self.refused_folders)
        for other in others:
            refused |= other
        visible = sorted(path for path in refused if not is_hidden(path))
        for number, path in enumerate(visible, 1):
            intake.reject(self.root, number, "bad_path", f"{path!r} {refused[path]}")


def is_hidden(path: str) -> bool:
    """Whether a file or a folder above it has a name that starts with a dot."""
    return path.startswith(".") or "/." in path


def _folders(path: str) -> Iterator[str]:
    """The folders above a relative path, innermost first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
