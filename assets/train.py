"""The training entry point: ``torchrun --standalone --nproc-per-node N -m assets.train RUN/config.json``.

Started by the training assets, or by hand. Every rank runs it; rank 0 reports through Dagster Pipes, and writes
``metrics.jsonl``, TensorBoard events, pictures and at the end ``result.json`` into the run's folder. A run that was
stopped goes on from its last checkpoint. INT, TERM, HUP and the end of whoever started it end it after the present
step, with a checkpoint.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist
from dagster_pipes import PipesContext, open_dagster_pipes
from torch.utils.tensorboard import SummaryWriter

from assets.ending import hold, reasons_to_stop
from assets.pictures import name_shown, write_png
from assets.stages import EvaluationSettings, PretrainSettings, RunSpec, SupervisedSettings, read_spec
from loaders.dali_choice import evaluation_loader, training_loader
from loaders.evaluation_loader import EvaluationClipError, EvaluationLoader
from loaders.mixing import mixed
from loaders.order import Cursor
from loaders.to_device import DeviceBatches
from loaders.train_loader import ClipLoader
from loaders.views import EvaluationConfig, LoaderConfig
from model import checkpoint as checkpoints
from model.classifier import Classifier, ClassifierConfig
from model.evaluation import evaluate
from model.objectives import Classification, Pretraining
from model.pictures import reconstruction_sheet
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from model.training import Outcome, Progress, fit
from model.transfer import load_classifier, load_pretrainer, transfer
from model.weights import read_config
from warehouse.catalog.snapshots import Sample, Tombstone, open_places
from warehouse.store import Store, replace_file

LOG_SECONDS = 5.0
PICTURE_CLIPS = 3
GONE_SHOWN = 20
"""Ids of clips taken down that the log names."""
Say = Callable[[str], None]


def main() -> int:
    """Run the stage; returns 0 when it is finished, 1 when it was cancelled."""
    spec, data_root = read_spec(Path(sys.argv[1]))
    store = Store(data_root)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda":
        device = torch.device("cuda", dist.get_node_local_rank())
        torch.cuda.set_device(device)
    stop = reasons_to_stop()
    try:
        if dist.get_rank() > 0:
            dist.barrier()
            return _run(spec, store, device, stop, lambda text: None)
        with open_dagster_pipes() as pipes, hold(store.runs / spec.run_id, stop, _sayer(pipes)):
            dist.barrier()
            return _run(spec, store, device, stop, _sayer(pipes))
    finally:
        dist.destroy_process_group()


def _run(spec: RunSpec, store: Store, device: torch.device, stop: Callable[[], bool], say: Say) -> int:
    folder = store.runs / spec.run_id
    started = time.monotonic()
    if isinstance(spec.settings, EvaluationSettings):
        result = _evaluate(spec, spec.settings, store, device, say)
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
    settings: PretrainSettings | SupervisedSettings,
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
    objective = (
        _pretraining(settings)
        if isinstance(settings, PretrainSettings)
        else _classification(spec, settings, store, say)
    )
    start = Cursor(**resume.cursor(rank, ranks)) if resume else Cursor()
    batches, how = training_loader(places, settings.loader, rank, ranks, start, device)
    say(how)
    with batches, DeviceBatches(batches, device) if isinstance(batches, ClipLoader) else nullcontext(batches) as ready:
        if isinstance(ready, DeviceBatches):  # DALI's are on the device
            say(ready.how)
        reporter = None
        if rank == 0:
            reporter = Reporter(folder, settings, samples, resume.step if resume else 0, say)
        outcome = fit(
            objective,
            mixed(ready, settings.loader, rank, device),
            settings.fit,
            folder / "checkpoints",
            device,
            resume,
            reporter.report if reporter else lambda progress: None,
            stop,
        )
    if reporter:
        reporter.close()
    return outcome


def order_words(loader: LoaderConfig) -> str:
    """How a loader draws, for the log."""
    total = sum((loader.source_shares or {}).values())
    shares = [f"{source} {share / total:.1%}" for source, share in (loader.source_shares or {}).items()]
    drawn = f"draws by source: {', '.join(shares)}" if shares else "draws by the weights of the snapshot's clips"
    runs = "a global shuffle" if loader.run_clips == 1 else f"runs of {loader.run_clips} clips of one shard, shuffled"
    return f"{drawn}; {runs}"


def open_split(
    spec: RunSpec, store: Store, split: str, say: Say
) -> tuple[Sequence[Sample | Tombstone], Sequence[Sample]]:
    """The places of the snapshot's split, and the samples among them; says which clips have been taken down."""
    places = open_places(store, spec.snapshot_id, split)
    samples = places.present()
    if len(samples) < len(places):
        gone = places.columns().gone.nonzero()[0].tolist()
        shown = [places[number].clip_id for number in gone[:GONE_SHOWN]]
        named = ", ".join([*shown, *(["…"] if len(gone) > GONE_SHOWN else [])])
        say(f"{len(gone)} of {len(places)} {split} clips have been taken down since and are left out: {named}")
    return places, samples


def _pretraining(settings: PretrainSettings) -> Pretraining:
    config = PretrainerConfig(
        SIZES[settings.size], settings.loader.frames, settings.loader.size, settings.tube_ratio, settings.cell_ratio
    )
    return Pretraining(Pretrainer(config, torch.Generator().manual_seed(settings.fit.seed)))


def _classification(spec: RunSpec, settings: SupervisedSettings, store: Store, say: Say) -> Classification:
    """A classifier for the snapshot's classes, filled from the parent's weights."""
    if spec.parent is None:
        raise ValueError(f"{spec.run_id}: a supervised stage starts from the checkpoint of another stage")
    parent = store.root / spec.parent
    config = ClassifierConfig(
        size=read_config(parent)[1].size,
        frames=settings.loader.frames,
        image=settings.loader.size,
        class_names=tuple(store.rows("snapshots", spec.snapshot_id)[0]["classes"]),
        drop_path=settings.drop_path,
        head_dropout=settings.head_dropout,
    )
    model = Classifier(config, torch.Generator().manual_seed(settings.fit.seed))
    say(f"weights: {transfer(model, parent)}")
    return Classification(model, settings.label_smoothing)


def _evaluate(
    spec: RunSpec, settings: EvaluationSettings, store: Store, device: torch.device, say: Say
) -> dict[str, Any]:
    """Score the parent checkpoint on the snapshot's evaluation split."""
    if spec.parent is None or dist.get_world_size() != 1:
        raise ValueError(f"{spec.run_id}: an evaluation takes one process and the checkpoint of another stage")
    _, samples = open_split(spec, store, settings.split, say)
    say(f"evaluation: {len(samples)} {settings.split} clips, {settings.loader.views} views each")
    model = load_classifier(store.root / spec.parent)
    batches, how = evaluation_loader(samples, settings.loader, device)
    say(how)
    with batches:
        scores = evaluate(model, batches, [sample.clip_id for sample in samples], device)
    return {
        "status": "finished",
        "checkpoint": spec.parent,
        "split": settings.split,
        "scores": {
            "top1": scores.top1,
            "top5": scores.top5,
            "chance": scores.chance_uniform,
            "chance_largest_class": scores.chance_largest,
            "clips": len(scores.predictions),
        },
        "class_names": list(scores.class_names),
        "confusion": scores.confusion.tolist(),
        "predictions": {p.clip_id: scores.class_names[p.predicted] for p in scores.predictions},
    }


class Reporter:
    """Rank 0's diary: run log, ``metrics.jsonl``, TensorBoard, and reconstructions at each checkpoint."""

    def __init__(
        self,
        folder: Path,
        settings: PretrainSettings | SupervisedSettings,
        samples: Sequence[Sample],
        resumed_step: int,
        say: Say,
    ) -> None:
        self.folder, self.settings, self.say = folder, settings, say
        # Line by line: a step that was saved is noted, killed or not.
        self.file, self.failures = (
            _continued(folder / name, resumed_step) for name in ("metrics.jsonl", "failures.jsonl")
        )
        before = [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]
        self.failed, self.told = len(before), {row["clip_id"] for row in before}
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)
        # Spread over the snapshot, so that several sources show.
        self.shown = samples[:: max(1, len(samples) // PICTURE_CLIPS)][:PICTURE_CLIPS]
        if isinstance(settings, PretrainSettings):
            # By these ids `reelhouse compact` finds the pictures of a clip that is taken down.
            self.board.add_text("clips shown", name_shown(folder, [sample.clip_id for sample in self.shown]))
        self.said = self.started = time.monotonic()
        self.first = resumed_step

    def report(self, progress: Progress) -> None:
        """Note a step."""
        self._note_failed(progress)
        row = asdict(progress) | {"checkpoint": progress.checkpoint and progress.checkpoint.name}
        row["failed"] = len(progress.failed)
        self.file.write(json.dumps(row) + "\n")
        for name in ("loss", "rate", "grad_norm", "clips_per_s", "data_wait_share"):
            self.board.add_scalar(name, row[name], progress.step)
        self.board.add_scalar("failed_clips", self.failed, progress.step)
        now = time.monotonic()
        if now - self.said > LOG_SECONDS or progress.step == progress.steps:
            self.said = now
            left = (now - self.started) / (progress.step - self.first) * (progress.steps - progress.step)
            self.say(
                f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  rate {progress.rate:.2e}  "
                f"{progress.clips_per_s:.0f} clips/s  data_wait {progress.data_wait_share:.0%}  "
                f"{f'{self.failed} clips failed  ' if self.failed else ''}{left:.0f} s left"
            )
        if progress.checkpoint is not None:
            self.say(f"saved {progress.checkpoint.name}")
            if isinstance(self.settings, PretrainSettings):
                self._draw(progress)

    def _note_failed(self, progress: Progress) -> None:
        """Clips that could not be used: each time in ``failures.jsonl``, and once in the log."""
        for failure in progress.failed:
            self.failures.write(json.dumps({"step": progress.step, **failure}) + "\n")
            if failure["clip_id"] not in self.told:
                self.told.add(failure["clip_id"])
                self.say(f"clip {failure['clip_id']} was passed over ({failure['error_class']}): {failure['error']}")
        self.failed += len(progress.failed)

    def _draw(self, progress: Progress) -> None:
        """Picture of the same clips and masks at each checkpoint."""
        assert progress.checkpoint is not None
        loader = self.settings.loader
        view = EvaluationConfig(clips_per_batch=PICTURE_CLIPS, frames=loader.frames, size=loader.size)
        try:
            with EvaluationLoader(self.shown, view) as batches:
                frames = next(iter(batches)).frames
        except EvaluationClipError as error:  # training goes on without such a clip, and so without the picture
            self.say(f"no picture of {progress.checkpoint.name}: {error}")
            return
        sheet = reconstruction_sheet(load_pretrainer(progress.checkpoint), frames, torch.Generator().manual_seed(0))
        self.board.add_image("original, masked, reconstruction", sheet, progress.step, dataformats="HWC")
        write_png(self.folder / "pictures" / f"step-{progress.step:06d}.png", sheet)

    def close(self) -> None:
        """Write out what is buffered."""
        self.file.close()
        self.failures.close()
        self.board.close()


def _continued(path: Path, resumed_step: int) -> TextIO:
    """A file of a line of JSON for each step or event, for appending.

    Steps after the checkpoint were lost with the killed process and are taken again.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= resumed_step]
    replace_file(path, "".join(f"{line}\n" for line in kept).encode())
    return path.open("a", buffering=1)


def _sayer(pipes: PipesContext) -> Say:
    def say(text: str) -> None:
        pipes.log.info(text)

    return say


if __name__ == "__main__":
    sys.exit(main())
