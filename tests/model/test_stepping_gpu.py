"""On a GPU the host does not wait for the device in a step; unrun where there is none."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from small_training import CONFIG, classification, pretraining, stream

from model.objectives import Draw
from model.stepping import Reading, add_gradients, finish_step, prepare


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: waiting in a step was not looked for")
@pytest.mark.parametrize("make", [pretraining, classification])
def test_the_host_waits_for_nothing_in_a_step(make: type) -> None:
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        config = replace(CONFIG, accumulate=2, ema_decay=0.9)
        objective = make()
        trained = prepare(objective, config, device)
        batches = [replace(batch, frames=batch.frames.to(device)) for batch, _ in zip(stream(), range(2), strict=False)]

        def step(number: int) -> Reading:
            losses = [
                add_gradients(objective, trained, batch, Draw(config.seed, number, 0, 1, part, 2), device)
                for part, batch in enumerate(batches)
            ]
            return finish_step(trained, torch.stack(losses).sum(0), (0.0, 0.0, 0.0), 1e-4, config)

        for number in range(3):  # what is set up in the first steps may wait
            step(number).wait()
        torch.cuda.set_sync_debug_mode("error")
        try:
            readings = [step(3), step(4)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        losses = [reading.wait().losses[""] for reading in readings]
        assert losses[0] != losses[1] and all(0 < loss < 10 for loss in losses)
    finally:
        dist.destroy_process_group()
