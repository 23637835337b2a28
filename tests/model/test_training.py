"""The loop: going on to the bit, stopping cleanly, failing clearly, and the same on two ranks."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from model import checkpoint as checkpoints
from model.checkpoint import CheckpointError
from model.classifier import Classifier, ClassifierConfig
from model.objectives import Classification, Pretraining
from model.optim import OptimConfig
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import Size
from model.training import FitConfig, NonFiniteLoss, Outcome, Progress, fit
from model.transfer import load_classifier, load_pretrainer, transfer
from model.weights import read_weights

SMALL = Size("small", 32, 2, 2, 64, 8, decoder_dim=16, decoder_heads=2, decoder_hidden=64, decoder_depth=1)
NAMES = ("drift", "zoom", "turn")
CPU = torch.device("cpu")
CONFIG = FitConfig(steps=6, checkpoint_every=2, seed=11, optim=OptimConfig(3e-3, 2, clip_grad=1.0))


@dataclass(frozen=True)
class Cursor:
    position: int


@dataclass(frozen=True)
class Failed:
    clip_id: str


@dataclass(frozen=True)
class Batch:
    frames: Tensor
    class_ids: Tensor
    cursor: Cursor
    clip_ids: tuple[str, ...]
    data_wait_s: float = 0.001
    share: float = 1.0
    failed: tuple[Failed, ...] = ()


def stream(start: int = 0, rows: slice = slice(0, 4)) -> Iterator[Batch]:
    position = start
    while True:
        generator = torch.Generator().manual_seed(position)
        frames = torch.randint(0, 256, (4, 8, 32, 32, 3), dtype=torch.uint8, generator=generator)
        class_ids = torch.randint(0, 3, (4,), generator=generator)
        position += 1
        names = tuple("abcd"[rows])
        yield Batch(frames[rows], class_ids[rows], Cursor(position), names, share=0.7)


def pretraining() -> Pretraining:
    return Pretraining(Pretrainer(PretrainerConfig(SMALL, 8, 32, tube_ratio=0.75), torch.Generator().manual_seed(1)))


def classification() -> Classification:
    config = ClassifierConfig(SMALL, 8, 32, NAMES, drop_path=0.3, head_dropout=0.3, init_scale=1.0)
    return Classification(Classifier(config, torch.Generator().manual_seed(1)), label_smoothing=0.1)


def state_files(folder: Path) -> dict[str, Tensor]:
    found = checkpoints.latest(folder)
    assert found is not None
    return dict(read_weights(found.path).tensors)


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("make", [pretraining, classification])
def test_resumed_equals_uninterrupted_to_the_bit(make: type, tmp_path: Path) -> None:
    straight: list[Progress] = []
    fit(make(), stream(), CONFIG, tmp_path / "straight", CPU, report=straight.append)

    broken: list[Progress] = []
    first = fit(
        make(),
        stream(),
        CONFIG,
        tmp_path / "broken",
        CPU,
        report=broken.append,
        should_stop=lambda: len(broken) == 2,
    )
    assert first == Outcome("cancelled", 3, tmp_path / "broken" / "step-000003")
    found = checkpoints.latest(tmp_path / "broken")
    assert found is not None
    assert found.cursor(0, 1) == {"position": 3}
    second = fit(make(), stream(3), CONFIG, tmp_path / "broken", CPU, resume=found, report=broken.append)
    assert second == Outcome("finished", 6, tmp_path / "broken" / "step-000006")

    assert [(p.step, p.loss, p.grad_norm, p.rate) for p in broken] == [
        (p.step, p.loss, p.grad_norm, p.rate) for p in straight
    ]
    expected, got = state_files(tmp_path / "straight"), state_files(tmp_path / "broken")
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    fresh = make().model.state_dict()
    assert not any(torch.equal(expected[name], fresh[name]) for name in expected if name.endswith("qkv.weight"))


@pytest.mark.usefixtures("one_rank")
def test_reports_and_checkpoints(tmp_path: Path) -> None:
    seen: list[Progress] = []
    leftover = tmp_path / ".step-000001.tmp"
    leftover.mkdir()
    (leftover / "half").write_text("written")
    assert checkpoints.latest(tmp_path) is None
    fit(pretraining(), stream(), replace(CONFIG, steps=5), tmp_path, CPU, report=seen.append)
    assert [p.step for p in seen] == [1, 2, 3, 4, 5]
    saved = {p.step: p.checkpoint.name for p in seen if p.checkpoint}
    assert saved == {2: "step-000002", 4: "step-000004", 5: "step-000005"}
    assert all(p.clips_per_s > 0 and 0 < p.data_wait_share < 1 and p.grad_norm > 0 for p in seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000004", "step-000005"]

    found = checkpoints.latest(tmp_path)
    assert found is not None
    assert (found.step, found.seed) == (5, 11)
    again = load_pretrainer(found.path)
    assert again.config == pretraining().model.config
    json.loads((found.path / "meta.json").read_text())


@pytest.mark.usefixtures("one_rank")
def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    outcome = fit(pretraining(), stream(), replace(CONFIG, steps=1), tmp_path, CPU)
    found = checkpoints.latest(tmp_path)
    assert fit(pretraining(), iter(()), replace(CONFIG, steps=1), tmp_path, CPU, resume=found) == outcome


@pytest.mark.usefixtures("one_rank")
def test_a_broken_loss_names_the_step_and_where_to_go_on(tmp_path: Path) -> None:
    objective = pretraining()
    seen: list[Progress] = []

    def poison(progress: Progress) -> None:
        seen.append(progress)
        if progress.step == 3:
            with torch.no_grad():
                objective.model.mask_token.fill_(torch.nan)

    with pytest.raises(NonFiniteLoss, match=r"step 4: loss nan.*step-000002"):
        fit(objective, stream(), CONFIG, tmp_path, CPU, report=poison)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]
    assert all(torch.isfinite(value).all() for value in state_files(tmp_path).values())


@pytest.mark.usefixtures("one_rank")
def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ended after step 2"):
        fit(pretraining(), islice(stream(), 2), CONFIG, tmp_path, CPU)
    found = checkpoints.latest(tmp_path)
    assert found is not None
    with pytest.raises(ValueError, match="resume from the latest"):
        fit(pretraining(), stream(), CONFIG, tmp_path, CPU)
    with pytest.raises(ValueError, match="seed 11, not 12"):
        fit(pretraining(), stream(), replace(CONFIG, seed=12), tmp_path, CPU, resume=found)
    with pytest.raises(CheckpointError, match="saved by 1 ranks"):
        found.cursor(0, 2)
    with pytest.raises(CheckpointError, match="holds a pretrainer"):
        load_classifier(found.path)


@pytest.mark.usefixtures("one_rank")
def test_stages_follow_each_other(tmp_path: Path) -> None:
    pretrained = fit(pretraining(), stream(), replace(CONFIG, steps=1), tmp_path / "pretrained", CPU)
    objective = classification()
    report = transfer(objective.model, pretrained.checkpoint)
    assert report.head.startswith("fresh")
    tuned = fit(objective, stream(), replace(CONFIG, steps=1), tmp_path / "tuned", CPU)
    again = load_classifier(tuned.checkpoint)
    assert again.config.class_names == NAMES
    narrower = Classifier(replace(again.config, class_names=("turn", "zoom")))
    assert "re-gathered" in transfer(narrower, tuned.checkpoint).head
    assert torch.equal(narrower.head.weight, again.head.weight[[2, 1]])


def two_ranks(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    seen: list[Progress] = []
    rows = slice(2 * rank, 2 * rank + 2)
    # Only rank 1 is told to stop, and only its loader passes clips over; both have to know.
    failed = [(Failed("lost"), Failed("torn")) if rank == 1 and number == 1 else () for number in range(3)]
    outcome = fit(
        pretraining(),
        (replace(batch, failed=passed) for batch, passed in zip(stream(rows=rows), failed, strict=False)),
        CONFIG,
        folder / "two",
        CPU,
        report=seen.append,
        should_stop=lambda: rank == 1 and len(seen) == 2,
    )
    assert outcome.status == "cancelled"
    lost = ({"rank": 1, "clip_id": "lost"}, {"rank": 1, "clip_id": "torn"})
    assert [progress.failed for progress in seen] == [(), lost, ()]
    found = checkpoints.latest(folder / "two")
    assert found is not None
    cursor = found.cursor(rank, 2)
    fit(pretraining(), stream(cursor["position"], rows), CONFIG, folder / "two", CPU, resume=found, report=seen.append)
    if rank == 0:
        (folder / "losses.json").write_text(json.dumps([[p.loss, p.grad_norm] for p in seen]))
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_two_ranks_train_like_one_on_the_same_global_batch(tmp_path: Path) -> None:
    alone: list[Progress] = []
    fit(pretraining(), stream(), CONFIG, tmp_path / "one", CPU, report=alone.append)
    mp.spawn(two_ranks, (tmp_path,), nprocs=2)
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert [loss for loss, _ in losses] == pytest.approx([p.loss for p in alone], rel=1e-5)
    assert [norm for _, norm in losses] == pytest.approx([p.grad_norm for p in alone], rel=1e-3)
    expected, got = state_files(tmp_path / "one"), state_files(tmp_path / "two")
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-2, atol=2e-4, msg=name)
    shutil.rmtree(tmp_path / "two")
