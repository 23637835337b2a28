"""A step's videos over the GPUs that there are: in as many parts as it takes, and the published number kept."""

from dataclasses import dataclass


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

    Where none does, as the GPUs do not divide the videos, in batches of ``per_gpu`` to the nearest number that can be.
    """
    share = videos // gpus
    if share * gpus == videos:
        clips = next(size for size in range(min(per_gpu, share), 0, -1) if share % size == 0)
        return Split(gpus, clips, share // clips)
    clips = max(1, min(per_gpu, share))
    return Split(gpus, clips, max(1, round(videos / (gpus * clips))))
