"""The training stream: clips that came, in the order's order, those that failed recorded and passed over."""

from collections.abc import Iterator, Sequence

import numpy as np

from loaders.failures import FailedClip, FailureLog
from loaders.jobs import Job
from loaders.order import Cursor, draws
from loaders.pool import ClipPool, Result
from loaders.views import LoaderConfig
from warehouse.catalog.snapshots import Sample


class ClipStream:
    """Endless results of a job over samples for one rank, from a cursor on; ``cursor`` says where it is.

    Nothing here depends on timing or on the number of workers: a batch is the next clips that can be decoded.
    """

    def __init__(
        self, job: Job, samples: Sequence[Sample], config: LoaderConfig, rank: int, world: int, start: Cursor | None
    ) -> None:
        weights_N = np.array([sample.weight for sample in samples], dtype=np.float64)
        order = draws(weights_N, config.seed, rank, world, start)
        self.cursor = start or Cursor()
        self.failures = FailureLog(config.max_failed_share, config.min_tries)
        slots = max(config.clips_per_batch * config.prefetch_batches, 2 * config.workers)
        self._pool = ClipPool(job, config.workers, slots)
        self._results = self._pool.results((samples[draw.index], draw) for draw in order)

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
