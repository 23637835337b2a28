"""Plans of memory against what steps allocate, by PyTorch's own count of every allocation."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.profiler import ProfilerActivity, profile

from model import objectives, parallel
from model.__main__ import main
from model.classifier import Classifier, ClassifierConfig
from model.memory_plan import GPUS, RESERVED, memory_plan, table
from model.objectives import Classification, Draw, Pretraining
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from model.step_memory import TrainedConfig, step_memory

from small_training import Batch, Cursor  # isort: skip

CPU = torch.device("cpu")
TINY = PretrainerConfig(SIZES["tiny"], 8, 48)
TINY_CLASSIFIER = ClassifierConfig(SIZES["tiny"], 8, 48, ("a", "b"), drop_path=0.2)
S, B = (PretrainerConfig(SIZES[size], 16, 224) for size in "SB")
WITHIN = 0.05
"""Of what is allocated. Kernels' own workspaces are not planned, and a step of little has a larger share of them."""


def build(config: TrainedConfig) -> Pretraining | Classification:
    if isinstance(config, PretrainerConfig):
        return Pretraining(Pretrainer(config))
    return Classification(Classifier(config))


def step_of(
    objective: Pretraining | Classification, rows: int, accumulate: int = 1, device: torch.device = CPU
) -> Callable[[], None]:
    """A step's forward and backward passes; the gradients go away at its end."""
    config = objective.model.config
    shape = (rows, config.frames, config.image, config.image, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8).to(device)
    batch = Batch(frames, torch.zeros(rows, dtype=torch.long), Cursor(1), tuple(map(str, range(rows))))
    draw = Draw(seed=0, step=0, rank=0, ranks=1)

    def step() -> None:
        for _ in range(accumulate):
            objective.loss(batch, draw, device).backward()
        objective.model.zero_grad()

    return step


def most_allocated(step: Callable[[], None]) -> int:
    """Bytes at one time that the step allocates on a CPU, besides what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    recorded = profiled.profiler.kineto_results.events()
    now = most = 0
    for event in sorted((e for e in recorded if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize(
    ("config", "rows", "checkpointing", "accumulate"),
    [
        (TINY, 4, False, 1),
        (TINY, 4, True, 2),
        (TINY_CLASSIFIER, 4, False, 2),
        (TINY_CLASSIFIER, 4, True, 1),
        (S, 2, False, 1),
        (S, 2, True, 1),
        (B, 1, False, 1),
    ],
)
def test_a_step_takes_what_was_planned(
    config: TrainedConfig, rows: int, checkpointing: bool, accumulate: int
) -> None:
    objective = build(config)
    parallel.parallelise(objective.model, CPU, checkpointing)
    step = step_of(objective, rows, accumulate)
    step()  # FSDP2 gets ready when it first runs
    plan = memory_plan(config, rows, 1, accumulate, checkpointing, on_gpu=False)
    assert plan.step == pytest.approx(most_allocated(step), rel=WITHIN)
    assert plan.weights == plan.gradients == plan.optimizer / 2 == 4 * weights_of(objective.model)


def weights_of(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("config", [TINY, TINY_CLASSIFIER])
def test_bfloat16_is_planned_as_autocast_has_it(config: TrainedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU that is told to do as a GPU does."""
    policy = parallel.precision(torch.device("cuda"))
    monkeypatch.setattr(parallel, "precision", lambda device: policy)
    monkeypatch.setattr(objectives, "mixed_precision", lambda device: torch.autocast("cpu", torch.bfloat16))
    objective = build(config)
    for module in objective.model.modules():
        if isinstance(module, nn.LayerNorm):  # autocast has them so on a GPU
            module.forward = in_float32(module)  # type: ignore[assignment,method-assign]
    parallel.parallelise(objective.model, CPU)
    step = step_of(objective, 16)
    step()
    planned = step_memory(config, 16, on_gpu=True, alone=True).peak(1)
    assert planned == pytest.approx(most_allocated(step), rel=WITHIN)
    assert planned != pytest.approx(step_memory(config, 16, on_gpu=False, alone=True).peak(1), rel=WITHIN)


def in_float32(norm: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        gain, shift = norm.weight.float(), norm.bias.float()
        return nn.functional.layer_norm(x.float(), norm.normalized_shape, gain, shift, norm.eps)

    return forward


def saved_bytes(objective: Pretraining | Classification, rows: int) -> int:
    """Of all tensors that autograd keeps, each once, but for weights and what they are views of."""
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in objective.model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step_of(objective, rows)()
    return sum(kept.values())


@pytest.mark.parametrize("config", [TINY, TINY_CLASSIFIER])
def test_activations_are_what_autograd_keeps(config: TrainedConfig) -> None:
    planned = step_memory(config, 4, on_gpu=False, alone=True)
    assert planned.activations == pytest.approx(saved_bytes(build(config), 4), rel=WITHIN)
    with_less = step_memory(config, 4, on_gpu=False, alone=True, checkpointing=True)
    # Of ten widths of a block's tokens and more (docs/model.md) one is left; targets and the embedding's cubes stay.
    assert with_less.activations < planned.activations / 2


def on_one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    objective = build(TINY)
    parallel.parallelise(objective.model, CPU)
    step = step_of(objective, 4)
    step()
    local = [weight.to_local() for weight in objective.model.parameters() if isinstance(weight, DTensor)]
    found = {"step": most_allocated(step), "weights": sum(weight.nbytes for weight in local)}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_share_what_was_planned(tmp_path: Path) -> None:
    mp.spawn(on_one_of_two, args=(tmp_path,), nprocs=2)
    found = json.loads((tmp_path / "0.json").read_text())
    plan = memory_plan(TINY, 4, 2, on_gpu=False)
    assert plan.weights == found["weights"]
    assert plan.step == pytest.approx(found["step"], rel=WITHIN)


def test_a_giant_on_one_gpu_and_on_many() -> None:
    """VideoMAE V2's own run: 32 videos × 4 views on each of 64 GPUs."""
    giant = PretrainerConfig(SIZES["g"], 16, 224)
    alone, shared = (memory_plan(giant, 128, gpus) for gpus in (1, 64))
    small = memory_plan(giant, 128, 64, checkpointing=True)
    assert alone.weights == 4 * 1_026_306_560
    assert shared.weights == pytest.approx(alone.weights / 64, rel=0.001)
    assert shared.frames == 2 * 128 * 16 * 224 * 224 * 3
    assert alone.smallest_gpu == "141 GB" and shared.smallest_gpu == "80 GB"
    assert small.activations < shared.activations / 5
    assert small.total + RESERVED <= 10**9 * GPUS[small.smallest_gpu or ""]
    plans = [memory_plan(giant, 128, gpus, checkpointing=how) for how in (False, True) for gpus in (8, 16, 32, 64)]
    assert table(plans) in (Path(__file__).parents[2] / "docs" / "model.md").read_text()


def test_what_is_kept_beside_is_counted() -> None:
    plain, averaged = memory_plan(TINY, 4, 3), memory_plan(TINY, 4, 3, averaged=True)
    assert averaged.total - plain.total == averaged.averaged == plain.weights
    assert "averaged weights 1 MiB" in averaged.words() and "averaged" not in plain.words()
    assert "averaged" in table([averaged]) and "averaged" not in table([plain])
    mixed = memory_plan(TINY_CLASSIFIER, 4, mixed=True)
    assert mixed.frames == 3 * memory_plan(TINY_CLASSIFIER, 4).frames
    assert memory_plan(TINY, 4, 3, accumulate=2).step > plain.step


def test_the_command_prints_plans(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["memory", "--size", "tiny", "--frames", "8", "--image", "48", "--clips", "2", "--views", "2"]
    assert main([*arguments, "--gpus", "1", "4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    planned = memory_plan(TINY, 4, 4, checkpointing=True)
    assert [(plan["devices"], plan["checkpointing"]) for plan in said["plans"]] == [
        (1, False), (4, False), (1, True), (4, True)
    ]  # fmt: skip
    assert said["plans"][-1]["total"] == planned.total and said["plans"][-1]["smallest_gpu"] == "16 GB"
    assert main([*arguments, "--stage", "classification", "--cpu"]) == 0
    out = capsys.readouterr().out
    assert "classification, 2 clips × 2 views" in out and "fits" not in out
    assert main([*arguments[:-4], "--frames", "7"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "do not divide into cubes" in err
    for option, number in (("--gpus", "0"), ("--clips", "-2"), ("--frames", "-2"), ("--classes", "-5")):
        with pytest.raises(SystemExit):
            main([*arguments, option, number])
        assert f"{option}: '{number}' is not a whole number of 1 or more" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_gpu_takes_what_was_planned(checkpointing: bool) -> None:
    """One GPU, ViT-B; a tenth is left to workspaces and to the allocator, which rounds up."""
    device = torch.device("cuda", 0)
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        objective = build(B)
        parallel.parallelise(objective.model.to(device), device, checkpointing)
        step = step_of(objective, 64, device=device)
        step()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        most = torch.cuda.max_memory_allocated(device) - before
    finally:
        dist.destroy_process_group()
    assert memory_plan(B, 64, checkpointing=checkpointing).step == pytest.approx(most, rel=0.1)
