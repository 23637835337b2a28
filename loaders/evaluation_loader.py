"""Evaluation batches: every clip of a list once, with its fixed views. Nothing is padded, replaced or dropped."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Self

import torch

from loaders.batch import Batch
from loaders.failures import FailedClip
from loaders.jobs import EvaluationPixels
from loaders.memory import BatchBuilder
from loaders.order import Cursor, Draw
from loaders.pool import ClipPool, Result
from loaders.train_loader import class_ids
from loaders.views import EvaluationConfig
from warehouse.catalog.sample import Sample

__all__ = ["EvaluationClipError", "EvaluationConfig", "EvaluationLoader"]


class EvaluationClipError(RuntimeError):
    """A clip of an evaluation cannot be read or decoded: a score without it would be another score. ``clip`` is it."""

    def __init__(self, clip: FailedClip) -> None:
        super().__init__(f"{clip.error}\nRepair it or take it out of the snapshot.")
        self.clip = clip


class EvaluationLoader:
    """Iterable of ``Batch`` over ``samples[rank::world]``, in order; iterate again for another pass.

    The last batch is smaller if the clips do not divide. ``Batch.clip_ids`` has an entry for every row.
    """

    def __init__(self, samples: Sequence[Sample], config: EvaluationConfig, rank: int = 0, world: int = 1) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        self.config = config
        self._places = range(rank, len(samples), world)
        self._samples = samples
        under_way = max(config.clips_per_batch * config.prefetch_batches, 2 * config.workers)
        self._pool = ClipPool(EvaluationPixels(config), config.workers, under_way, config.clips_per_batch)

    def __len__(self) -> int:
        """Batches in a pass."""
        return -(-len(self._places) // self.config.clips_per_batch)

    def __iter__(self) -> Iterator[Batch]:
        """One pass.

        Raises:
            EvaluationClipError: a clip cannot be read or decoded; names it and its shard.
        """
        config = self.config
        draws = ((self._samples[place], Draw(0, place, place, Cursor(0, place + 1))) for place in self._places)
        results = self._pool.results(draws)
        for first in range(0, len(self._places), config.clips_per_batch):
            asked = time.perf_counter()
            clips = min(config.clips_per_batch, len(self._places) - first)
            builder = BatchBuilder(self._pool.memory)
            done: list[Result] = []
            for result in islice(results, clips):
                if isinstance(result.outcome, FailedClip):
                    raise EvaluationClipError(result.outcome)
                builder.add(result.place)
                done.append(result)
            frames_CVTSS3 = torch.from_numpy(builder.finish())
            self._pool.take_on()
            samples = [result.sample for result in done]
            yield Batch(
                frames=frames_CVTSS3.flatten(0, 1),
                class_ids=class_ids(samples).repeat_interleave(config.views),
                clip_ids=tuple(sample.clip_id for sample in samples for _ in range(config.views)),
                cursor=done[-1].draw.after,
                data_wait_s=time.perf_counter() - asked,
            )

    def close(self) -> None:
        """End the worker processes; they also end with this process or when the loader is forgotten."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
