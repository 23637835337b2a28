"""A loss that is still a number and yet has gone wrong: when to call it diverged."""

from collections import deque
from collections.abc import Mapping
from typing import Any

WINDOW = 50
"""Steps that are looked at together: single batches are noisy, mixed ones above all."""
PATIENCE = 100
"""Steps in a row for which the loss has to be too high; a spike that passes sooner is let pass."""
FIRST = 10
"""Where the loss started: the lowest mean of up to so many of the first losses."""


class Watch:
    """Watches the loss of one model.

    The mean of the last 50 steps is too high if it is twice the start, and more than 1 above it. After the warm-up it
    is also compared with the lowest such mean since then: it is too high if it is a quarter, and 0.1, above that and
    has lost half of what had been gained since the start. After 100 such steps in a row the loss has diverged.

    A new rate may well disturb weights that were good, and so what is lost within the warm-up is not called diverged,
    not even if it never comes back.

    The numbers leave room: in 17 healthy runs of the embedded corpus and of UT-Interaction, all of small batches, no
    mean was more than 9 % above the lowest before it.
    """

    def __init__(self, warmup_steps: int, state: Mapping[str, Any] | None = None) -> None:
        """``state`` is :meth:`state` of the run that goes on."""
        state = state or {"seen": 0, "start": None, "recent": [], "lowest": None, "high": 0}
        self._warmup_steps = warmup_steps
        self._seen: int = state["seen"]
        self._start: float | None = state["start"]
        self._recent = deque[float](state["recent"], maxlen=WINDOW)
        self._lowest: float | None = state["lowest"]
        self._high: int = state["high"]

    def state(self) -> dict[str, Any]:
        """All that is remembered, for JSON."""
        return {
            "seen": self._seen,
            "start": self._start,
            "recent": list(self._recent),
            "lowest": self._lowest,
            "high": self._high,
        }

    def observe(self, loss: float) -> None:
        """Take in the loss of the next step."""
        self._seen += 1
        self._recent.append(loss)
        mean = self.mean
        if self._start is None or (self._seen <= FIRST and mean < self._start):
            self._start = mean
        if self._seen < WINDOW:
            return
        start, lost = self._start, False
        if self._seen >= self._warmup_steps + WINDOW:
            low = self._lowest = mean if self._lowest is None else min(self._lowest, mean)
            lost = mean > max(1.25 * low, low + 0.1, (low + start) / 2)
        self._high = self._high + 1 if lost or mean > max(2 * start, start + 1) else 0

    @property
    def mean(self) -> float:
        """Of the last 50 steps."""
        return sum(self._recent) / len(self._recent)

    @property
    def calm(self) -> bool:
        """Whether the loss is not too high now."""
        return self._high == 0

    @property
    def diverged(self) -> bool:
        """Whether it has been too high for long."""
        return self._high >= PATIENCE

    def __str__(self) -> str:
        at_best = "never" if self._lowest is None else f"{self._lowest:.4g}"
        return f"{self.mean:.4g} over the last {len(self._recent)} steps, {at_best} at best, {self._start:.4g} at first"
