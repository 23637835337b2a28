"""Training batches on a CPU: the order's clips, decoded and cropped by worker processes, as uint8."""

import time
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import torch

from loaders.batch import Batch
from loaders.failures import FailedClip
from loaders.jobs import TrainingPixels
from loaders.order import Cursor
from loaders.stream import ClipStream
from loaders.views import LoaderConfig
from warehouse.catalog.sample import Sample, Tombstone

__all__ = ["ClipLoader", "LoaderConfig"]


class ClipLoader:
    """An endless iterable of ``Batch`` for one rank.

    The same samples, configuration, rank and start give the same batches, bit for bit, with any number of workers;
    a loader started at a batch's cursor gives exactly the batches that would have come after it. A clip that cannot be
    read or decoded is recorded in ``failures`` and the next in order takes its place, as it does where a clip has been
    taken down (a ``Tombstone``).

    A batch's frames are a piece of the memory that workers write into, which nothing else is written to as long as the
    tensor, or a view of it, is there. So keep no more batches than are needed: of those beyond two, copies are given.

    Raises, while iterating:
        TooManyFailuresError: more clips fail than the configuration allows; lists them.
        WorkerDiedError: a worker ended by an error of its own, or workers do not start.
    """

    def __init__(
        self,
        samples: Sequence[Sample | Tombstone],
        config: LoaderConfig,
        rank: int = 0,
        world: int = 1,
        start: Cursor | None = None,
    ) -> None:
        self.config = config
        self._stream = ClipStream(TrainingPixels(config), samples, config, rank, world, start)

    @property
    def cursor(self) -> Cursor:
        """Where the stream continues after the last batch given out."""
        return self._stream.cursor

    @property
    def failures(self) -> tuple[FailedClip, ...]:
        """The clips that failed so far, each once."""
        return self._stream.failures.clips

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        asked = time.perf_counter()
        pixels_CVTSS3, samples = self._stream.batch(self.config.clips_per_batch)
        return Batch(
            frames=torch.from_numpy(pixels_CVTSS3).flatten(0, 1),
            class_ids=class_ids(samples).repeat_interleave(self.config.views),
            clip_ids=tuple(sample.clip_id for sample in samples),
            cursor=self.cursor,
            data_wait_s=time.perf_counter() - asked,
            failed=self._stream.take_failed(),
        )

    @property
    def memory(self) -> np.ndarray:
        """What batches are pieces of, where no clip failed and none of them is kept for long: uint8."""
        return self._stream.memory

    def close(self) -> None:
        """End the worker processes; they also end with this process or when the loader is forgotten."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def class_ids(samples: Sequence[Sample]) -> torch.Tensor:
    """Class of each sample, int64 (N,), -1 where it has none."""
    return torch.tensor([-1 if sample.class_id is None else sample.class_id for sample in samples], dtype=torch.int64)
