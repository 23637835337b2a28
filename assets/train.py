"""The training entry point: ``torchrun --standalone --nproc-per-node N -m assets.train RUN/config.json``.

Started by the training assets, or by hand. Every rank runs it; rank 0 reports through Dagster Pipes, and writes
``metrics.jsonl``, TensorBoard events, pictures and at the end ``result.json`` into the run's folder. A run that was
stopped goes on from its last checkpoint. INT, TERM, HUP and the end of whoever started it end it after the present
step, with a checkpoint.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from dagster_pipes import PipesContext, open_dagster_pipes
from torch.distributed.elastic.multiprocessing.errors import record

from assets.derived_stages import FeatureSettings
from assets.ending import hold, patient_group, reasons_to_stop
from assets.reporter import Reporter
from assets.run_clips import Say, open_split, order_words
from assets.run_evaluation import evaluate_run
from assets.run_features import extract_run
from assets.run_memory import memory_words
from assets.run_objectives import objective_of
from assets.stages import EvaluationSettings, RunSpec, TrainingSettings, read_spec
from assets.validation import validator
from loaders.continuing import continuation
from loaders.dali_choice import training_loader
from loaders.mixing import mixed
from loaders.order import Cursor
from loaders.to_device import DeviceBatches
from loaders.train_loader import ClipLoader
from model import checkpoint as checkpoints
from model.training import Outcome, fit
from warehouse.store import Store, replace_file


@record
def main() -> int:
    """Run the stage; returns 0 when it is finished, 1 when it was cancelled."""
    spec, data_root = read_spec(Path(sys.argv[1]))
    store = Store(data_root)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda":
        device = torch.device("cuda", dist.get_node_local_rank())
        torch.cuda.set_device(device)
    stop, group = reasons_to_stop(), patient_group()
    if dist.get_rank() > 0:
        dist.barrier(group)
        status = _run(spec, store, device, stop, lambda text: None)
    else:
        with open_dagster_pipes() as pipes, hold(store.runs / spec.run_id, stop, _sayer(pipes)):
            dist.barrier(group)
            status = _run(spec, store, device, stop, _sayer(pipes))
    # Not after an error: other ranks may be in the middle of an exchange, and NCCL would wait for it here, before
    # anybody has said what went wrong.
    dist.destroy_process_group()
    return status


def _run(spec: RunSpec, store: Store, device: torch.device, stop: Callable[[], bool], say: Say) -> int:
    folder = store.runs / spec.run_id
    started = time.monotonic()
    if isinstance(spec.settings, EvaluationSettings):
        result = evaluate_run(spec, spec.settings, store, device, stop, say)
    elif isinstance(spec.settings, FeatureSettings):
        result = extract_run(spec, spec.settings, store, device, stop, say)
    else:
        outcome = _fit(spec, spec.settings, store, device, stop, say)
        checkpoint = str(outcome.checkpoint.relative_to(store.root))
        result = {"status": outcome.status, "step": outcome.step, "checkpoint": checkpoint}
    if dist.get_rank() == 0:
        result["attempt_seconds"] = time.monotonic() - started
        replace_file(folder / "result.json", json.dumps(result, indent=1).encode())
    say(f"{spec.stage} {result['status']}: {result['checkpoint']}")
    return 0 if result["status"] == "finished" else 1


def _fit(
    spec: RunSpec,
    settings: TrainingSettings,
    store: Store,
    device: torch.device,
    stop: Callable[[], bool],
    say: Say,
) -> Outcome:
    """Train to the end, or until stopped, from the last checkpoint if there is one."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    folder = store.runs / spec.run_id
    places, samples = open_split(spec, store, "train", say)
    resume = checkpoints.latest(folder / "checkpoints")
    say(
        f"{spec.stage}: {len(samples)} training clips of snapshot {spec.snapshot_id}, {settings.fit.steps} steps on "
        f"{ranks} × {device.type}" + (f", going on after step {resume.step}" if resume else "")
    )
    say(f"order: {order_words(settings.loader)}")
    objective = objective_of(spec, settings, store, device, say)
    if rank == 0:
        say(memory_words(settings, objective, ranks, device.type == "cuda"))
    start = Cursor()
    if resume:
        before = [Cursor(**cursor) for cursor in resume.cursors]
        going_on = continuation(before, ranks, len(places), settings.loader.run_clips)
        start = going_on.starts[rank]
        if ranks != len(before):
            say(str(going_on))
    batches, how = training_loader(places, settings.loader, rank, ranks, start, device)
    say(how)
    validate = validator(spec, settings.loader, objective.models, store, device, say)
    with batches, DeviceBatches(batches, device) if isinstance(batches, ClipLoader) else nullcontext(batches) as ready:
        if isinstance(ready, DeviceBatches):  # DALI's are on the device
            say(ready.how)
        reporter = None
        if rank == 0:
            reporter = Reporter(folder, settings, samples, resume, device, say, validate)
        outcome = fit(
            objective,
            mixed(ready, settings.loader, rank, device),
            settings.fit,
            folder / "checkpoints",
            device,
            resume,
            report=reporter.report if reporter else lambda progress: None,
            saved=reporter.saved if reporter else lambda progress: None,
            should_stop=stop,
            validate=validate,
        )
    if reporter:
        reporter.close()
    return outcome


def _sayer(pipes: PipesContext) -> Say:
    def say(text: str) -> None:
        pipes.log.info(text)

    return say


if __name__ == "__main__":
    sys.exit(main())
