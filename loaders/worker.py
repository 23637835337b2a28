"""A worker process: clips in, pixels (or packets) out. Started by ``pool.ClipPool`` as ``python -m loaders.worker``.

A plain child process rather than one of ``multiprocessing``: it imports neither the main module nor torch, a caller
needs no ``__main__`` guard, and nothing of the caller's threads or CUDA state is copied into it.
"""

import mmap
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

import cv2
import numpy as np

from loaders.jobs import attempt


def main(connection_fd: int, memory_fd: int, memory_bytes: int) -> None:
    """Answer every (number, slot, sample, draw) with (number, result); pixels go into the slot of the memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends us
    cv2.setNumThreads(1)
    connection = Connection(connection_fd)
    job, slots = connection.recv()
    pixels = np.frombuffer(mmap.mmap(memory_fd, memory_bytes), np.uint8)[: slots * int(np.prod(job.shape))]
    pixels = pixels.reshape(slots, *job.shape)
    tasks: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    while True:
        number, slot, sample, draw = tasks.get()
        try:
            connection.send((number, attempt(job, sample, draw, pixels[slot])))
        except BrokenPipeError:
            return


def _receive(connection: Connection, tasks: queue.SimpleQueue) -> None:
    # Its own thread, so that the parent's end is noticed at once, also while a clip is being decoded.
    while True:
        try:
            tasks.put(connection.recv())
        except (EOFError, ConnectionResetError):
            os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
