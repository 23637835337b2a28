"""Batches on an NVIDIA GPU: workers trim packets, DALI decodes, crops and resizes them on the device.

Same order, same views, same failures as ``ClipLoader`` and ``EvaluationLoader``; pixels agree within the tolerances
that the tests state (another decoder and scaler). DALI's video decoder does not seek, so it is handed only the packets
that a clip's views need. The next batch is made while the model computes.

On a CPU the same runs with DALI's decoder for VP8, VP9 and MJPEG (the rendition ``mjpeg-strided``).
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor

from loaders.batch import Batch
from loaders.dali_batches import DecodedBatch, decoded_batches
from loaders.dali_decoder import DaliDecoder
from loaders.evaluation_loader import EvaluationClipError
from loaders.failures import FailedClip
from loaders.jobs import EvaluationPackets, TrainingPackets
from loaders.order import Cursor, Draw
from loaders.pool import ClipPool, Result
from loaders.prefetch import Prefetched
from loaders.stream import ClipStream
from loaders.train_loader import class_ids
from loaders.views import EvaluationConfig, LoaderConfig
from warehouse.catalog.sample import Sample, Tombstone


class DaliClipLoader:
    """Like ``ClipLoader``, with frames on ``device``.

    Raises:
        RuntimeError: there is no such GPU, or no DALI for this platform.
    """

    def __init__(
        self,
        samples: Sequence[Sample | Tombstone],
        config: LoaderConfig,
        rank: int = 0,
        world: int = 1,
        start: Cursor | None = None,
        device: torch.device | str = "cuda",
    ) -> None:
        self.config = config
        self.cursor = start or Cursor()
        """Where the stream continues after the last batch given out."""
        decoder = DaliDecoder(config, device_of(device))
        stream = ClipStream(TrainingPackets(config), samples, config, rank, world, start)
        make = partial(decoded_batches, stream, decoder, stream.failures.refused, stream.take_failed)
        self._batches = Prefetched(make, done=stream.close)
        self._failures: dict[str, FailedClip] = {}

    @property
    def failures(self) -> tuple[FailedClip, ...]:
        """The clips that failed so far, each once."""
        return tuple(self._failures.values())

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        asked = time.perf_counter()
        made = next(self._batches)
        samples = [result.sample for result in made.results]
        self.cursor = made.results[-1].draw.after
        self._failures = {clip.clip_id: clip for clip in made.failed} | self._failures
        return Batch(
            frames=rows_of(made.frames),
            class_ids=class_ids(samples).repeat_interleave(self.config.views),
            clip_ids=tuple(sample.clip_id for sample in samples),
            cursor=self.cursor,
            data_wait_s=time.perf_counter() - asked,
            failed=made.failed,
        )

    def close(self) -> None:
        """End the thread and the worker processes."""
        self._batches.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DaliEvaluationLoader:
    """Like ``EvaluationLoader``, with frames on ``device``. One pass at a time.

    Raises:
        RuntimeError: there is no such GPU, or no DALI for this platform.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        config: EvaluationConfig,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cuda",
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        self.config = config
        self._decoder = DaliDecoder(config, device_of(device))
        self._places = range(rank, len(samples), world)
        self._samples = samples
        slots = max(config.clips_per_batch * config.prefetch_batches, 2 * config.workers)
        self._pool = ClipPool(EvaluationPackets(config), config.workers, slots)
        self._pass: Prefetched[DecodedBatch] | None = None

    def __len__(self) -> int:
        """Batches in a pass."""
        return -(-len(self._places) // self.config.clips_per_batch)

    def __iter__(self) -> Iterator[Batch]:
        """One pass.

        Raises:
            EvaluationClipError: a clip cannot be read or decoded; names it and its shard.
        """
        if self._pass:
            self._pass.close()
        make = partial(decoded_batches, self._results(), self._decoder, _refuse)
        batches = self._pass = Prefetched(make, done=lambda: None)
        while True:
            asked = time.perf_counter()
            made = next(batches, None)
            if made is None:
                return
            samples = [result.sample for result in made.results]
            yield Batch(
                frames=rows_of(made.frames),
                class_ids=class_ids(samples).repeat_interleave(self.config.views),
                clip_ids=tuple(sample.clip_id for sample in samples for _ in range(self.config.views)),
                cursor=made.results[-1].draw.after,
                data_wait_s=time.perf_counter() - asked,
            )

    def _results(self) -> Iterator[Result]:
        draws = ((self._samples[place], Draw(0, place, place, Cursor(0, place + 1))) for place in self._places)
        for result in self._pool.results(draws):
            if isinstance(result.outcome, FailedClip):
                _refuse(result.outcome)
            yield result

    def close(self) -> None:
        """End the thread and the worker processes."""
        if self._pass:
            self._pass.close()
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse(clip: FailedClip) -> None:
    raise EvaluationClipError(clip)


def device_of(device: torch.device | str) -> torch.device:
    """With a number, where there are several: threads have a current device of their own."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return device


def rows_of(frames_CVTSS3: Tensor) -> Tensor:
    """Views as rows. They were made on another stream: their memory is free again when this one is done with them."""
    if frames_CVTSS3.is_cuda:
        frames_CVTSS3.record_stream(torch.cuda.current_stream(frames_CVTSS3.device))
    return frames_CVTSS3.flatten(0, 1)
