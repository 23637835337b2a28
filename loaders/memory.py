"""The memory that worker processes write pixels into, and that batches are handed out of without a copy.

It is a ring of places, each as large as what a job makes of one clip. The clips of a batch get places one after the
other as long as none of them fails, and then the batch is a piece of this memory. Of a batch in which a clip has failed
the others are moved together by a copy.
"""

import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence

import numpy as np

LEASES = 2
"""Batches that may be outside at one time as pieces of the memory: one in use, and one that is being copied or is next.

Whoever keeps more (a list of batches, say) gets copies: memory that is outside is memory that no clip can go to.
"""
_PAGE = mmap.PAGESIZE


def map_memory(fd: int, workers: int, places: int, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A process's view of the memory in a file: (int64 (workers,): marks, uint8 (places, \\*shape): pixels).

    A worker's mark is the number of the task that it has begun and not ended, or -1.
    """
    size = places * int(np.prod(shape))
    mapped = mmap.mmap(fd, _head_bytes(workers) + max(size, 1))
    marks = np.frombuffer(mapped, np.int64, workers)
    pixels = np.frombuffer(mapped, np.uint8, size, _head_bytes(workers))
    return marks, pixels.reshape(places, *shape)


def _head_bytes(workers: int) -> int:
    return -(-8 * workers // _PAGE) * _PAGE  # whole pages: pixels can then be registered with CUDA on their own


class BatchMemory:
    """Places for clips, given out in order: ``under_way`` of them at most, and more that handed-out batches occupy.

    Args:
        workers: processes that write into it.
        clips: clips in a batch.
        under_way: places that are taken and not yet part of a batch, at most; at least ``clips``.
        shape: of what is written for a clip.
    """

    def __init__(self, workers: int, clips: int, under_way: int, shape: Sequence[int]) -> None:
        self.clips = clips
        self.places = under_way + (LEASES + 1) * clips
        self.fd = _nameless_file(_head_bytes(workers) + max(self.places * int(np.prod(shape)), 1))
        self.marks, self.pixels = map_memory(self.fd, workers, self.places, shape)
        self.marks[:] = -1
        self._under_way, self._most = 0, under_way
        self._free = np.ones(self.places, bool)
        self._next = 0
        self._lent: int | None = None
        self._held: set[int] = set()
        self._leases: dict[int, int] = {}  # first place → places

    def take(self, begins_batch: bool) -> int | None:
        """A free place, or ``None`` if as many as may be are under way. A batch begins where all of it has room."""
        if self._under_way == self._most:
            return None
        if begins_batch:
            self._next = self._room_for_batch()
        if self._next >= self.places or not self._free[self._next]:
            self._next = int(np.argmax(np.roll(self._free, -self._next)) + self._next) % self.places
        place = self._next
        self._free[place] = False
        self._next += 1
        self._under_way += 1
        return place

    def _room_for_batch(self) -> int:
        """The next start of as many free places as a batch has; where there is none, as before."""
        free_up_to = np.concatenate([[0], np.cumsum(self._free)])
        starts = np.flatnonzero(free_up_to[self.clips :] - free_up_to[: -self.clips] == self.clips)
        if not len(starts):
            return self._next
        later = starts[starts >= self._next]
        return int(later[0] if len(later) else starts[0])

    def lend(self, place: int) -> None:
        """A result is given out: what it wrote stays until the next one is asked for, or longer if it is held."""
        self._lent = place

    def hold(self, place: int) -> None:
        """Keep what is in the place that is lent."""
        assert place == self._lent
        self._lent = None
        self._held.add(place)

    def settle(self) -> None:
        """The next result is asked for: the place that was lent is free, unless it is held."""
        if self._lent is not None:
            self.release(self._lent)
            self._lent = None

    def release(self, place: int) -> None:
        """A place that was under way is free again."""
        self._held.discard(place)
        self._free[place] = True
        self._under_way -= 1
        if place == self._next - 1:
            self._next = place  # the last one given out: nothing lies behind it

    def reset(self) -> None:
        """Nothing is under way any more; batches that are outside stay."""
        self._held.clear()
        self._lent, self._under_way = None, 0
        self._free[:] = True
        for first, count in tuple(self._leases.items()):
            self._free[first : first + count] = False

    def lease(self, first: int, count: int) -> np.ndarray | None:
        """The held places from ``first`` on as one array, theirs until it is forgotten; ``None``: too many are outside.

        Returns:
            uint8 (count, \\*shape).
        """
        if len(self._leases) == LEASES:
            return None
        lease = _Lease(self.pixels[first : first + count])
        self._held.difference_update(range(first, first + count))
        self._under_way -= count
        self._leases[first] = count
        weakref.finalize(lease, _give_back, self._free, self._leases, first, count).atexit = False
        return np.asarray(lease)

    def close(self) -> None:
        """Close the file; what is mapped stays as long as somebody has a batch of it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class _Lease:
    """What a handed-out array, and every view of it, keeps alive: of a plain slice they would keep all the memory."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self.__array_interface__ = rows.__array_interface__


def _give_back(free: np.ndarray, leases: dict[int, int], first: int, count: int) -> None:
    free[first : first + count] = True
    del leases[first]


class BatchBuilder:
    """Puts the results of a batch together: the places themselves where they follow each other, else a copy."""

    def __init__(self, memory: BatchMemory) -> None:
        self._memory = memory
        self._places: list[int] = []
        self._copy: np.ndarray | None = None
        self._count = 0

    def add(self, place: int) -> None:
        """The batch's next clip lies in this place."""
        if self._copy is None and self._places and place != self._places[-1] + 1:
            self._copy_out()
        if self._copy is None:
            self._memory.hold(place)
            self._places.append(place)
        else:
            self._copy[self._count] = self._memory.pixels[place]
        self._count += 1

    def finish(self) -> np.ndarray:
        """The pixels of all clips added, uint8 (clips, \\*shape), the caller's for as long as it likes."""
        if self._copy is None:
            rows = self._memory.lease(self._places[0], len(self._places))
            if rows is not None:
                return rows
            self._copy_out()
        assert self._copy is not None
        return self._copy[: self._count]

    def abandon(self) -> None:
        """Let go of the clips added."""
        for place in self._places:
            self._memory.release(place)
        self._places = []

    def _copy_out(self) -> None:
        pixels = self._memory.pixels
        self._copy = np.empty((self._memory.clips, *pixels.shape[1:]), np.uint8)
        for row, place in enumerate(self._places):
            self._copy[row] = pixels[place]
        self.abandon()


def _nameless_file(size: int) -> int:
    """A file without a name: memory that lasts as long as a process has it, and cannot be left behind."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("reelhouse-clips")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd
