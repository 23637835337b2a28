"""All parts of the GPU's training benchmark, very small, on a CPU; and what it says without a GPU."""

from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from benchmarks import flops, gpu_train
from model import parallel
from model.flops import training_flops
from model.sizes import SIZES

PLAN = gpu_train.Plan(
    device=torch.device("cpu"), batches={"tiny": 2}, frames=8, image=48, steps=2, warm_steps=1
)


@pytest.fixture(autouse=True)
def without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are made, and then run as they are: it takes no C++ compiler."""
    monkeypatch.setattr(parallel, "compile_block", partial(parallel.compile_block, backend="eager"))


def test_all_parts_run_on_a_cpu() -> None:
    result = gpu_train.measure(PLAN, ["tiny"])
    assert [(case["compiled"], case["checkpointing"]) for case in result["figures"]] == [(False, False), (True, False)]
    a_clip = training_flops(gpu_train.model_config(PLAN, "tiny")) / 1e12
    for case in result["figures"]:
        assert case["clips_per_s"] > 0 and case["mfu"] is None
        assert case["tflops"] == pytest.approx(case["clips_per_s"] * a_clip)
        assert case["planned_gib"] == gpu_train.planned_bytes(PLAN, "tiny", checkpointing=False) / 2**30 > 0
    assert "| tiny | compiled | 2 |" in gpu_train.table(result)
    known = [case | {"mfu": 0.5} for case in result["figures"]]
    assert gpu_train.table(result | {"figures": known}).count("50.0%") == 2


def test_operations_are_those_of_the_published_count() -> None:
    plan = gpu_train.gpu_plan()
    assert training_flops(gpu_train.model_config(plan, "S")) / 1e9 == pytest.approx(6 * flops.gmacs("S").dual_here)
    assert plan.batches.keys() == gpu_train.TO_BEAT.keys() < SIZES.keys()


def test_all_ways_of_running_the_blocks_train_alike() -> None:
    losses = {}
    for compiled in (False, True):
        for checkpointing in (False, True):
            torch._dynamo.reset()
            counters.clear()
            with gpu_train.alone(PLAN.device):
                step = gpu_train.training_step(PLAN, "tiny", compiled, checkpointing)
                losses[compiled, checkpointing] = [step(number).wait().losses[""] for number in range(3)]
            # The blocks of the encoder share a graph, and those of the decoder.
            assert counters["stats"]["unique_graphs"] == (2 if compiled else 0)
    first = losses[False, False]
    assert len(set(first)) == 3
    assert all(other == pytest.approx(first, abs=1e-5) for other in losses.values())


def test_a_batch_that_does_not_fit_is_checkpointed_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[bool] = []

    def timed_steps(plan: gpu_train.Plan, size: str, compiled: bool, checkpointing: bool) -> dict[str, float]:
        if checkpointing not in fits:
            raise torch.OutOfMemoryError("no memory")
        return {"clips_per_s": 1.0, "peak_gib": 0.0, "host_waits": 0}

    monkeypatch.setattr(gpu_train, "timed_steps", timed_steps)
    with pytest.raises(SystemExit, match="a batch of 2 clips does not fit"):
        gpu_train.figures(PLAN, "tiny", compiled=False, peak=None)
    fits.append(True)
    assert gpu_train.figures(PLAN, "tiny", compiled=False, peak=1e-3)["checkpointing"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_train.main(["--json"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "NVIDIA GPU" in err
