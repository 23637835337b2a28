"""What a step of pre-training takes with the decoder's mask and without, in turn, in CPU-seconds."""

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import torch

from benchmarks.learning_stages import DEVICE, FRAMES, IMAGE, SIZE, Schedule
from loaders.batch import Batch
from loaders.train_loader import ClipLoader
from loaders.views import LoaderConfig
from model.masking import DecoderMask
from model.objectives import Draw, Pretraining
from model.optim import OptimConfig, build_optimizer, set_rate
from model.pretrainer import Pretrainer, PretrainerConfig
from warehouse.catalog.snapshots import Sample

WARM_UP, STEPS, TURNS = 5, 15, 8  # steps that are not counted, steps of a turn, turns


def masking_seconds(clips: Sequence[Sample], schedule: Schedule) -> dict[str, Any]:
    """CPU-seconds of a step (masks, forward, backward, optimiser; not the loader) with dual and with encoder masking.

    Each turn takes ``STEPS`` steps of either on the same batches; ``ratio`` is encoder masking's time over dual's.
    """
    loader = LoaderConfig(schedule.pretrain_clips, views=2, own_windows=True, frames=FRAMES, size=IMAGE)
    with closing(ClipLoader(clips, loader)) as stream:
        batches = list(islice(stream, STEPS))
    dual, encoder_only = (_Stepper(mask, schedule) for mask in ("running_cell", "none"))
    for stepper in (dual, encoder_only):
        stepper.seconds(batches[:WARM_UP])
    turns = [(dual.seconds(batches), encoder_only.seconds(batches)) for _ in range(TURNS)]
    ratios = [slow / fast for fast, slow in turns]
    return {
        "cpu_s_dual": statistics.median(fast for fast, _ in turns) / STEPS,
        "cpu_s_encoder_only": statistics.median(slow for _, slow in turns) / STEPS,
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "turns": TURNS,
    }


class _Stepper:
    """A model that takes steps."""

    def __init__(self, mask: DecoderMask, schedule: Schedule) -> None:
        config = PretrainerConfig(SIZE, FRAMES, IMAGE, tube_ratio=schedule.tube_ratio, decoder_mask=mask)
        self.objective = Pretraining(Pretrainer(config, torch.Generator().manual_seed(0)))
        optim = OptimConfig(schedule.pretrain_rate, warmup_steps=0)
        self.optimizer = build_optimizer(self.objective.model, SIZE.depth, optim)
        set_rate(self.optimizer, schedule.pretrain_rate)

    def seconds(self, batches: Sequence[Batch]) -> float:
        """CPU-seconds of a step on each batch."""
        started = time.process_time()
        for number, batch in enumerate(batches):
            self.objective.loss(batch, Draw(0, number, 0, 1), DEVICE).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return time.process_time() - started
