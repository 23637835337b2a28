"""The sampled frames of some clips, at hand for comparing: on disk, so that memory does not grow with the clips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from warehouse.curation.hash_rows import VARIANTS, HashRows, read_hash_rows

Frames = tuple[np.ndarray, np.ndarray]
"""Times in ms, int64 (n,), ascending, and hashes, uint64 (n, 4), of a clip's sampled frames."""


def write_clip_frames(folder: Path, clips: int, files: Sequence[tuple[Path, np.ndarray, np.ndarray]]) -> None:
    """Write the files that :class:`ClipFrames` reads.

    Args:
        folder: an empty folder for the files.
        clips: how many clips are numbered.
        files: for each source a part of ``frame_hashes``, the ids of the clips wanted from it (ascending) and their
            numbers.
    """
    start = np.zeros((clips, len(VARIANTS)), np.int64)
    count = np.zeros((clips, len(VARIANTS)), np.int32)
    rows = 0
    with (folder / "t_ms").open("wb") as times, (folder / "hashes").open("wb") as hashes:
        for path, ids, numbers in files:
            for block in read_hash_rows(path, ids):
                first = _first_rows(block)
                clip, variant = numbers[block.clip[first]], block.variant[first]
                start[clip, variant] = rows + first
                count[clip, variant] = np.diff(np.r_[first, len(block)])
                times.write(block.t_ms.tobytes())
                hashes.write(block.hashes.tobytes())
                rows += len(block)
    np.save(folder / "start.npy", start)
    np.save(folder / "count.npy", count)


def _first_rows(block: HashRows) -> np.ndarray:
    """Where a clip or a variant begins."""
    changes = (block.clip[1:] != block.clip[:-1]) | (block.variant[1:] != block.variant[:-1])
    return np.flatnonzero(np.r_[True, changes])


class ClipFrames:
    """Frames by clip number and variant, in files of ``folder`` that are mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self._start = np.load(folder / "start.npy", mmap_mode="r")
        self._count = np.load(folder / "count.npy", mmap_mode="r")
        # An empty file cannot be mapped.
        any_rows = (folder / "t_ms").stat().st_size > 0
        self._times = np.memmap(folder / "t_ms", np.int64, "r") if any_rows else np.empty(0, np.int64)
        self._hashes = np.memmap(folder / "hashes", np.uint64, "r").reshape(-1, 4) if any_rows else np.empty((0, 4))

    def of(self, clip: int, variants: Sequence[int]) -> dict[int, Frames]:
        """A clip's frames in those of the variants that it has."""
        found = {}
        for variant in variants:
            start, count = int(self._start[clip, variant]), int(self._count[clip, variant])
            if count:
                rows = slice(start, start + count)
                found[variant] = np.asarray(self._times[rows]), np.asarray(self._hashes[rows])
        return found

    def variants(self, clips: np.ndarray, among: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How many of the variants each clip has, and start and number of the rows of the first of these, all (n,)."""
        counts = self._count[clips][:, among]
        first = np.asarray(among)[(counts > 0).argmax(axis=1)]
        return (counts > 0).sum(axis=1), self._start[clips, first], self._count[clips, first]

    def rows(self, places: np.ndarray) -> np.ndarray:
        """Hashes, uint64 (*places.shape, 4), at places of the file."""
        return self._hashes[places]
