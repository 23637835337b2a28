"""What a training run leaves behind as it goes: the log, metrics, TensorBoard events and pictures."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import torch
from torch.utils.tensorboard import SummaryWriter

from assets.pictures import name_shown, write_png
from assets.run_clips import Say
from assets.stages import PretrainSettings, TrainingSettings
from assets.validation import NAME as VALIDATION
from assets.validation import Validator
from loaders.evaluation_loader import EvaluationClipError, EvaluationLoader
from loaders.views import EvaluationConfig
from model.checkpoint import Checkpoint
from model.pictures import reconstruction_sheet
from model.training import Progress
from model.transfer import load_pretrainer
from warehouse.catalog.snapshots import Sample
from warehouse.store import replace_file

LOG_SECONDS = 5.0
PICTURE_CLIPS = 3


class Reporter:
    """Rank 0's diary: run log, ``metrics.jsonl``, TensorBoard, and reconstructions at each checkpoint."""

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        samples: Sequence[Sample],
        resume: Checkpoint | None,
        device: torch.device,
        say: Say,
        validator: Validator | None = None,
    ) -> None:
        resumed_step = resume.step if resume else 0
        self.folder, self.settings, self.device, self.say, self.validator = folder, settings, device, say, validator
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
        if resume:  # the run may have been killed between the checkpoint and its picture
            self._draw(resume.path, resume.step)

    def report(self, progress: Progress) -> None:
        """Note a step. Where its checkpoint is saved next, all that was noted is on disk before that."""
        self._note_failed(progress)
        row = asdict(progress) | {"checkpoint": progress.checkpoint and progress.checkpoint.name}
        row["failed"] = len(progress.failed)
        row[VALIDATION] = row.pop("validation")
        scores = self.validator.scores if self.validator and progress.validation is not None else {}
        if len(scores) > 1:
            row |= {f"{VALIDATION}/{name}": score for name, score in scores.items()}
        self.file.write(json.dumps(row) + "\n")
        for name in ("loss", "rate", "grad_norm", "clips_per_s", "tflops_per_s", "mfu", "data_wait_share"):
            if row[name] is not None:
                self.board.add_scalar(name, row[name], progress.step)
        self.board.add_scalar("failed_clips", self.failed, progress.step)
        for name, loss in progress.losses.items():
            self.board.add_scalar(f"loss/{name}", loss, progress.step)
        for name in (key for key in row if key.startswith(VALIDATION) and row[key] is not None):
            self.board.add_scalar(name, row[name], progress.step)
        now = time.monotonic()
        if now - self.said > LOG_SECONDS or progress.step == progress.steps:
            self.said = now
            each = ", ".join(f"{name} {loss:.4f}" for name, loss in progress.losses.items())
            own = f" ({each})" if each else ""
            left = (now - self.started) / (progress.step - self.first) * (progress.steps - progress.step)
            self.say(
                f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}{own}  rate {progress.rate:.2e}  "
                f"{progress.clips_per_s:.0f} clips/s  {f'MFU {progress.mfu:.0%}  ' if progress.mfu else ''}"
                f"data_wait {progress.data_wait_share:.0%}  "
                f"{f'{self.failed} clips failed  ' if self.failed else ''}{left:.0f} s left"
            )
        if progress.checkpoint is not None:
            self.board.flush()

    def saved(self, progress: Progress) -> None:
        """Tell of the step's checkpoint, and draw what it reconstructs."""
        assert progress.checkpoint is not None
        said = "" if progress.validation is None else f", validation top-1 {progress.validation:.1%}"
        self.say(f"saved {progress.checkpoint.name}{said}")
        self._draw(progress.checkpoint, progress.step)

    def _note_failed(self, progress: Progress) -> None:
        """Clips that could not be used: each time in ``failures.jsonl``, and once in the log."""
        for failure in progress.failed:
            self.failures.write(json.dumps({"step": progress.step, **failure}) + "\n")
            if failure["clip_id"] not in self.told:
                self.told.add(failure["clip_id"])
                self.say(f"clip {failure['clip_id']} was passed over ({failure['error_class']}): {failure['error']}")
        self.failed += len(progress.failed)

    def _draw(self, checkpoint: Path, step: int) -> None:
        """Picture of the same clips and masks at each checkpoint of pre-training, once."""
        target = self.folder / "pictures" / f"step-{step:06d}.png"
        if not isinstance(self.settings, PretrainSettings) or target.exists():
            return
        loader = self.settings.loader
        view = EvaluationConfig(clips_per_batch=PICTURE_CLIPS, frames=loader.frames, size=loader.size)
        try:
            with EvaluationLoader(self.shown, view) as batches:
                frames = next(iter(batches)).frames
        except EvaluationClipError as error:  # training goes on without such a clip, and so without the picture
            self.say(f"no picture of {checkpoint.name}: {error}")
            return
        generator = torch.Generator(self.device).manual_seed(0)
        model = load_pretrainer(checkpoint).to(self.device)
        sheet = reconstruction_sheet(model, frames.to(self.device), generator)
        self.board.add_image("original, masked, reconstruction", sheet, step, dataformats="HWC")
        write_png(target, sheet)

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
