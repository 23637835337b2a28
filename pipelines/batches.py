"""A step's videos over the GPUs that there are: in as many parts as it takes, and the published number kept."""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Split:
    """Each of ``gpus`` takes ``accumulate`` batches of ``clips`` videos a step."""

    gpus: int
    clips: int
    accumulate: int

    @property
    def videos(self) -> int:
        """Videos of a step."""
        return self.gpus * self.clips * self.accumulate


def split(videos: int, per_gpu: int, gpus: int) -> Split:
    """Divide ``videos`` over ``gpus`` in batches of at most ``per_gpu``, the largest that make them exactly.

    Where none does, as the GPUs do not divide the videos, they are the nearest number that can be, of those that
    batches of about half of ``per_gpu`` or more make: 293 batches of one video each would keep no GPU busy.
    """
    exact = videos / gpus

    def batch(share: int) -> int:
        return next(size for size in range(min(per_gpu, share), 0, -1) if share % size == 0)

    if videos % gpus == 0:
        share = videos // gpus
    else:
        large = (n for n in range(1, 2 * ceil(exact) + 1) if batch(n) >= min(per_gpu, n) // 2)
        share = min(large, key=lambda n: abs(n - exact))
    return Split(gpus, batch(share), share // batch(share))
