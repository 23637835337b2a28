"""What every step gives back, and how it tells how far it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Progress = Callable[[int, int], None]
"""Called with (done, total) clips: once before a step's work begins, and while it goes on."""


@dataclass(frozen=True)
class StepResult:
    """What a step did: rows by table, whether it had nothing to do, and figures worth showing."""

    rows: Mapping[str, int]
    skipped: bool = False
    figures: Mapping[str, int | float | str] = field(default_factory=dict)
