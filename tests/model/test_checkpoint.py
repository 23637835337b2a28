"""Checkpoints: which are kept, what they hold, and that one is there completely or not at all, killed whenever."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint import CheckpointException

from model import checkpoint as checkpoints
from model.checkpoint import CheckpointError, Measure, Trained
from model.optim import OptimConfig, build_optimizer, set_rate
from model.parallel import parallelise
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import Size
from model.transfer import load_pretrainer

pytestmark = pytest.mark.usefixtures("one_rank")

SMALL = Size("small", 32, 1, 2, 64, 8, decoder_dim=16, decoder_heads=2, decoder_hidden=64, decoder_depth=1)
CPU = torch.device("cpu")


def trained(seed: int, averaged: bool = False) -> Trained:
    """A sharded model after a step of AdamW on made-up gradients."""
    model = Pretrainer(PretrainerConfig(SMALL, 4, 16, tube_ratio=0.75), torch.Generator().manual_seed(seed))
    parallelise(model, CPU)
    optimizer = build_optimizer(model, SMALL.depth, OptimConfig(1e-3, 0))
    set_rate(optimizer, 1e-3)
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 0.1 * (number + 1))
    optimizer.step()
    optimizer.zero_grad()
    means = {name: parameter.detach().clone() for name, parameter in model.named_parameters()} if averaged else None
    return Trained(model, optimizer, means)


def values(one: Trained) -> dict[str, Tensor]:
    """Weights, averages and AdamW's moments."""
    found = {f"weight {name}": weight for name, weight in one.model.state_dict().items()}
    found |= {f"average {name}": mean for name, mean in (one.averaged or {}).items()}
    for number, state in enumerate(one.optimizer.state.values()):
        found |= {f"{key} {number}": value for key, value in state.items()}
    return {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in found.items()}


def assert_same(left: Trained, right: Trained) -> None:
    ours, theirs = values(left), values(right)
    assert ours.keys() == theirs.keys() and len(ours) > 60
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def save(folder: Path, step: int, measure: Measure | None = None, keep: int = 2) -> Path:
    return checkpoints.save(folder, step, 7, {"": trained(step)}, {"position": step}, keep, measure)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_kept_are_the_last_and_the_best(tmp_path: Path) -> None:
    assert checkpoints.best(tmp_path / "none") is None and checkpoints.latest(tmp_path / "none") is None
    save(tmp_path, 1)
    assert checkpoints.best(tmp_path) is None
    for step, top1 in ((2, 0.5), (3, 0.7), (4, 0.7), (5, 0.6), (6, 0.1)):
        save(tmp_path, step, Measure("val_top1", top1))
    # Of equals the later one; the last two are there whatever they are worth.
    assert names(tmp_path) == ["step-000004", "step-000005", "step-000006"]
    found = checkpoints.best(tmp_path)
    assert found is not None and (found.step, found.measure) == (4, Measure("val_top1", 0.7))
    # Measured by something else from now on: what was measured otherwise is no longer compared, and goes.
    save(tmp_path, 7, Measure("minus_mean_loss", -2.0))
    save(tmp_path, 8, Measure("minus_mean_loss", -3.0))
    save(tmp_path, 9, Measure("minus_mean_loss", -4.0))
    assert names(tmp_path) == ["step-000007", "step-000008", "step-000009"]
    save(tmp_path, 10, Measure("minus_mean_loss", -1.0))
    save(tmp_path, 11, Measure("minus_mean_loss", float("nan")), keep=1)
    assert names(tmp_path) == ["step-000010", "step-000011"]
    latest = checkpoints.latest(tmp_path)
    assert latest is not None and (latest.step, latest.seed, latest.cursors, latest.measure) == (
        11, 7, ({"position": 11},), None,
    )  # fmt: skip


def test_several_models_averages_and_the_loop_s_own_come_back(tmp_path: Path) -> None:
    students = {"S": trained(1, averaged=True), "B": trained(2)}
    path = checkpoints.save(tmp_path, 3, 7, students, {"position": 3}, 2, loop={"lowest": 0.5})
    found = checkpoints.read(path)
    assert found.loop == {"lowest": 0.5}
    fresh = {"S": trained(3, averaged=True), "B": trained(4)}
    checkpoints.restore(found, fresh)
    for name in students:
        assert_same(fresh[name], students[name])
    files = {str(file.relative_to(path)) for file in path.rglob("*.safetensors")}
    assert files == {"S/weights.safetensors", "S/averaged/weights.safetensors", "B/weights.safetensors"}
    for folder, means in (("S", None), ("S/averaged", students["S"].averaged)):
        loaded, expected = load_pretrainer(path / folder).state_dict(), means or students["S"].model.state_dict()
        assert all(torch.equal(loaded[name], expected[name].full_tensor()) for name in loaded)  # type: ignore[operator]


class Killed(BaseException):
    """The process is gone: nothing after it runs."""


class Fatal:
    """Counts what is done to files, and ends the process before the ``last``-th of it, which is half done."""

    def __init__(self, last: int) -> None:
        self.done, self.last = 0, last

    def patch(self, patcher: pytest.MonkeyPatch) -> None:
        for owner, name in (
            (Path, "mkdir"), (Path, "rename"), (os, "fsync"), (shutil, "rmtree"),
            (checkpoints.dcp, "save"), (checkpoints, "write_weights"),
        ):  # fmt: skip
            patcher.setattr(owner, name, self.counted(name, getattr(owner, name)))

    def counted(self, name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self.done += 1
            if self.done == self.last:
                if name == "rmtree":
                    (args[0] / checkpoints.META).unlink(missing_ok=True)  # a part of the folder has gone
                raise Killed
            return action(*args, **kwargs)

        return run


def test_killed_at_any_moment_nothing_is_lost_and_nothing_half_counts(tmp_path: Path) -> None:
    """A save that removes another, ended before each of the things it does to files, then the next one."""
    states = {step: trained(step) for step in (1, 2, 3, 4)}

    def store(folder: Path, step: int) -> None:
        checkpoints.save(folder, step, 7, {"": states[step]}, {"position": step}, 1, Measure("val_top1", step / 10))

    moments = 0
    for last in range(1, 100):
        folder, fatal = tmp_path / str(last), Fatal(last)
        store(folder, 1)
        store(folder, 2)
        with pytest.MonkeyPatch.context() as patcher:
            fatal.patch(patcher)
            try:
                store(folder, 3)
            except (Killed, CheckpointException):  # DCP wraps what ends it
                moments += 1
        found = checkpoints.latest(folder)
        assert found is not None and found.step in (2, 3)
        assert checkpoints.best(folder) == found
        fresh = trained(9)
        checkpoints.restore(found, {"": fresh})
        assert_same(fresh, states[found.step])
        load_pretrainer(found.path)
        store(folder, 4)
        assert names(folder) == ["step-000004"]
        if fatal.done < last:
            break
    assert found.step == 3 and moments == fatal.done > 10


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "step-000001").mkdir()
    with pytest.raises(CheckpointError, match=r"step-000001 is no checkpoint: it has no meta\.json"):
        checkpoints.latest(tmp_path)


def test_a_checkpoint_of_before_measures_is_read(tmp_path: Path) -> None:
    path = save(tmp_path, 1, Measure("val_top1", 0.5))
    meta = json.loads((path / checkpoints.META).read_text())
    assert meta["measure"] == asdict(Measure("val_top1", 0.5))
    del meta["measure"], meta["loop"]
    (path / checkpoints.META).write_text(json.dumps(meta))
    found = checkpoints.read(path)
    assert found.measure is None and found.loop == {}
