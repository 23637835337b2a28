"""A worker process: clips in, pixels (or packets) out. Started by ``pool.ClipPool`` as ``python -m loaders.worker``.

A plain child process rather than one of ``multiprocessing``: it imports neither the main module nor torch, a caller
needs no ``__main__`` guard, and nothing of the caller's threads or CUDA state is copied into it.
"""

import faulthandler
import fcntl
import gc
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

import cv2

from loaders.jobs import attempt
from loaders.memory import map_memory


def main(seat: int, connection_fd: int, memory_fd: int, lifeline_fd: int) -> None:
    """Answer every (number, place, sample, draw) with (number, result); pixels go into the place of the memory."""
    die_with_parent(lifeline_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends us
    faulthandler.enable()  # a decoder that crashes leaves a traceback on stderr
    cv2.setNumThreads(1)
    connection = Connection(connection_fd)
    job, workers, places = connection.recv()
    marks, pixels = map_memory(memory_fd, workers, places, job.shape)
    gc.freeze()  # what modules hold stays: no collection needs to look at it again
    tasks: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    while True:
        number, place, sample, draw = tasks.get()
        marks[seat] = number
        outcome = attempt(job, sample, draw, pixels[place])
        marks[seat] = -1
        try:
            connection.send((number, outcome))
        except (BrokenPipeError, ConnectionResetError):
            return


def die_with_parent(lifeline_fd: int) -> None:
    """Be killed by the kernel when the other end of a pipe is closed: no decoder can hold that up, whatever it does.

    Elsewhere than on Linux the thread that receives tasks notices the parent's end, as soon as it gets to run.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)


def _receive(connection: Connection, tasks: queue.SimpleQueue) -> None:
    # Its own thread: the parent never waits to hand over a task, and its end is noticed while a clip is being decoded.
    while True:
        try:
            tasks.put(connection.recv())
        except (EOFError, ConnectionResetError):
            os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
