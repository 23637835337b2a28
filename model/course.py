"""The course of a run's losses: when to stop it, and how good a checkpoint is."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint, Measure, place
from model.divergence import Watch

VALIDATED, BY_LOSS = "validation", "minus mean training loss"
"""What a checkpoint is measured by."""


class NonFiniteLoss(RuntimeError):
    """The loss or the gradient is no number any more."""


class DivergedLoss(RuntimeError):
    """The loss is a number, but has risen for good (``model.divergence``)."""


class Course:
    """Looks at the losses of every step, and remembers across checkpoints what it has to."""

    def __init__(self, folder: Path, names: Sequence[str], warmup_steps: int, resume: Checkpoint | None) -> None:
        """``names`` are those of the models."""
        self._folder = folder
        before: Mapping[str, Any] = resume.loop if resume else {}
        self._watches = {name: Watch(warmup_steps, before.get("watches", {}).get(name)) for name in names}
        self._good: str | None = before.get("good", resume.path.name if resume else None)
        self._losses: list[float] = []

    @property
    def calm(self) -> bool:
        """Whether no loss is too high now."""
        return all(watch.calm for watch in self._watches.values())

    def take(self, step: int, losses: Mapping[str, float], grad_norms: Mapping[str, float]) -> None:
        """The numbers of a step, counted from 1. Raises NonFiniteLoss or DivergedLoss."""
        for name, loss in losses.items():
            if not math.isfinite(loss) or not math.isfinite(grad_norms[name]):
                raise NonFiniteLoss(
                    f"step {step}{_of(name)}: loss {loss}, gradient norm {grad_norms[name]}; {self._remedy()}"
                )
            watch = self._watches[name]
            watch.observe(loss)
            if watch.diverged:
                raise DivergedLoss(f"step {step}{_of(name)}: the loss has diverged: {watch}; {self._remedy()}")
        self._losses.append(sum(losses.values()) / len(losses))

    def measure(self, validation: float | None) -> Measure:
        """How good the checkpoint is that is saved now: what validation said, else minus the mean loss since the last
        one."""
        if validation is not None:
            return Measure(VALIDATED, validation)
        return Measure(BY_LOSS, -sum(self._losses) / len(self._losses))

    def saving(self, step: int) -> dict[str, Any]:
        """What to know again when going on from the checkpoint of this step, for JSON."""
        if self.calm:
            self._good = place(self._folder, step).name
        self._losses = []
        return {"watches": {name: watch.state() for name, watch in self._watches.items()}, "good": self._good}

    def _remedy(self) -> str:
        good = self._folder / self._good if self._good else None
        return (
            f"the last good checkpoint is {good if good and good.is_dir() else 'none'}. Lower the rate, bound the"
            " gradient (clip_grad) or lengthen the warm-up; going on as before would repeat it"
        )


def _of(name: str) -> str:
    return f", {name}" if name else ""
