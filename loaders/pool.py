"""A pool of worker processes that do clips and give the results back in order."""

import itertools
import mmap
import os
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

import numpy as np

from loaders.failures import FailedClip
from loaders.jobs import Job, PackedViews, attempt
from loaders.order import Draw
from warehouse.catalog.snapshots import Sample


@dataclass(frozen=True, eq=False)
class Result:
    """A clip's outcome. ``pixels`` are valid until the next result is asked for: copy them."""

    sample: Sample
    draw: Draw
    pixels: np.ndarray
    outcome: PackedViews | FailedClip | None


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen
    connection: Connection
    in_hand: deque[tuple[int, Sample]]


class WorkerDiedError(RuntimeError):
    """A worker process ended by itself: a defect here, or a decoder that crashed."""


class ClipPool:
    """``workers`` processes share ``slots`` places for pixels; at most so many clips are under way.

    With 0 workers clips are done where they are asked for. Workers live until ``close`` or until the pool is
    forgotten, and end at once when this process ends, however it ends.
    """

    def __init__(self, job: Job, workers: int, slots: int) -> None:
        self._job = job
        self._slots = slots if workers else 1
        self._numbers = itertools.count()
        self._done: dict[int, PackedViews | FailedClip | None] = {}
        size = self._slots * int(np.prod(job.shape))
        memory_fd = _memory_file(max(size, 1))
        try:
            memory = mmap.mmap(memory_fd, max(size, 1))
            self._pixels = np.frombuffer(memory, np.uint8)[:size].reshape(self._slots, *job.shape)
            self._workers = [_start_worker(job, self._slots, memory_fd, len(memory)) for _ in range(workers)]
        finally:
            os.close(memory_fd)
        self._finalizer = weakref.finalize(self, _stop_workers, self._workers)

    def results(self, tasks: Iterator[tuple[Sample, Draw]]) -> Iterator[Result]:
        """Do the tasks and give their results in the tasks' order, taking tasks as places become free.

        Raises:
            WorkerDiedError: names the clip that the worker had in hand.
        """
        if not self._workers:
            for sample, draw in tasks:
                pixels = self._pixels[0]
                yield Result(sample, draw, pixels, attempt(self._job, sample, draw, pixels))
            return
        self._forget_unclaimed()
        free = list(range(self._slots))
        sent: deque[tuple[int, int, Sample, Draw]] = deque()
        while True:
            for sample, draw in itertools.islice(tasks, len(free)):
                number, slot = next(self._numbers), free.pop()
                self._send(number, slot, sample, draw)
                sent.append((number, slot, sample, draw))
            if not sent:
                return
            number, slot, sample, draw = sent.popleft()
            while number not in self._done:
                self._receive()
            yield Result(sample, draw, self._pixels[slot], self._done.pop(number))
            free.append(slot)

    def close(self) -> None:
        """End the workers. Safe to call again."""
        self._finalizer()

    def _send(self, number: int, slot: int, sample: Sample, draw: Draw) -> None:
        worker = min(self._workers, key=lambda candidate: len(candidate.in_hand))
        worker.in_hand.append((number, sample))
        try:
            worker.connection.send((number, slot, sample, draw))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _died(worker) from error

    def _receive(self) -> None:
        ready = wait([worker.connection for worker in self._workers])
        for worker in self._workers:
            if worker.connection in ready:
                try:
                    number, outcome = worker.connection.recv()
                except (EOFError, ConnectionResetError) as error:
                    raise _died(worker) from error
                self._done[number] = outcome
                worker.in_hand.popleft()

    def _forget_unclaimed(self) -> None:
        """Wait for what an abandoned iteration left under way: its places are about to be written again."""
        while any(worker.in_hand for worker in self._workers):
            self._receive()
        self._done.clear()


def _memory_file(size: int) -> int:
    """A file without a name: memory that lasts as long as a process has it, and cannot be left behind."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("reelhouse-clips")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def _start_worker(job: Job, slots: int, memory_fd: int, memory_bytes: int) -> _Worker:
    ours, theirs = Pipe()
    fds = (theirs.fileno(), memory_fd)
    command = [sys.executable, "-m", "loaders.worker", *map(str, fds), str(memory_bytes)]
    # The worker sees the modules that this process sees, and leaves the other cores to the other workers.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=environment)
    theirs.close()
    ours.send((job, slots))
    return _Worker(process, ours, deque())


def _stop_workers(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.process.kill()  # it holds nothing that would need saying good-bye to
        worker.process.wait()


def _died(worker: _Worker) -> WorkerDiedError:
    status = worker.process.wait()
    sample = worker.in_hand[0][1] if worker.in_hand else None
    clip = f"on clip {sample.clip_id} in {sample.shard}" if sample else "before its first clip"
    return WorkerDiedError(f"a loader's worker ended with status {status} {clip}; its own message is on stderr")
