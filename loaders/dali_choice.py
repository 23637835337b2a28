"""Which loader a run gets: DALI's where there is a GPU that can decode its clips, else worker processes with PyAV.

The choice depends on the machine and the clips alone, and comes with the reason for the run's log.
"""

import importlib
from collections.abc import Sequence

import torch

from loaders.dali import DaliClipLoader, DaliEvaluationLoader
from loaders.evaluation_loader import EvaluationLoader
from loaders.order import Cursor
from loaders.train_loader import ClipLoader
from loaders.views import EvaluationConfig, LoaderConfig
from warehouse.catalog.sample import Sample, Tombstone
from warehouse.catalog.samples import Places

NVDEC = frozenset({"h264", "hevc", "mjpeg", "mpeg4", "vp9"})
"""What DALI 2.4 decodes on a GPU of the Hopper generation, by FFmpeg's names, and can be trimmed (VP8 cannot)."""


def training_loader(
    samples: Sequence[Sample | Tombstone],
    config: LoaderConfig,
    rank: int,
    world: int,
    start: Cursor,
    device: torch.device,
) -> tuple[ClipLoader | DaliClipLoader, str]:
    """The loader of a training run's rank, and a sentence that says which and why."""
    obstacle = _obstacle(samples, device)
    if obstacle:
        return ClipLoader(samples, config, rank, world, start), _on_cpu(config, obstacle)
    return DaliClipLoader(samples, config, rank, world, start, device), _on_gpu(device)


def evaluation_loader(
    samples: Sequence[Sample], config: EvaluationConfig, device: torch.device
) -> tuple[EvaluationLoader | DaliEvaluationLoader, str]:
    """The loader of an evaluation, and a sentence that says which and why."""
    obstacle = _obstacle(samples, device)
    if obstacle:
        return EvaluationLoader(samples, config), _on_cpu(config, obstacle)
    return DaliEvaluationLoader(samples, config, device=device), _on_gpu(device)


def _obstacle(samples: Sequence[Sample | Tombstone], device: torch.device) -> str | None:
    """Why DALI cannot decode these clips on this device."""
    if device.type != "cuda":
        return "there is no NVIDIA GPU"
    try:
        importlib.import_module("nvidia.dali")
    except ImportError as error:
        return f"nvidia-dali cannot be imported ({error})"
    if others := sorted(_codecs(samples) - NVDEC):
        return f"DALI does not decode {', '.join(others)} on a GPU, and there are such clips"
    return None


def _codecs(samples: Sequence[Sample | Tombstone]) -> frozenset[str]:
    if isinstance(samples, Places):
        return samples.codecs()
    return frozenset(sample.codec for sample in samples if isinstance(sample, Sample))


def _on_gpu(device: torch.device) -> str:
    return f"clips are decoded by DALI on {device}"


def _on_cpu(config: LoaderConfig | EvaluationConfig, obstacle: str) -> str:
    workers = "1 worker process" if config.workers == 1 else f"{config.workers} worker processes"
    return f"clips are decoded by PyAV on the CPU, {workers}: {obstacle}"
