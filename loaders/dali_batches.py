"""Results of workers → decoded batches, without the clips that DALI refuses: the next in order take their places."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from torch import Tensor

from loaders.dali_decoder import DaliDecoder
from loaders.failures import UNDECODABLE, FailedClip
from loaders.jobs import PackedViews
from loaders.packets import DecodeError
from loaders.pool import Result

UNDER_WAY = 2
"""Batches handed to DALI at a time, so that it has the next one when it is done with one."""


@dataclass(frozen=True, eq=False)
class DecodedBatch:
    """Results in their order, their pixels, uint8 (clips, views, T, S, S, 3), and the clips passed over on the way."""

    results: list[Result]
    frames: Tensor
    failed: tuple[FailedClip, ...]


@dataclass(frozen=True, eq=False)
class _Clip:
    """A result, and the clips that were passed over between the one before and this."""

    result: Result
    failed: list[FailedClip]


def decoded_batches(
    results: Iterator[Result],
    decoder: DaliDecoder,
    refuse: Callable[[FailedClip], None],
    take_failed: Callable[[], Sequence[FailedClip]] = tuple,
) -> Iterator[DecodedBatch]:
    """Batches of ``clips_per_batch`` results, whose outcomes are all ``PackedViews``.

    One corrupt clip makes DALI fail its whole batch. Then the clips of the batch are tried one by one; those refused go
    to ``refuse`` (which may raise), all others come again in their order. So batches are what they would have been
    had the refused clips failed in a worker. Where ``results`` end, the last batch is smaller. ``take_failed`` gives
    what ``results`` has passed over since the last call.

    Raises:
        Exception: what ``results`` or ``refuse`` raises, after all whole batches before; what DALI raises where no
            clip is the reason.
    """
    size = decoder.config.clips_per_batch
    waiting: deque[_Clip] = deque()
    under_way: deque[list[_Clip]] = deque()
    passed_over: list[FailedClip] = []  # of the next clip to wait
    decoder.forget()  # what a pass that was abandoned has left
    ended: Exception | None = None  # by what the results ended; StopIteration where there are no more
    while True:
        while len(under_way) < UNDER_WAY:
            try:
                while ended is None and len(waiting) < size:
                    result = next(results)
                    waiting.append(_Clip(result, [*passed_over, *take_failed()]))
                    passed_over = []
            except Exception as error:
                ended = error
            if len(waiting) < size and not (waiting and isinstance(ended, StopIteration)):
                break
            batch = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            decoder.submit(_packed(batch))
            under_way.append(batch)
        if not under_way:
            if ended is None or isinstance(ended, StopIteration):
                return
            raise ended
        try:
            frames_CVTSS3 = decoder.collect()
        except Exception:
            reasons = decoder.refused(_packed(under_way[0]))
            if not reasons:
                raise
            clips = [*chain.from_iterable(under_way), *waiting]
            refused = {place: _failed(clips[place].result, reason) for place, reason in reasons.items()}
            for clip in refused.values():
                refuse(clip)
            kept, passed_over = _without(clips, refused, passed_over)
            under_way, waiting = deque(), deque(kept)
            continue
        batch = under_way.popleft()
        failed = tuple(chain.from_iterable(clip.failed for clip in batch))
        yield DecodedBatch([clip.result for clip in batch], frames_CVTSS3, failed)


def _without(
    clips: Sequence[_Clip], refused: dict[int, FailedClip], after: list[FailedClip]
) -> tuple[list[_Clip], list[FailedClip]]:
    """The other clips, each with what is passed over before it now, and what is passed over after the last."""
    kept: list[_Clip] = []
    passed_over: list[FailedClip] = []
    for place, clip in enumerate(clips):
        passed_over += clip.failed
        if place in refused:
            passed_over.append(refused[place])
        else:
            kept.append(_Clip(clip.result, passed_over))
            passed_over = []
    return kept, passed_over + after


def _failed(result: Result, reason: str) -> FailedClip:
    return FailedClip(result.sample.clip_id, UNDECODABLE, str(DecodeError(result.sample, reason)))


def _packed(clips: list[_Clip]) -> list[PackedViews]:
    return [clip.result.outcome for clip in clips if isinstance(clip.result.outcome, PackedViews)]
