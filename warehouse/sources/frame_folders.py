"""Videos as people have them when they were extracted: a folder of numbered images for each.

An image's number is the last one in its name (``img_00001.jpg``, ``image_000001.jpg``, ``00001.jpg``), as where they
are read (:mod:`warehouse.media_bytes`). Links are not frames.
"""

import os
import re

from warehouse.media_bytes import IMAGE_SUFFIXES
from warehouse.sources.listing import Media, SourceError
from warehouse.sources.media_tree import MediaTree, is_hidden

_NUMBER = re.compile(r"(\d+)\D*$")
Frames = dict[int, tuple[int, int]]
"""Number of a frame → its bytes and modification time."""


class FrameFolders:
    """The folders of frames below a media root, at one frame rate (images do not say theirs)."""

    def __init__(self, tree: MediaTree, frame_rate: float) -> None:
        self.tree = tree
        self.frame_rate = frame_rate
        self._last: tuple[str, Frames] = ("", {})  # the clips of one folder stand together in lists

    @classmethod
    def of_source(cls, tree: MediaTree, source: str, frame_rate: float | None) -> "FrameFolders":
        """Raise SourceError where the source does not say its frame rate."""
        if frame_rate is None:
            raise SourceError(f"{tree.root}: source {source!r} lists folders of frames, which do not say their rate. "
                              f"Add `frame_rate = ...`, in frames per second, to [sources.{source}]")
        return cls(tree, frame_rate)

    def whole(self, path: str) -> Media:
        """All frames of a folder, which need not be there."""
        return self._media(path, self._frames(path), None, None)

    def part(self, path: str, first: int, count: int) -> Media:
        """``count`` frames of a folder from number ``first``; none of them is there, or all.

        Raises:
            LookupError: the folder is there, and some of these frames are not in it; says which it has.
        """
        frames = self._frames(path)
        # Nobody's number of frames makes us count to a thousand million.
        numbers = range(first, first + min(count, len(frames)))
        wanted = {number: frames[number] for number in numbers if number in frames}
        if frames and len(wanted) < count:
            raise LookupError(f"the folder has {len(frames)} frames from {min(frames)} to {max(frames)}, "
                              f"and the line names {first} to {first + count - 1}")
        return self._media(path, wanted, first, count)

    def _media(self, path: str, frames: Frames, first: int | None, count: int | None) -> Media:
        size = sum(bytes_ for bytes_, _ in frames.values()) if frames else None
        modified_ns = max((modified for _, modified in frames.values()), default=None)
        return Media(path, size, modified_ns, frame_rate=self.frame_rate, first_frame=first, frame_count=count)

    def _frames(self, path: str) -> Frames:
        if path == self._last[0]:
            return self._last[1]
        frames: Frames = {}
        try:
            with os.scandir(self.tree.root / self.tree.followed(path)) as entries:
                for entry in entries:
                    stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - a million times
                    number = _NUMBER.search(stem)
                    if suffix.lower() in IMAGE_SUFFIXES and number and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        frames[int(number[1])] = (status.st_size, status.st_mtime_ns)
        except OSError:  # not there, or gone since the walk; a folder that cannot be read was refused by it
            frames = {}
        self._last = (path, frames)
        return frames


def folders_by_name(tree: MediaTree) -> dict[str, str]:
    """Name of a folder of frames → its path: of several the one in the fewest folders, then the first by name."""
    visible = (path for path in tree.frame_folders if path and not is_hidden(path))
    ranked = sorted(visible, key=lambda path: (path.count("/"), path), reverse=True)
    return {path.rpartition("/")[2]: path for path in ranked}
