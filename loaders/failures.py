"""Clips that a training run could not read or decode: recorded, counted, and too many of them stop it."""

import math
from dataclasses import dataclass

from warehouse.error_classes import CRASHED, HUNG

__all__ = ["CRASHED", "HUNG", "SHARD", "UNDECODABLE", "FailedClip", "FailureLog", "TooManyFailuresError"]

SHARD, UNDECODABLE = "shard_error", "decode_error"
_SHOWN = 20  # failures named in an error's text


@dataclass(frozen=True)
class FailedClip:
    """A clip that gave no frames, and the error, which names its shard.

    ``error_class`` is ``shard_error`` (its bytes are not there, or others), ``decode_error``, ``decoder_crashed`` or
    ``decoder_hung``.
    """

    clip_id: str
    error_class: str
    error: str


class TooManyFailuresError(RuntimeError):
    """More clips fail than a run may pass over; ``failures`` lists them."""

    def __init__(self, failures: tuple[FailedClip, ...], failed: int, tries: int) -> None:
        self.failures = failures
        lines = "\n".join(f"  {clip.error}" for clip in failures[:_SHOWN])
        if len(failures) > _SHOWN:
            lines += f"\n  and {len(failures) - _SHOWN} more"
        super().__init__(
            f"{failed} of {tries} clips failed. Quarantine them, or repair their shards, and start again:\n{lines}"
        )


class FailureLog:
    """Counts tries and failures of one run; a clip is listed once however often it comes by.

    A run is stopped when its failures are more than ``max_failed_share`` of the tries by three standard deviations of
    chance, and not before ``min_tries``. So two bad clips among the first twenty stop nothing where one in a hundred is
    bad, and storage that is gone does so at once.
    """

    def __init__(self, max_failed_share: float, min_tries: int) -> None:
        self.max_failed_share = max_failed_share
        self.min_tries = min_tries
        self.tries = 0
        self.failed = 0
        self._clips: dict[str, FailedClip] = {}

    @property
    def clips(self) -> tuple[FailedClip, ...]:
        return tuple(self._clips.values())

    def delivered(self) -> None:
        """Count a clip that came."""
        self.tries += 1
        self._stop_if_too_many()

    def record(self, clip: FailedClip) -> None:
        """Count a clip that failed.

        Raises:
            TooManyFailuresError: the share of failures is above the threshold.
        """
        self.tries += 1
        self.refused(clip)

    def refused(self, clip: FailedClip) -> None:
        """Count a clip as failed that was counted as delivered: its packets came, but the decoder refused them.

        Raises:
            TooManyFailuresError: the share of failures is above the threshold.
        """
        self.failed += 1
        self._clips.setdefault(clip.clip_id, clip)
        self._stop_if_too_many()

    def _stop_if_too_many(self) -> None:
        share, tries = self.max_failed_share, self.tries
        chance = 3 * math.sqrt(share * (1 - share) * tries)
        if tries >= self.min_tries and self.failed > share * tries + chance:
            raise TooManyFailuresError(self.clips, self.failed, tries)
