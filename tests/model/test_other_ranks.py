"""A run that another number of ranks goes on with: the loss curve of the run that nothing disturbed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from small_training import CONFIG, CPU, Batch, clip, pretraining, saved_weights

from loaders.continuing import continuation
from loaders.order import Cursor, draws
from model import checkpoint as checkpoints
from model.training import FitConfig, Progress, fit

SAMPLES, VIDEOS, CLIPS = 10, 12, 4
"""Of the order, so that epochs end within steps; of a step; of a batch."""
AVERAGED = replace(CONFIG, ema_decay=0.9)


@dataclass(frozen=True)
class Dealt(Batch):
    """With the real cursor of the order."""

    cursor: Cursor


def dealt(rank: int, ranks: int, start: Cursor) -> Iterator[Dealt]:
    """Batches in the loaders' order, from a cursor on."""
    order = draws([1.0] * SAMPLES, 3, rank, ranks, start)
    while True:
        drawn = [next(order) for _ in range(CLIPS)]
        frames, class_ids = zip(*(clip(draw.index) for draw in drawn), strict=True)
        names = tuple(f"{draw.epoch}/{draw.position}" for draw in drawn)
        yield Dealt(torch.stack(frames), torch.tensor(class_ids), drawn[-1].after, names)


def train(folder: Path, rank: int, ranks: int, config: FitConfig) -> list[Progress]:
    """Train, or go on, with the batches of a step split over ranks and their turns."""
    seen: list[Progress] = []
    resume = checkpoints.latest(folder)
    start = Cursor()
    if resume:
        cursors = [Cursor(**cursor) for cursor in resume.cursors]
        start = continuation(cursors, ranks, SAMPLES, 1).starts[rank]
    config = replace(config, accumulate=VIDEOS // CLIPS // ranks)
    fit(pretraining(), dealt(rank, ranks, start), config, folder, CPU, resume, seen.append)
    return seen


def three_ranks(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3)
    seen = train(folder / "changed", rank, 3, AVERAGED)
    if rank == 0:
        (folder / "losses.json").write_text(json.dumps([[p.step, p.loss, p.grad_norm] for p in seen]))
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_three_ranks_go_on_where_one_was(tmp_path: Path) -> None:
    """Float32: losses within 1e-5, weights and their averages within what AdamW makes of rounded gradients."""
    straight = train(tmp_path / "straight", 0, 1, AVERAGED)
    short = train(tmp_path / "changed", 0, 1, replace(AVERAGED, steps=6, checkpoint_every=3, keep=9))
    assert [(p.step, p.loss) for p in short] == [(p.step, p.loss) for p in straight]
    (tmp_path / "changed" / "step-000006").rename(tmp_path / "later")  # as if it had been killed after step 3
    mp.spawn(three_ranks, (tmp_path,), nprocs=3)
    rows = json.loads((tmp_path / "losses.json").read_text())
    assert [step for step, _, _ in rows] == [4, 5, 6]
    assert [loss for _, loss, _ in rows] == pytest.approx([p.loss for p in straight[3:]], rel=1e-5)
    assert [norm for _, _, norm in rows] == pytest.approx([p.grad_norm for p in straight[3:]], rel=1e-3)
    for part in ("", checkpoints.AVERAGED):
        expected, got = saved_weights(tmp_path / "straight", part), saved_weights(tmp_path / "changed", part)
        assert expected.keys() == got.keys()
        for name in expected:
            torch.testing.assert_close(got[name], expected[name], rtol=1e-2, atol=2e-4, msg=name)
    found = checkpoints.latest(tmp_path / "changed")
    assert found is not None and len(found.cursors) == 3
