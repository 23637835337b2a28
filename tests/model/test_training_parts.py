"""A step's clips in one batch, in several, or on several ranks: the same losses, gradients and weights.

In double precision, where equal sums differ by 1e-15 and only a mistake would show; and once in single precision.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from small_training import CONFIG, CPU, Failed, classification, pretraining, saved_weights, stream

from model import checkpoint as checkpoints
from model.training import FitConfig, Progress, fit

STAGES = {"pretraining": pretraining, "classification": classification}
FINE = replace(CONFIG, steps=4, checkpoint_every=100, ema_decay=0.8)


def curve(
    stage: str, folder: Path, config: FitConfig, clips: int, rank: int = 0, ranks: int = 1, double: bool = True
) -> list[list[float]]:
    """Loss, gradient norm and clips of every step, from where the folder's last checkpoint ends."""
    objective = STAGES[stage]()
    dtype = torch.float64 if double else torch.uint8
    if double:
        objective.model.double()
    seen: list[Progress] = []
    found = checkpoints.latest(folder)
    start = found.cursors[rank]["position"] if found else 0
    fit(
        objective,
        stream(start, clips, rank, ranks, share=1.0, dtype=dtype),
        config,
        folder,
        CPU,
        resume=found,
        report=seen.append,
    )
    return [[p.loss, p.grad_norm] for p in seen]


def two_ranks(rank: int, folder: Path) -> None:
    """All that takes two ranks, so that they are started once."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    curves: dict[str, Any] = {}
    for stage in STAGES:
        curves[f"{stage}/ranks"] = curve(stage, folder / stage / "ranks", FINE, 4, rank, 2)
        config = replace(FINE, accumulate=2)
        # The warm-up alone, whose rates do not hang on the number of steps; then on from its checkpoint.
        curves[f"{stage}/both"] = curve(stage, folder / stage / "both", replace(config, steps=2), 2, rank, 2)
        curves[f"{stage}/both"] += curve(stage, folder / stage / "both", config, 2, rank, 2)
    curves["single"] = curve("pretraining", folder / "single", FINE, 4, rank, 2, double=False)

    # Only rank 1 is told to stop, and only its loader passes clips over; both have to know.
    seen: list[Progress] = []
    failed = [(Failed("lost"), Failed("torn")) if rank == 1 and number == 1 else () for number in range(6)]
    outcome = fit(
        pretraining(),
        (replace(batch, failed=passed) for batch, passed in zip(stream(), failed, strict=False)),
        replace(FINE, accumulate=2),
        folder / "stopped",
        CPU,
        report=seen.append,
        should_stop=lambda: rank == 1 and len(seen) == 2,
    )
    assert (outcome.status, outcome.step) == ("cancelled", 3)
    lost = ({"rank": 1, "clip_id": "lost"}, {"rank": 1, "clip_id": "torn"})
    assert [progress.failed for progress in seen] == [lost, (), ()]
    if rank == 0:
        (folder / "curves.json").write_text(json.dumps(curves))
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_batches_of_a_step_and_ranks_train_like_one_large_batch(tmp_path: Path) -> None:
    mp.spawn(two_ranks, (tmp_path,), nprocs=2)
    curves = json.loads((tmp_path / "curves.json").read_text())
    for stage in STAGES:
        folder = tmp_path / stage
        whole = curve(stage, folder / "whole", FINE, 8)
        curves[f"{stage}/parts"] = curve(stage, folder / "parts", replace(FINE, accumulate=2), 4)
        for way in ("parts", "ranks", "both"):
            for got, expected in zip(curves[f"{stage}/{way}"], whole, strict=True):
                assert got == pytest.approx(expected, rel=1e-9), (stage, way)
            for part in ("", "averaged"):
                expected, got = saved_weights(folder / "whole", part), saved_weights(folder / way, part)
                for name in expected:
                    torch.testing.assert_close(got[name], expected[name], rtol=1e-7, atol=1e-9, msg=f"{way} {name}")
    # In single precision Adam may take a tiny gradient's sign the other way: weights by less than a step's rate.
    whole = curve("pretraining", tmp_path / "whole", FINE, 8, double=False)
    for got, expected in zip(curves["single"], whole, strict=True):
        assert got == pytest.approx(expected, rel=1e-4)
    expected, got = saved_weights(tmp_path / "whole"), saved_weights(tmp_path / "single")
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-2, atol=2e-4, msg=name)
