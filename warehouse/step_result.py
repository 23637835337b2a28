"""What every step gives back, and how it tells how far it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """How far a source is: clips done of all that it has, and how many of those done failed (missing, quarantined)."""

    source: str
    done: int
    total: int
    failed: int = 0


@dataclass(frozen=True)
class StepResult:
    """What a step did: rows by table, whether it had nothing to do, and figures worth showing."""

    rows: Mapping[str, int]
    skipped: bool = False
    figures: Mapping[str, int | float | str] = field(default_factory=dict)
