"""The training stream: clips that came, in the order's order, those that failed recorded and passed over.

A clip that has been taken down leaves a tombstone, which has its place in the order and is passed over without a word:
the others come as they would have come with it.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from loaders.failures import FailedClip, FailureLog
from loaders.jobs import Job
from loaders.memory import BatchBuilder
from loaders.mixture import mixture_weights
from loaders.order import Cursor, Draw, draws
from loaders.pool import ClipPool, Result
from loaders.runs import Runs
from loaders.views import LoaderConfig
from warehouse.catalog.samples import Sample, Tombstone, order_columns


class ClipStream:
    """Endless results of a job over samples for one rank, from a cursor on; ``cursor`` says where it is.

    Nothing here depends on timing or on the number of workers: a batch is the next clips that can be decoded.
    """

    def __init__(
        self,
        job: Job,
        samples: Sequence[Sample | Tombstone],
        config: LoaderConfig,
        rank: int,
        world: int,
        start: Cursor | None,
    ) -> None:
        order = stream_order(samples, config, rank, world, start)
        self.cursor = start or Cursor()
        self.failures = FailureLog(config.max_failed_share, config.min_tries)
        self._failed: list[FailedClip] = []
        under_way = max(config.clips_per_batch * config.prefetch_batches, 2 * config.workers)
        self._pool = ClipPool(job, config.workers, under_way, config.clips_per_batch)
        drawn = ((samples[draw.index], draw) for draw in order)
        self._results = self._pool.results((sample, draw) for sample, draw in drawn if isinstance(sample, Sample))

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        """The next clip that came; its pixels, if the job writes some, are valid until the next call.

        Raises:
            TooManyFailuresError: see ``FailureLog``.
        """
        for result in self._results:
            self.cursor = result.draw.after
            if not isinstance(result.outcome, FailedClip):
                self.failures.delivered()
                return result
            self._failed.append(result.outcome)
            self.failures.record(result.outcome)
        raise RuntimeError("the stream has ended by an earlier error; make a new loader")

    def batch(self, clips: int) -> tuple[np.ndarray, list[Sample]]:
        """The pixels of the next clips, uint8 (clips, \\*shape of the job), the caller's own, and their samples."""
        builder = BatchBuilder(self._pool.memory)
        samples: list[Sample] = []
        while len(samples) < clips:
            result = next(self)
            builder.add(result.place)
            samples.append(result.sample)
        pixels = builder.finish()
        self._pool.take_on()  # before the caller computes, not after
        return pixels, samples

    def take_failed(self) -> tuple[FailedClip, ...]:
        """The clips that were passed over since the last call."""
        failed, self._failed = tuple(self._failed), []
        return failed

    @property
    def memory(self) -> np.ndarray:
        """All that batches are pieces of: uint8 (places, \\*shape of the job)."""
        return self._pool.memory.pixels

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()


def stream_order(
    samples: Sequence[Sample | Tombstone], config: LoaderConfig, rank: int, world: int, start: Cursor | None
) -> Iterator[Draw]:
    """The draws of a stream, with those of clips that have been taken down.

    Raises:
        ValueError: no clip is left to draw, or see ``mixture_weights`` and ``draws``.
    """
    columns = order_columns(samples)
    weights_N = mixture_weights(columns, config.source_shares)
    if columns.gone.any() and not weights_N[~columns.gone].any():
        raise ValueError("every clip that would be drawn has been taken down")
    runs = Runs.of(config.run_clips, columns.shard, columns.offset) if config.run_clips > 1 else None
    return draws(weights_N, config.seed, rank, world, start, columns.source, runs)
