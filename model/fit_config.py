"""What the training loop is told: how long to train, how a step is taken and how often to save."""

from dataclasses import dataclass

from model.optim import OptimConfig


@dataclass(frozen=True)
class FitConfig:
    """How long to train, how a step is taken and how often to save.

    ``seed`` gives masks, drop path and dropout. ``accumulate`` batches make a step, which is that of one batch as large
    as all together. ``ema_decay`` keeps an average of the weights beside them: after each step it is ``ema_decay``
    times itself and for the rest the weights. ``checkpointing`` and ``compile`` are of every block
    (``model.parallel``). ``keep`` checkpoints are kept, and the best.
    """

    steps: int
    checkpoint_every: int
    seed: int
    optim: OptimConfig
    keep: int = 2
    accumulate: int = 1
    ema_decay: float | None = None
    checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate is how many batches make a step, at least 1, not {self.accumulate}")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is from 0 to below 1, such as 0.9999, or None, not {self.ema_decay}")
