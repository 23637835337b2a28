"""The next batches are made by a thread while the model computes.

A thread is enough: what takes time (workers' packets, DALI's decoding, copies on the device) waits outside of Python.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

Item = TypeVar("Item")
_LOOK_S = 0.1  # how often a waiting thread looks whether it is still wanted


class Prefetched(Generic[Item]):
    """The items of an iterator, of which up to ``depth`` wait; an exception is raised where it arose, once.

    ``items`` is called, and its iterator used, in the thread alone. ``done`` is called there at last, also where this
    object is closed or forgotten.
    """

    def __init__(self, items: Callable[[], Iterator[Item]], done: Callable[[], None], depth: int = 1) -> None:
        self._queue: Queue[Item | Exception] = Queue(depth)
        self._wanted = threading.Event()
        self._wanted.set()
        self._thread = threading.Thread(target=_make, args=(items, done, self._queue, self._wanted), daemon=True)
        self._finalizer = weakref.finalize(self, _end, self._thread, self._wanted)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        while True:
            try:
                item = self._queue.get(timeout=_LOOK_S)
                break
            except Empty:
                if not self._thread.is_alive() and self._queue.empty():
                    raise RuntimeError("no more batches: the loader was closed, or ended by an error") from None
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """End the thread when it is done with the item it makes. Safe to call again."""
        self._finalizer()


def _make(
    items: Callable[[], Iterator[Item]],
    done: Callable[[], None],
    queue: "Queue[Item | Exception]",
    wanted: threading.Event,
) -> None:
    try:
        iterator = items()
        while wanted.is_set():
            try:
                item: Item | Exception = next(iterator)
            except Exception as error:
                _put(queue, error, wanted)
                return
            _put(queue, item, wanted)
    finally:
        done()


def _put(queue: "Queue[Item | Exception]", item: Item | Exception, wanted: threading.Event) -> None:
    while wanted.is_set():
        try:
            queue.put(item, timeout=_LOOK_S)
            return
        except Full:
            pass


def _end(thread: threading.Thread, wanted: threading.Event) -> None:
    wanted.clear()
    if thread is not threading.current_thread():  # where the garbage collector runs in it
        thread.join()
