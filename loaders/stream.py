"""The training stream: clips that came, in the order's order, those that failed recorded and passed over.

A clip that has been taken down leaves a tombstone, which has its place in the order and is passed over without a word:
the others come as they would have come with it.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from loaders.failures import FailedClip, FailureLog
from loaders.jobs import Job
from loaders.order import Cursor, draws
from loaders.pool import ClipPool, Result
from loaders.views import LoaderConfig
from warehouse.catalog.snapshots import Sample, Tombstone


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
        if samples and not any(isinstance(sample, Sample) and sample.weight > 0 for sample in samples):
            raise ValueError("every clip that would be drawn has been taken down")
        weights_N = np.array([sample.weight for sample in samples], dtype=np.float64)
        order = draws(weights_N, config.seed, rank, world, start)
        self.cursor = start or Cursor()
        self.failures = FailureLog(config.max_failed_share, config.min_tries)
        slots = max(config.clips_per_batch * config.prefetch_batches, 2 * config.workers)
        self._pool = ClipPool(job, config.workers, slots)
        drawn = ((samples[draw.index], draw) for draw in order)
        self._results = self._pool.results((sample, draw) for sample, draw in drawn if isinstance(sample, Sample))

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        """The next clip that came; its pixels are valid until the next call.

        Raises:
            TooManyFailuresError: see ``FailureLog``.
        """
        for result in self._results:
            self.cursor = result.draw.after
            if not isinstance(result.outcome, FailedClip):
                self.failures.delivered()
                return result
            self.failures.record(result.outcome)
        raise RuntimeError("the stream has ended by an earlier error; make a new loader")

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()
