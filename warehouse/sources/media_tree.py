"""One walk over a media root: which video files there are, and what must not be touched."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from warehouse.sources.listing import Intake, Media, SourceError

VIDEO_SUFFIXES = frozenset((
    ".3g2", ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
    ".ts", ".webm", ".wmv", ".y4m",
))


@dataclass
class MediaTree:
    """The video files below a media root, by path relative to it (with ``/``).

    Files without a video suffix are left out. A link to a folder inside the root is not descended into (its files
    are reached by their real path) but remembered in ``links``. ``refused_files`` and ``refused_folders`` map
    what is there but may not be read (links that leave the root, unreadable folders, pipes and devices, names
    that are not UTF-8) to the reason.
    """

    root: Path
    files: dict[str, os.DirEntry[str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    refused_files: dict[str, str] = field(default_factory=dict)
    refused_folders: dict[str, str] = field(default_factory=dict)

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
        return tree

    def _place(self, entry: os.DirEntry[str], path: str, real_root: str, pending: list[str]) -> None:
        """Put one entry where it belongs; folders to descend into go to ``pending``."""
        is_video = os.path.splitext(entry.name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122 - a million times
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

    def media(self, path: str) -> Media:
        """Size and time of a path below the root (one stat); ``None`` for both if the file is not there."""
        entry = self.files.get(self._followed(path))
        try:
            status = entry.stat() if entry is not None else None
        except OSError:  # a link without its target, or a file that went away since the walk
            status = None
        return Media(path, status.st_size, status.st_mtime_ns) if status is not None else Media(path, None, None)

    def refusal(self, path: str) -> str | None:
        """Why a path may not be read: itself or a folder above it was refused. ``None``: it may."""
        followed = self._followed(path)
        for place in (followed, *_folders(followed)):
            reason = self.refused_files.get(place) or self.refused_folders.get(place)
            if reason:
                return f"{place!r} {reason}"
        return None

    def _followed(self, path: str) -> str:
        """The path with linked folders inside the root replaced by what they are links to."""
        for _ in range(8 if self.links else 0):
            linked = next((folder for folder in _folders(path) if folder in self.links), None)
            if linked is None:
                break
            path = (PurePosixPath(self.links[linked]) / path[len(linked) + 1 :]).as_posix()
        return path

    def by_stem(self) -> dict[str, list[str]]:
        """File name without suffix → the paths that have it (refused ones too, hidden ones not)."""
        paths: dict[str, list[str]] = {}
        for path in (*self.files, *self.refused_files):
            if not is_hidden(path):
                paths.setdefault(path.rpartition("/")[2].rpartition(".")[0], []).append(path)
        return paths

    def reject_folders(self, intake: Intake) -> None:
        """Record the refused folders: rows of the media root itself, numbered from 1."""
        visible = sorted(path for path in self.refused_folders if not is_hidden(path))
        for number, path in enumerate(visible, 1):
            intake.reject(self.root, number, "bad_path", f"{path!r} {self.refused_folders[path]}")


def is_hidden(path: str) -> bool:
    """Whether a file or a folder above it has a name that starts with a dot."""
    return path.startswith(".") or "/." in path


def _folders(path: str) -> Iterator[str]:
    """The folders above a relative path, innermost first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
