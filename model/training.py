"""The training loop of every stage: steps, reports, checkpoints, a clean stop and going on where it was.

The caller initialises the process group (also for one rank) and starts the loop on every rank.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from model import checkpoint as checkpoints
from model.blocks import Block
from model.checkpoint import Checkpoint
from model.objectives import Classification, Draw, Pretraining
from model.optim import OptimConfig, build_optimizer, rate_at, set_rate


@dataclass(frozen=True)
class FitConfig:
    """How long to train and how often to save. ``seed`` gives masks, drop path and dropout."""

    steps: int
    checkpoint_every: int
    seed: int
    optim: OptimConfig
    keep: int = 2


@dataclass(frozen=True)
class Progress:
    """One step, over all ranks.

    ``clips_per_s`` counts a clip once, however many views of it there are. ``data_wait_share`` is the part of the
    step's time spent waiting for its batch. ``failed`` has a row for each clip that a rank passed over to make its
    batch: the rank, and the fields of what the loader recorded.
    """

    step: int
    steps: int
    loss: float
    rate: float
    grad_norm: float
    clips_per_s: float
    data_wait_share: float
    failed: tuple[Mapping[str, Any], ...]
    checkpoint: Path | None
    """The checkpoint saved after this step, if one was."""


@dataclass(frozen=True)
class Outcome:
    """How training ended, and its last checkpoint."""

    status: Literal["finished", "cancelled"]
    step: int
    checkpoint: Path


class NonFiniteLoss(RuntimeError):
    """The loss or the gradient is no number any more."""


class TrainingBatch(Protocol):
    """A batch as the loop takes it (``loaders.batch.Batch`` is one)."""

    @property
    def frames(self) -> Tensor:
        """uint8 (B, T, H, W, 3), RGB; mixed clips may be float32 on the same scale."""
        ...

    @property
    def class_ids(self) -> Tensor:
        """int64 (B,); -1 for unlabelled."""
        ...

    @property
    def share(self) -> float:
        """Of each row, what is its own: 1 if clips are not mixed. The rest is of row B - 1 - i."""
        ...

    @property
    def clip_ids(self) -> Sequence[str]:
        """A name for each clip, however many views of it there are."""
        ...

    @property
    def cursor(self) -> Any:
        """Frozen dataclass of ints: where the stream goes on after this batch."""
        ...

    @property
    def data_wait_s(self) -> float:
        """Seconds that the loop waited for this batch."""
        ...

    @property
    def failed(self) -> Sequence[Any]:
        """Dataclasses that record clips which were passed over on the way to this batch."""
        ...


def fit(
    objective: Pretraining | Classification,
    batches: Iterable[TrainingBatch],
    config: FitConfig,
    folder: Path,
    device: torch.device,
    resume: Checkpoint | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train ``objective.model`` in place (it becomes sharded) until ``config.steps`` steps are taken in all.

    Args:
        batches: this rank's batches, of one size on all ranks; when resuming, from ``resume.cursor(rank, ranks)`` on.
        folder: where checkpoints go.
        resume: ``checkpoint.latest(folder)``, found by the caller, who opens the batches at its cursor.
        report: called on every rank after each step.
        should_stop: polled on every rank after each step; if any rank says so, all save and return.

    Raises:
        NonFiniteLoss: naming the step and the last checkpoint; the weights of that step are not touched.
        ValueError: if ``resume`` is not the folder's latest checkpoint or the batches end too early.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    found = checkpoints.latest(folder)
    if (found and found.path) != (resume and resume.path):
        raise ValueError(
            f"{folder} has checkpoint {found and found.path.name}, but training was to go on from"
            f" {resume and resume.path}: resume from the latest one or choose another folder"
        )
    if resume and resume.seed != config.seed:
        raise ValueError(f"{resume.path} was trained with seed {resume.seed}, not {config.seed}")
    model = objective.model.to(device)
    shard(model, device)
    model.train()
    optimizer = build_optimizer(model, model.config.size.depth, config.optim)
    if resume:
        resume.cursor(rank, ranks)  # raises if another number of ranks saved it
        checkpoints.restore(resume, model, optimizer)
        if resume.step >= config.steps:
            return Outcome("finished", resume.step, resume.path)
    last = resume.path if resume else None
    parameters = list(model.parameters())
    stream = iter(batches)

    for step in range(resume.step if resume else 0, config.steps):
        started = time.perf_counter()
        batch = next(stream, None)
        if batch is None:
            raise ValueError(f"the batches ended after step {step}, but {config.steps} steps were asked for")
        rate = rate_at(step, config.steps, config.optim)
        set_rate(optimizer, rate)
        loss = objective.loss(batch, Draw(config.seed, step, rank, ranks), device)
        loss.backward()
        norm = clip(parameters, config.optim.clip_grad)
        # One exchange a step: every rank must know of a broken loss and of a wish to stop, or they would part ways.
        own = [loss.item(), batch.data_wait_s, should_stop(), len(batch.failed)]
        shared = torch.tensor(own, dtype=torch.float64, device=device)
        dist.all_reduce(shared)
        total_loss, total_wait_s, stops, failures = shared.tolist()
        if not math.isfinite(total_loss) or not math.isfinite(norm):
            raise NonFiniteLoss(
                f"step {step + 1}: loss {total_loss / ranks}, gradient norm {norm}; the last good checkpoint is"
                f" {last or 'none'}. Lower the rate, bound the gradient (clip_grad), and resume from there"
            )
        optimizer.step()
        optimizer.zero_grad()
        taken_s = time.perf_counter() - started

        done = step + 1
        saved = None
        if stops or done == config.steps or done % config.checkpoint_every == 0:
            cursor = asdict(batch.cursor)
            saved = last = checkpoints.save(folder, done, config.seed, model, optimizer, cursor, config.keep)
        report(
            Progress(
                step=done,
                steps=config.steps,
                loss=total_loss / ranks,
                rate=rate,
                grad_norm=norm,
                clips_per_s=len(batch.clip_ids) * ranks / taken_s,
                data_wait_share=min(1.0, total_wait_s / ranks / taken_s),
                failed=of_all_ranks(batch.failed) if failures else (),
                checkpoint=saved,
            )
        )
        if stops and saved and done < config.steps:
            return Outcome("cancelled", done, saved)
    assert last is not None
    return Outcome("finished", config.steps, last)


def of_all_ranks(records: Sequence[Any]) -> tuple[Mapping[str, Any], ...]:
    """The records of every rank, with the rank, on every rank."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, [asdict(record) for record in records])
    return tuple({"rank": rank, **record} for rank, records in enumerate(found) for record in records)


def shard(model: nn.Module, device: torch.device) -> None:
    """Shard the model's weights over all ranks, block by block (FSDP2); also where there is one rank."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in list(model.modules()):
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def clip(parameters: list[nn.Parameter], limit: float | None) -> float:
    """Scale gradients down to a norm of ``limit`` over all ranks, if there is a limit; the norm before that."""
    norm = nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()
