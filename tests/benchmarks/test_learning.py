"""A very small run of the learning benchmark: its figures are there, and its arms are comparable."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import learning
from benchmarks.learning import CONTROL, LONGER, PRETRAINED, SCRATCH, UNTRAINED, Schedule
from model import cubes

FEW = Schedule(pretrain_steps=2, finetune_steps=2, pretrain_clips=2, finetune_clips=4)


def test_all_arms_are_given_the_same_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learning.main(["--clips", "64", "--seeds", "1", "--json", "--work", str(tmp_path)], FEW)
    result = json.loads(capsys.readouterr().out)

    assert result["top1"].keys() == {PRETRAINED, UNTRAINED, SCRATCH, LONGER, CONTROL}
    assert result["difference"].keys() == {UNTRAINED, SCRATCH, LONGER}
    assert len(result["pretraining"]["held_out_loss"]) == 1
    assert {"chance_uniform", "chance_largest_class", "clips", "schedule"} <= result.keys()
    batches = {score["arm"]: score["batches"] for score in result["scores"]}
    assert len(batches) == 5
    assert len({batches[arm] for arm in (PRETRAINED, UNTRAINED, SCRATCH, CONTROL)}) == 1
    assert batches[LONGER] != batches[SCRATCH]  # else the digest tells nothing

    clips = learning.prepare(tmp_path / "clips-64", 64)  # complete: nothing is made again
    held_out = {sample.clip_id for sample in clips.held_out}
    assert held_out and not held_out & {sample.clip_id for sample in (*clips.labelled, *clips.unlabelled)}
    assert f"{len(held_out)} clips that no arm has seen" in learning.table(result)


def test_loss_of_predicting_the_mean() -> None:
    pixels = torch.randint(256, (1, 40, learning.SIZE.cube_values), generator=torch.Generator().manual_seed(0))
    target = cubes.targets(pixels.to(torch.uint8))
    assert target.square().mean().item() == pytest.approx(learning.mean_loss(), abs=1e-4)
