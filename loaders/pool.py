"""A pool of worker processes that do clips and give the results back in order.

A worker that hangs in a clip, or crashes, is replaced, and what else it had to do is done by the others. The clip that
it had in hand comes back as failed. After a crash it is tried once more first: the kernel's memory killer may have hit
a bystander.
"""

import contextlib
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from loaders.failures import CRASHED, HUNG, FailedClip
from loaders.jobs import Job, PackedViews, attempt
from loaders.memory import BatchMemory
from loaders.order import Draw
from warehouse.catalog.sample import Sample
from warehouse.engine import SINGLE_THREADED

CLIP_SECONDS = 60.0
"""Time for a clip before its worker counts as hung: a thousand times what one takes, or a stall of network storage.

Only the loader's waiting for it counts. Whether a clip is over this is all about a stream that depends on time.
"""
START_SECONDS = 300.0
"""What a worker may take to start: its imports, from storage that a whole cluster starts from at the same time."""
MOST_IN_HAND = 64  # tasks sent to a worker ahead: they have to fit into its pipe while it does not read
MOST_FRUITLESS = 3  # workers in a row that end without a clip in hand or a result, before that is an error
_LOOK_SECONDS, _END_SECONDS = 1.0, 5.0
# glibc would give each clip's frames back to the kernel, and fault them in again for the next. Elsewhere it is ignored.
_KEEP_MEMORY = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**28))
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Result:
    """A clip's outcome. Its pixels are in ``ClipPool.memory`` at ``place`` until the next result is asked for."""

    sample: Sample
    draw: Draw
    place: int
    outcome: PackedViews | FailedClip | None


@dataclass(eq=False)
class _Task:
    number: int
    place: int
    sample: Sample
    draw: Draw
    crashed_before: bool = False


@dataclass(eq=False)
class _Worker:
    """``fruitless`` counts the workers before it in its seat; ``mark`` is what it was seen at for ``waited_s``."""

    seat: int
    process: subprocess.Popen
    connection: Connection
    fruitless: int
    in_hand: deque[_Task] = field(default_factory=deque)
    mark: int = -1
    waited_s: float = 0.0

    def wait(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for storage ends when that answers
            self.process.wait(timeout=_END_SECONDS)

    def end(self) -> None:
        self.connection.close()
        self.process.kill()  # it holds nothing that would need saying good-bye to
        self.wait()


class WorkerDiedError(RuntimeError):
    """A worker process ended by itself: a defect here, or workers cannot start."""


class ClipPool:
    """``workers`` processes; at most ``under_way`` clips are taken on and not yet handed out in batches of ``clips``.

    With 0 workers clips are done where they are asked for, where nothing can be done about one that hangs or crashes.
    Workers live until ``close``, or until the pool is forgotten, and end at once with this process, however it ends.
    """

    def __init__(self, job: Job, workers: int, under_way: int, clips: int = 1) -> None:
        self._job = job
        self.memory = BatchMemory(workers, clips, max(under_way if workers else 1, clips), job.shape)
        self._numbers = itertools.count()
        self._done: dict[int, PackedViews | FailedClip | None] = {}
        self._tasks: Iterator[tuple[Sample, Draw]] = iter(())
        self._under_way: deque[_Task] = deque()  # in the tasks' order
        self._backlog: deque[_Task] = deque()  # of these, not yet sent to a worker
        self._expected = 0  # clips of this pass that came or may still come: the next one's place in its batch
        self._workers: list[_Worker] = []
        # Its reading end, which workers have, tells of the end of this process, which alone has the other one.
        self._lifeline = os.pipe()
        self._finalizer = weakref.finalize(self, _stop, self._workers, self.memory, self._lifeline)
        for seat in range(workers):
            self._workers.append(self._start(seat, 0))

    def results(self, tasks: Iterator[tuple[Sample, Draw]]) -> Iterator[Result]:
        """Do the tasks and give their results in the tasks' order, taking tasks as places become free.

        Raises:
            WorkerDiedError: a worker ended by an error of its own, or workers end before they do anything.
        """
        self._forget_unclaimed()
        self._tasks = tasks
        while True:
            if self._workers:
                self.take_on()
            else:
                self._do_one()
            if not self._under_way:
                return
            task = self._under_way.popleft()
            while task.number not in self._done:
                self._receive()
            self.memory.lend(task.place)
            yield Result(task.sample, task.draw, task.place, self._done.pop(task.number))
            self.memory.settle()

    def take_on(self) -> None:
        """Give the workers, if there are some, the next tasks: as many as there are places for."""
        while self._workers and (task := self._next_task()):
            self._backlog.append(task)
        self._dispatch()

    def _do_one(self) -> None:
        if task := self._next_task():
            self._store(task, attempt(self._job, task.sample, task.draw, self.memory.pixels[task.place]))

    def _next_task(self) -> _Task | None:
        place = self.memory.take(begins_batch=self._expected % self.memory.clips == 0)
        if place is None:
            return None
        following = next(self._tasks, None)
        if following is None:
            self.memory.release(place)
            return None
        self._expected += 1
        task = _Task(next(self._numbers), place, *following)
        self._under_way.append(task)
        return task

    def close(self) -> None:
        """End the workers. Safe to call again."""
        self._finalizer()

    def _store(self, task: _Task, outcome: PackedViews | FailedClip | None) -> None:
        self._done[task.number] = outcome
        self._expected -= isinstance(outcome, FailedClip)

    def _dispatch(self) -> None:
        while self._backlog:
            worker = min(self._workers, key=lambda candidate: len(candidate.in_hand))
            if len(worker.in_hand) == MOST_IN_HAND:
                return
            task = self._backlog.popleft()
            worker.in_hand.append(task)
            try:
                worker.connection.send((task.number, task.place, task.sample, task.draw))
            except (BrokenPipeError, ConnectionResetError):
                return  # it has ended, which `_receive` finds, and gives its tasks to the others

    def _receive(self) -> None:
        """Take what workers have sent, or find out what is wrong with those that send nothing."""
        began = time.monotonic()
        ready = wait([worker.connection for worker in self._workers], _LOOK_SECONDS)
        # Capped: while this process is stopped, workers may be so, too.
        waited_s = min(time.monotonic() - began, _LOOK_SECONDS)
        for worker in tuple(self._workers):
            if worker.connection in ready:
                self._take(worker)
            elif worker.in_hand:
                self._watch(worker, waited_s)
        self._dispatch()

    def _take(self, worker: _Worker) -> None:
        try:
            _, outcome = worker.connection.recv()
        except (EOFError, OSError):  # also one that ended within a message
            self._replace(worker, hung=False)
            return
        worker.fruitless = 0
        self._store(worker.in_hand.popleft(), outcome)

    def _watch(self, worker: _Worker, waited_s: float) -> None:
        mark = int(self.memory.marks[worker.seat])
        if mark != worker.mark:
            worker.mark, worker.waited_s = mark, 0.0
        worker.waited_s += waited_s
        if worker.waited_s > (CLIP_SECONDS if mark >= 0 else START_SECONDS):
            self._replace(worker, hung=True)

    def _replace(self, worker: _Worker, hung: bool) -> None:
        if not hung:
            worker.wait()  # it has closed its end: what counts is its own status, not that of a kill
        worker.end()
        mark, status = int(self.memory.marks[worker.seat]), worker.process.returncode
        how = "was killed, as it hung" if hung or status is None else f"ended by {_cause(status)}"
        task = worker.in_hand.popleft() if worker.in_hand and worker.in_hand[0].number == mark else None
        fruitless = 0 if task else worker.fruitless + 1
        if not hung and status is not None and status >= 0:
            clip = f"on clip {task.sample.clip_id} in {task.sample.shard}" if task else "without a clip in hand"
            raise WorkerDiedError(f"a loader's worker {how} {clip}; its own message is on stderr")
        if fruitless > MOST_FRUITLESS:
            raise WorkerDiedError(f"{fruitless} loader's workers in a row ended with nothing done, the last one {how}")
        if task is not None:
            self._fail(task, how, hung)
        else:
            _log.warning("a loader's worker %s without a clip in hand, and is replaced", how)
        self._backlog.extendleft(reversed(worker.in_hand))
        self._workers[worker.seat] = self._start(worker.seat, fruitless)

    def _fail(self, task: _Task, how: str, hung: bool) -> None:
        sample = task.sample
        what = f"clip {sample.clip_id} in {sample.shard} (bytes {sample.offset}+{sample.size}): a loader's worker {how}"
        if hung:
            self._store(task, FailedClip(sample.clip_id, HUNG, f"{what} after {CLIP_SECONDS:.0f} s in it"))
        elif task.crashed_before:
            self._store(task, FailedClip(sample.clip_id, CRASHED, f"{what} in it, the second that crashed"))
        else:
            _log.warning("%s in it. It is tried once more", what)
            task.crashed_before = True
            self._backlog.appendleft(task)

    def _start(self, seat: int, fruitless: int) -> _Worker:
        ours, theirs = Pipe()
        self.memory.marks[seat] = -1
        fds = (theirs.fileno(), self.memory.fd, self._lifeline[0])
        command = [sys.executable, "-m", "loaders.worker", str(seat), *map(str, fds)]
        # The worker sees the modules that this process sees, and leaves the other cores to the other workers.
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        environment = {**os.environ, **SINGLE_THREADED, **_KEEP_MEMORY, "PYTHONPATH": path}
        process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=environment)
        theirs.close()
        ours.send((self._job, len(self.memory.marks), self.memory.places))
        return _Worker(seat, process, ours, fruitless)

    def _forget_unclaimed(self) -> None:
        """Wait for what an abandoned iteration left under way: its places are about to be written again."""
        while self._backlog or any(worker.in_hand for worker in self._workers):
            self._receive()
        self._done.clear()
        self._under_way.clear()
        self.memory.reset()
        self._expected = 0


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"


def _stop(workers: list[_Worker], memory: BatchMemory, lifeline: tuple[int, int]) -> None:
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.end()
    memory.close()
    for fd in lifeline:
        os.close(fd)
