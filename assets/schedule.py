"""How long a stage trains: in epochs of its collection, made steps when its clips are counted.

VideoMAE V2 states epochs and the videos of a step over all GPUs; ``FitConfig`` counts steps. An epoch counts each clip
once, however many views are made of it: the paper counts four there ("1200 epochs" of pre-training are 300).
"""

from dataclasses import dataclass, replace

from model.training import FitConfig

SAVE_STEPS = (100, 1_000)
"""Steps between checkpoints, at least and at most: an epoch may be seconds, or more hours than one wants to lose."""


@dataclass(frozen=True)
class Epochs:
    """A schedule in epochs of the collection. A checkpoint is saved after each, within ``SAVE_STEPS``."""

    count: float
    warmup: float

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.count:
            raise ValueError(f"the warm-up is less than all epochs: {self}")

    def fit(self, config: FitConfig, clips: int, videos: int) -> FitConfig:
        """``config`` with the steps that these epochs of ``clips`` clips take at ``videos`` videos a step."""
        one = clips / videos
        return replace(
            config,
            steps=max(1, round(self.count * one)),
            checkpoint_every=min(max(SAVE_STEPS[0], round(one)), SAVE_STEPS[1]),
            optim=replace(config.optim, warmup_steps=round(self.warmup * one)),
        )
