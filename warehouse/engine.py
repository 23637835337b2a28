"""The seam behind which per-video work runs: :func:`map_unordered` over units in killable local processes.

A decoder fed with untrusted files may crash or hang. So a unit runs in a process of its own that can be killed,
and a unit that dies or takes too long is split into its items until the poison item is found, which comes back as
a :class:`Failure`. Only what pickles crosses the seam: paths and rows, never pixels.
"""

import multiprocessing
import os
import pickle
import queue
import resource
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from warehouse.error_classes import CRASHED, HUNG, TOO_LARGE

Item = TypeVar("Item")
Result = TypeVar("Result")

MEMORY_BYTES = 4 * 2**30
"""Memory that one process may allocate: about 80 decoded frames of 8K video, where a decoder holds 20."""

# How a process ends whose work ran out of its memory. No decoder and no shell uses this status.
_OUT_OF_MEMORY = 117

# One process per core is the parallelism; libraries that start threads of their own would oversubscribe the cores.
SINGLE_THREADED = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OPENCV_FOR_THREADS_NUM"),
    "1",
)


def available_cores() -> int:
    """Cores that this process may run on: a batch system lends a job some of its node's."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerError(RuntimeError):
    """A worker could not start, or raised something that cannot cross a process boundary."""


@dataclass(frozen=True)
class Failure(Generic[Item]):
    """An item whose process died, hung or ran out of memory while it was alone in it.

    ``error_class`` is ``decoder_crashed``, ``decoder_hung`` or ``too_large``; ``detail`` says how the process ended.
    """

    item: Item
    error_class: str
    detail: str


@dataclass
class _Unit:
    """A unit being worked on: ``results`` fills up, item by item if it had to be split."""

    items: Sequence[Any]
    results: list[Any]
    missing: int


@dataclass
class _Task:
    """What one process is given: items ``[start:stop]`` of a unit, perhaps after a failure."""

    unit: _Unit
    start: int
    stop: int
    again: bool = False

    @property
    def items(self) -> list[Any]:
        return list(self.unit.items[self.start : self.stop])


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    ready: bool = False
    task: _Task | None = None
    deadline: float = float("inf")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def map_unordered(
    fn: Callable[[list[Item]], list[Result]],
    units: Iterable[Sequence[Item]],
    *,
    workers: int,
    timeout_s: float,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[tuple[Sequence[Item], list[Result | Failure[Item]]]]:
    """Apply ``fn`` to every unit in ``workers`` processes; yields ``(unit, results)`` as units finish.

    ``results`` has one entry for each item of the unit, in its order: what ``fn`` returned for it, or a
    :class:`Failure` if the item kills or hangs its process. Every unit is yielded exactly once, whatever happens
    to the processes; the consumer counts progress from what it receives. ``units`` is read lazily.

    Args:
        fn: importable top-level function; takes a list of items, returns one result for each. It may run again on
            the same items (after a crash), so it must be idempotent.
        units: sequences of picklable items.
        workers: number of processes, at least 1.
        timeout_s: seconds allowed per item; a unit may take this times its length.
        memory_bytes: bytes that a process may allocate. One that runs into this limit counts as one that died.

    Raises:
        Exception: whatever ``fn`` raises (a bug, not a poison item), with the worker's traceback as a note.
        WorkerError: a process ends before it takes work, or ``fn`` raises what cannot be pickled.
        ValueError: fewer than one worker, or ``fn`` returns another number of results than items.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    source, waiting, pool = iter(units), deque[_Task](), list[_Worker]()
    pickled, exhausted = pickle.dumps(fn), False
    try:
        while True:
            busy = sum(worker.task is not None for worker in pool)
            while not exhausted and len(waiting) < workers - busy:
                items = next(source, None)
                if items is None:
                    exhausted = True
                elif items:
                    waiting.append(_Task(_Unit(items, [None] * len(items), len(items)), 0, len(items)))
                else:
                    yield items, []
            if not waiting and not busy:
                return
            pool.extend(_start(pickled, memory_bytes) for _ in range(min(len(waiting) + busy, workers) - len(pool)))
            for worker in pool:
                if worker.ready and worker.task is None and waiting:
                    _assign(worker, waiting.popleft(), timeout_s)
            finished = []
            for worker in _changed(pool):
                task, (kind, value) = worker.task, _receive(worker)
                worker.task, worker.deadline = None, float("inf")
                if kind == "ready":
                    worker.ready = True
                    continue
                if kind == "lost":
                    pool.remove(worker)
                    if not worker.ready:
                        raise WorkerError(f"a worker process ended before it took work ({value.detail}); "
                                          "guard the main module with `if __name__ == '__main__'`")  # fmt: skip
                    if task is None:
                        continue  # killed from outside while idle
                    again = _tasks_after(task, value)
                    waiting.extendleft(reversed(again))
                    if again:
                        continue
                    value = [replace(value, item=task.items[0])]
                assert task is not None  # only a worker with a task answers
                _store(task, value, fn)
                if not task.unit.missing:
                    finished.append((task.unit.items, task.unit.results))
            yield from finished
    finally:
        for worker in pool:
            worker.kill()


def _start(fn: bytes, memory_bytes: int) -> _Worker:
    """A new process that imports what the pickled ``fn`` needs and then says that it is ready."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, fn, memory_bytes), name="map_unordered", daemon=True)
    # Set while it starts: the process imports our main module, and with it perhaps numpy, before any code of ours runs.
    before = {name: os.environ.get(name) for name in SINGLE_THREADED}
    os.environ.update(SINGLE_THREADED)
    try:
        process.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    theirs.close()
    return _Worker(process, ours)


def _assign(worker: _Worker, task: _Task, timeout_s: float) -> None:
    worker.task, worker.deadline = task, time.monotonic() + timeout_s * (task.stop - task.start)
    try:
        worker.connection.send(task.items)
    except (BrokenPipeError, ConnectionResetError):
        return  # it died while idle: its closed pipe reports that in the next round, and the task is tried again


def _changed(pool: list[_Worker]) -> list[_Worker]:
    """Wait until workers have a message, have died or have run past their deadline; returns these."""
    nearest = min(worker.deadline for worker in pool)
    timeout = None if nearest == float("inf") else max(0.0, nearest - time.monotonic())
    readable = wait([worker.connection for worker in pool], timeout)
    return [w for w in pool if w.connection in readable or w.deadline <= time.monotonic()]


def _receive(worker: _Worker) -> tuple[str, Any]:
    """``("ready", None)``, ``("done", results)`` or ``("lost", Failure)``. Raises what ``fn`` raised."""
    try:
        if not worker.connection.poll():  # a result that is there counts, however late the consumer asked for it
            worker.kill()
            return "lost", Failure(None, HUNG, "killed: it ran past its time limit")
        kind, value = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(timeout=1)  # its own exit code, not that of our kill
        worker.kill()
        code = worker.process.exitcode or 0
        if code == _OUT_OF_MEMORY:
            return "lost", Failure(None, TOO_LARGE, "it ran into the memory limit of its process")
        return "lost", Failure(None, CRASHED, signal.Signals(-code).name if code < 0 else f"exit status {code}")
    if kind == "raised":
        raise value
    return kind, value


def _tasks_after(task: _Task, failure: Failure) -> list[_Task]:
    """What to try after a failure: each item alone, or nothing if the task's only item is the poison.

    Items alone rather than halves: a unit that hangs costs its whole time limit once, not at every level. A crash of
    an item that was alone from the start is tried once more, as the kernel's memory killer may have hit a bystander.
    """
    if task.stop - task.start > 1:
        return [_Task(task.unit, i, i + 1, again=True) for i in range(task.start, task.stop)]
    if failure.error_class == CRASHED and not task.again:
        return [replace(task, again=True)]
    return []


def _store(task: _Task, results: Any, fn: Callable) -> None:
    size = task.stop - task.start
    if not isinstance(results, list) or len(results) != size:
        raise ValueError(f"{fn.__qualname__} must return a list of {size} results, one for each item")
    task.unit.results[task.start : task.stop] = results
    task.unit.missing -= size


def _serve(connection: Connection, pickled_fn: bytes, memory_bytes: int) -> None:
    """A worker's main loop. The thread that reads commands also ends the process when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which kills its workers
    # The limit on data, not on address space: libraries reserve far more of that than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    fn = pickle.loads(pickled_fn)
    inbox: queue.SimpleQueue[list] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    connection.send(("ready", None))
    while True:
        items = inbox.get()
        try:
            answer = ("done", fn(items))
        except MemoryError:
            os._exit(_OUT_OF_MEMORY)
        except Exception as error:  # whatever it is, it is raised in the parent
            answer = ("raised", _portable(error))
        connection.send(answer)


def _portable(error: Exception) -> Exception:
    """``error`` with its traceback as a note, or a ``WorkerError`` that quotes it if it does not survive pickling."""
    text = "in a worker process:\n" + "".join(traceback.format_exception(error))
    error.add_note(text)
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except (pickle.PicklingError, TypeError, AttributeError):
        pass
    return WorkerError(text)
