"""The training loop of every stage: steps, reports, checkpoints, a clean stop and going on where it was.

The caller initialises the process group (also for one rank) and starts the loop on every rank.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from model import checkpoint as checkpoints
from model.checkpoint import Checkpoint
from model.course import Course
from model.fit_config import FitConfig
from model.flops import peak_tflops
from model.objectives import Draw, Objective
from model.optim import rate_at
from model.stepping import Reading, StepNumbers, add_gradients, finish_step, prepare


@dataclass(frozen=True)
class Progress:
    """One step, over all ranks.

    ``loss`` and ``grad_norm`` are means over the models; where there are several, ``losses`` and ``grad_norms`` have
    those of each, by name. ``clips_per_s`` counts a clip once, however many views of it there are; ``tflops_per_s`` is
    what each rank computes of all views (``model.flops``), and ``mfu`` its share of the device's peak, where that is
    known. ``data_wait_share`` is the part of the step's time spent waiting for its batches. ``failed`` has a row for
    each clip that a rank passed over to make its batch: the rank, and the fields of what the loader recorded.
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
    """Where this step's checkpoint comes, if it has one."""
    tflops_per_s: float = 0.0
    mfu: float | None = None
    validation: float | None = None
    """What ``validate`` said of that checkpoint."""
    losses: Mapping[str, float] = field(default_factory=dict)
    grad_norms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How training ended, and its last checkpoint."""

    status: Literal["finished", "cancelled"]
    step: int
    checkpoint: Path


class TrainingBatch(Protocol):
    """A batch as the loop takes it (``loaders.batch.Batch`` is one)."""

    @property
    def frames(self) -> Tensor:
        """uint8 (B, T, H, W, 3), RGB; mixed clips may be float32 on the same scale."""
        ...

    @property
    def class_ids(self) -> Tensor:
        """int64 (B,), on the CPU; -1 for unlabelled."""
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
    objective: Objective,
    batches: Iterable[TrainingBatch],
    config: FitConfig,
    folder: Path,
    device: torch.device,
    resume: Checkpoint | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    saved: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    validate: Callable[[], float] | None = None,
) -> Outcome:
    """Train the objective's models in place (they become sharded) until ``config.steps`` steps are taken in all.

    On CUDA the host runs a step ahead: a step is reported, and a wish to stop obeyed, while the next one is computed.
    A step with a checkpoint is waited for. While a loss is too high (``model.divergence``) none is saved, so that the
    last ones stay good ones; but at the end and when told to stop.

    Args:
        batches: this rank's batches, of one size on all ranks; when resuming, from where ``resume.cursors`` say
            (``loaders.continuing``).
        folder: where checkpoints go.
        resume: ``checkpoint.latest(folder)``, found by the caller, who opens the batches at its cursor.
        report: called on every rank after each step, and before its checkpoint is saved: to go on from a checkpoint,
            wherever a run was killed, is to go on from a step that was reported.
        saved: called on every rank when the step's checkpoint is there.
        should_stop: polled on every rank at each step; if any rank says so, all save and return.
        validate: called on every rank before each checkpoint; its number, the higher the better, is the measure of the
            checkpoint. Without it that is minus the mean training loss since the checkpoint before. A checkpoint at
            which a run is stopped is saved at once, and has no measure.

    Raises:
        NonFiniteLoss: naming the step and the last checkpoint; the weights of that step are not touched.
        DivergedLoss: naming the step and the last checkpoint from before the loss rose.
        ValueError: if ``resume`` is not the folder's latest checkpoint or the batches end too early.
    """
    check_resume(folder, resume, config)
    trained = prepare(objective, config, device)
    if resume:
        checkpoints.restore(resume, trained)
        if resume.step >= config.steps:
            return Outcome("finished", resume.step, resume.path)
    course = Course(folder, list(trained), config.optim.warmup_steps, resume)
    rank, ranks, stream = dist.get_rank(), dist.get_world_size(), iter(batches)
    in_flight: deque[_Step] = deque()
    stopping = False
    mark = time.perf_counter()

    for step in range(resume.step if resume else 0, config.steps):
        begun = _Step(step + 1, rate_at(step, config.steps, config.optim))
        losses = []
        for part in range(config.accumulate):
            batch = next(stream, None)
            if batch is None:
                raise ValueError(f"the batches ended after step {step}, but {config.steps} steps were asked for")
            draw = Draw(config.seed, step, rank, ranks, part, config.accumulate)
            losses.append(add_gradients(objective, trained, batch, draw, device))
            begun.add(batch)
        told = (begun.data_wait_s, should_stop(), len(begun.failed))
        begun.reading = finish_step(trained, torch.stack(losses).sum(0), told, begun.rate, config)
        in_flight.append(begun)

        due = begun.number == config.steps or begun.number % config.checkpoint_every == 0
        while len(in_flight) > (0 if due or stopping else steps_ahead(device)):
            taken = in_flight.popleft()
            numbers = taken.reading.wait()
            seconds, mark = time.perf_counter() - mark, time.perf_counter()
            course.take(taken.number, numbers.losses, numbers.grad_norms)
            stopping = stopping or numbers.told[1] > 0
            last = stopping or taken.number == config.steps
            place = validation = None
            if not in_flight and (last or (due and course.calm)):
                place = checkpoints.place(folder, taken.number)
                if validate and (not stopping or taken.number == config.steps):
                    validation = validate()
            progress = taken.progress(config, numbers, seconds, objective, device, place, validation)
            report(progress)
            if place:
                measure = course.measure(validation) if validation is not None or not validate else None
                state = course.saving(taken.number)
                cursor = asdict(taken.cursor)
                checkpoints.save(folder, taken.number, config.seed, trained, cursor, config.keep, measure, state)
                saved(progress)
                if last:
                    return Outcome("finished" if taken.number == config.steps else "cancelled", taken.number, place)
                mark = time.perf_counter()  # neither validating nor saving is part of the next step
    raise AssertionError("the last step is always saved")


@dataclass
class _Step:
    """A step that the device may still be computing, by its number from 1: what the host knows of it."""

    number: int
    rate: float
    clips: int = 0
    views: int = 0
    data_wait_s: float = 0.0
    failed: list[Any] = field(default_factory=list)
    cursor: Any = None
    reading: Reading = field(init=False)

    def add(self, batch: TrainingBatch) -> None:
        """Take in a batch; the step ends where its last one ends."""
        self.clips += len(batch.clip_ids)
        self.views += len(batch.frames)
        self.data_wait_s += batch.data_wait_s
        self.failed += batch.failed
        self.cursor = batch.cursor

    def progress(
        self,
        config: FitConfig,
        numbers: StepNumbers,
        seconds: float,
        objective: Objective,
        device: torch.device,
        checkpoint: Path | None,
        validation: float | None,
    ) -> Progress:
        """The report, on every rank."""
        ranks, (wait_s, _, failures) = dist.get_world_size(), numbers.told
        tflops_per_s, peak = self.views * objective.view_flops / 1e12 / seconds, peak_tflops(device)
        models = len(objective.models)
        return Progress(
            step=self.number,
            steps=config.steps,
            loss=sum(numbers.losses.values()) / models,
            rate=self.rate,
            grad_norm=sum(numbers.grad_norms.values()) / models,
            clips_per_s=self.clips * ranks / seconds,
            data_wait_share=min(1.0, wait_s / ranks / seconds),
            failed=of_all_ranks(self.failed) if failures else (),
            checkpoint=checkpoint,
            tflops_per_s=tflops_per_s,
            mfu=tflops_per_s / peak if peak else None,
            validation=validation,
            losses=numbers.losses if models > 1 else {},
            grad_norms=numbers.grad_norms if models > 1 else {},
        )


def steps_ahead(device: torch.device) -> int:
    """How many steps the host gives the device before it waits for the first of them."""
    return 1 if device.type == "cuda" else 0


def check_resume(folder: Path, resume: Checkpoint | None, config: FitConfig) -> None:
    """Raise ValueError if ``resume`` is not the folder's latest checkpoint, or of another seed."""
    found = checkpoints.latest(folder)
    if (found and found.path) != (resume and resume.path):
        raise ValueError(
            f"{folder} has checkpoint {found and found.path.name}, but training was to go on from"
            f" {resume and resume.path}: resume from the latest one or choose another folder"
        )
    if resume and resume.seed != config.seed:
        raise ValueError(f"{resume.path} was trained with seed {resume.seed}, not {config.seed}")


def of_all_ranks(records: Sequence[Any]) -> tuple[Mapping[str, Any], ...]:
    """The records of every rank, with the rank, on every rank."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, [asdict(record) for record in records])
    return tuple({"rank": rank, **record} for rank, records in enumerate(found) for record in records)
