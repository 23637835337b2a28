"""Batches on their way to the device: copied ahead, from pinned memory, on a stream of their own."""

import time
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import torch

from loaders.batch import Batch
from loaders.prefetch import Prefetched


class HostLoader(Protocol):
    """What ``ClipLoader`` is: batches, and the memory that they are pieces of."""

    @property
    def memory(self) -> np.ndarray: ...
    def __iter__(self) -> Iterator[Batch]: ...


class DeviceBatches:
    """A loader's batches with frames on the device; on a CPU the loader's own, untouched.

    Classes stay on the CPU, where they can be looked at without waiting for the device.

    With CUDA a thread copies the next batch while the model computes. Workers write into pinned memory then, so the
    frames, uint8, are copied once, by the device. ``data_wait_s`` is what the consumer waited. What the loader
    raises is raised here, at the batch where it would have come.

    Raises:
        RuntimeError: CUDA cannot pin the memory.
    """

    def __init__(self, loader: HostLoader, device: torch.device) -> None:
        self._loader, self._device = loader, device
        self._ahead: Prefetched[Batch] | None = None
        if device.type == "cuda":
            self._memory = loader.memory
            _pin(self._memory)
            self._ahead = Prefetched(self._copied, done=lambda: None)

    @property
    def how(self) -> str:
        """What is done, for a log."""
        if self._ahead is None:
            return f"batches are used where the workers write them, as the device is {self._device}"
        return f"batches are copied to {self._device} ahead, from {self._memory.nbytes >> 20} MiB of pinned memory"

    def __iter__(self) -> Iterator[Batch]:
        if self._ahead is None:
            yield from self._loader
            return
        while True:
            asked = time.perf_counter()
            try:
                batch = next(self._ahead)
            except StopIteration:
                return
            batch.frames.record_stream(torch.cuda.current_stream(self._device))  # they were made on the thread's
            yield replace(batch, data_wait_s=time.perf_counter() - asked)

    def _copied(self) -> Iterator[Batch]:
        stream = torch.cuda.Stream(self._device)
        for batch in self._loader:
            with torch.cuda.stream(stream):
                frames = batch.frames.to(self._device, non_blocking=True)
            # Until then the batch has to be kept: without it, workers may write to its memory.
            stream.synchronize()
            yield replace(batch, frames=frames)

    def close(self) -> None:
        """End the thread, and let go of the memory. The loader is the caller's to close, afterwards."""
        if self._ahead is not None:
            self._ahead.close()
            torch.cuda.check_error(int(torch.cuda.cudart().cudaHostUnregister(self._memory.ctypes.data)))
            self._ahead = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _pin(memory: np.ndarray) -> None:
    status = int(torch.cuda.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0))
    if status:
        raise RuntimeError(
            f"CUDA cannot pin the {memory.nbytes >> 20} MiB that batches lie in (error {status}). Give the loader "
            "smaller batches or fewer prefetch_batches, or allow the process more locked memory (`ulimit -l`)"
        )
