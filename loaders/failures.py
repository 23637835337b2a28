"""Clips that a training run could not read or decode: recorded, counted, and too many of them stop it."""

from dataclasses import dataclass

_SHOWN = 20  # failures named in an error's text


@dataclass(frozen=True)
class FailedClip:
    """A clip that gave no frames, and the error, which names its shard and byte range."""

    clip_id: str
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
    """Counts tries and failures of one run; a clip is listed once however often it comes by."""

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
        self.failed += 1
        self._clips.setdefault(clip.clip_id, clip)
        self._stop_if_too_many()

    def _stop_if_too_many(self) -> None:
        if self.tries >= self.min_tries and self.failed > self.max_failed_share * self.tries:
            raise TooManyFailuresError(self.clips, self.failed, self.tries)
