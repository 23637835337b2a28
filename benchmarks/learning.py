"""What pre-training is worth at toy scale: ``python -m benchmarks.learning [--clips N] [--seeds N] [--json]``.

A `tiny` VideoMAE V2 learns to tell eight motions apart from the labelled clips of an embedded corpus, once after
pre-training on the unlabelled ones and once without. A small Conv3D is the control. All arms of a seed see the same
labelled batches in the same order with the same optimiser; only where the weights come from differs:

- ``pretrained``: the encoder of a model pre-trained on the unlabelled hybrid;
- ``untrained``: the encoder of that same model before its first step. It has the scale of initial weights that
  pre-training starts from (Xavier), so that this scale alone is not taken for something learnt;
- ``scratch``: the classifier's own fresh weights (truncated normal, 0.02);
- ``scratch, longer``: the same with as many steps as pre-training and fine-tuning have together.

The recipe (``Schedule``) was chosen beforehand on clips rendered from other seeds, and is the same for all arms of the
ViT; there, training from scratch was tried at three rates (5e-4, 1.5e-3 and 4e-3), one seed each. The held-out clips
are scored once by each trained model, and nothing is chosen by them.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from tqdm import tqdm

from benchmarks import conv3d
from benchmarks.learning_data import Clips, prepare
from benchmarks.learning_report import difference, spread, table
from loaders.batch import Batch
from loaders.evaluation_loader import EvaluationLoader
from loaders.train_loader import ClipLoader
from loaders.views import EvaluationConfig, LoaderConfig
from model.classifier import Classifier, ClassifierConfig
from model.evaluation import Evaluation, evaluate
from model.objectives import Classification, Draw, Pretraining
from model.optim import OptimConfig
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from model.training import FitConfig, fit
from model.transfer import from_pretrainer, load_classifier, load_pretrainer
from warehouse.corpus.plants import LEAST_CLIPS

WORK = Path(".reelhouse/benchmarks/learning")
SIZE, FRAMES, IMAGE = SIZES["tiny"], 8, 48
DEVICE = torch.device("cpu")
PRETRAINED, UNTRAINED, SCRATCH, LONGER, CONTROL = "pretrained", "untrained", "scratch", "scratch, longer", "Conv3D"


@dataclass(frozen=True)
class Schedule:
    """The recipe. Steps and clips a step; rates are the peaks of a cosine after a warm-up of a tenth of the steps."""

    pretrain_steps: int = 2000
    finetune_steps: int = 800
    pretrain_clips: int = 16  # two views of each
    finetune_clips: int = 24
    pretrain_rate: float = 3e-3
    finetune_rate: float = 1.5e-3


SCHEDULE = Schedule()


@dataclass(frozen=True)
class Score:
    """One trained model on the held-out clips; ``batches`` is a digest of the clips trained on, in order."""

    arm: str
    seed: int
    steps: int
    top1: float
    loss: float
    batches: str


class Watched:
    """Passes batches on and notes which clips they hold."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches, self.digest = batches, hashlib.blake2b(digest_size=8)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            self.digest.update(" ".join(batch.clip_ids).encode())
            yield batch


def main(arguments: Sequence[str] | None = None, schedule: Schedule = SCHEDULE) -> int:
    """Run the benchmark and print its table, or with ``--json`` one object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=3000, help=f"clips to render, {LEAST_CLIPS} or more (3000)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of every arm (3)")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for corpus, shards and weights ({WORK})")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    asked = parser.parse_args(arguments)
    clips = prepare((asked.work / f"clips-{asked.clips}").absolute(), asked.clips)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        result = run(clips, asked.seeds, schedule)
    finally:
        dist.destroy_process_group()
    print(json.dumps(result, indent=1) if asked.json else table(result))
    return 0


def run(clips: Clips, seeds: int, schedule: Schedule) -> dict[str, Any]:
    """Train and score all arms for the seeds 0, 1…; the figures, ready for JSON."""
    scores: list[Score] = []
    losses: list[float] = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            untrained = Pretrainer(PretrainerConfig(SIZE, FRAMES, IMAGE), torch.Generator().manual_seed(seed))
            begun = {name: tensor.clone() for name, tensor in untrained.state_dict().items()}
            pretrained = _pretrain(untrained, clips, seed, schedule, Path(folder) / "pretraining")
            losses.append(_held_out_loss(pretrained, clips))
            steps = schedule.finetune_steps
            starts = {PRETRAINED: pretrained.state_dict(), UNTRAINED: begun, SCRATCH: None, LONGER: None}
            for arm, start in starts.items():
                length = steps + schedule.pretrain_steps if arm == LONGER else steps
                model = Classifier(
                    ClassifierConfig(SIZE, FRAMES, IMAGE, clips.class_names), torch.Generator().manual_seed(seed)
                )
                if start is not None:
                    from_pretrainer(model, start, arm)
                scores.append(_finetune(arm, model, clips, seed, schedule, length, Path(folder) / arm))
            scores.append(_control(clips, seed, schedule))
    return _figures(clips, schedule, scores, losses)


def _pretrain(model: Pretrainer, clips: Clips, seed: int, schedule: Schedule, folder: Path) -> Pretrainer:
    loader = LoaderConfig(
        clips_per_batch=schedule.pretrain_clips, views=2, frames=FRAMES, size=IMAGE, seed=seed, workers=1
    )
    config = _fit_config(schedule.pretrain_steps, seed, schedule.pretrain_rate, (0.9, 0.95))
    with closing(ClipLoader(clips.unlabelled, loader)) as batches, _bar("pre-training", seed, config.steps) as bar:
        outcome = fit(Pretraining(model), batches, config, folder, DEVICE, report=lambda step: _show(bar, step.loss))
    return load_pretrainer(outcome.checkpoint)


def _finetune(
    arm: str, model: Classifier, clips: Clips, seed: int, schedule: Schedule, steps: int, folder: Path
) -> Score:
    losses: list[float] = []
    config = _fit_config(steps, seed, schedule.finetune_rate, (0.9, 0.999))
    with closing(_labelled_batches(clips, seed, schedule)) as batches, _bar(arm, seed, steps) as bar:

        def note(loss: float) -> None:
            losses.append(loss)
            _show(bar, loss)

        watched = Watched(batches)
        outcome = fit(Classification(model), watched, config, folder, DEVICE, report=lambda step: note(step.loss))
    scored = _score(load_classifier(outcome.checkpoint), clips)
    return Score(arm, seed, steps, scored.top1, statistics.mean(losses[-50:]), watched.digest.hexdigest())


def _control(clips: Clips, seed: int, schedule: Schedule) -> Score:
    model = conv3d.Conv3d(conv3d.ControlConfig(clips.class_names), seed)
    steps, losses = schedule.finetune_steps, []
    with closing(_labelled_batches(clips, seed, schedule)) as batches, _bar(CONTROL, seed, steps) as bar:
        watched = Watched(batches)
        for loss in conv3d.train(model, iter(watched), steps):
            losses.append(loss)
            _show(bar, loss)
    # Scoring calls the model and reads its class names: all that it has of a Classifier.
    scored = _score(cast(Classifier, model), clips)
    return Score(CONTROL, seed, steps, scored.top1, statistics.mean(losses[-50:]), watched.digest.hexdigest())


def _labelled_batches(clips: Clips, seed: int, schedule: Schedule) -> ClipLoader:
    loader = LoaderConfig(clips_per_batch=schedule.finetune_clips, frames=FRAMES, size=IMAGE, seed=seed, workers=1)
    return ClipLoader(clips.labelled, loader)


def _fit_config(steps: int, seed: int, rate: float, betas: tuple[float, float]) -> FitConfig:
    optim = OptimConfig(peak_rate=rate, warmup_steps=steps // 10, betas=betas)
    return FitConfig(steps, checkpoint_every=steps, seed=seed, optim=optim)


def _score(model: Classifier, clips: Clips) -> Evaluation:
    """Three windows in time, averaged, as the demo's evaluation."""
    views = EvaluationConfig(clips_per_batch=16, frames=FRAMES, size=IMAGE, temporal_views=3, workers=1)
    with closing(EvaluationLoader(clips.held_out, views)) as batches:
        return evaluate(model, batches, [sample.clip_id for sample in clips.held_out], DEVICE)


@torch.no_grad()
def _held_out_loss(model: Pretrainer, clips: Clips) -> float:
    """Loss of pre-training on the held-out clips with fixed masks, the same for every seed."""
    views = EvaluationConfig(clips_per_batch=32, frames=FRAMES, size=IMAGE, workers=1)
    with closing(EvaluationLoader(clips.held_out, views)) as batches:
        losses = [
            (Pretraining(model).loss(batch, Draw(0, number, 0, 1), DEVICE).item(), len(batch.frames))
            for number, batch in enumerate(batches)
        ]
    return sum(loss * rows for loss, rows in losses) / sum(rows for _, rows in losses)


def mean_loss() -> float:
    """Loss of predicting every cube's mean colour: the mean square of the normalised target.

    Targets have an unbiased variance of 1 over the n pixels of a cube and channel, thus a mean square of (n - 1) / n.
    """
    pixels = SIZE.cube_values // 3
    return (pixels - 1) / pixels


def _figures(clips: Clips, schedule: Schedule, scores: list[Score], losses: list[float]) -> dict[str, Any]:
    by_arm: dict[str, list[float]] = {}
    for score in scores:
        by_arm.setdefault(score.arm, []).append(score.top1)
    held_out = [sample.class_id for sample in clips.held_out]
    return {
        "benchmark": "learning",
        "schedule": asdict(schedule),
        "size": SIZE.name,
        "clips": {
            "unlabelled": len(clips.unlabelled),
            "labelled": len(clips.labelled),
            "labelled_per_class": dict(zip(clips.class_names, clips.labelled_per_class, strict=True)),
            "held_out": len(clips.held_out),
        },
        "chance_uniform": 1 / len(clips.class_names),
        "chance_largest_class": max(held_out.count(class_id) for class_id in set(held_out)) / len(held_out),
        "top1": {arm: {"mean": statistics.mean(values), "spread": spread(values)} for arm, values in by_arm.items()},
        "difference": {
            other: difference(by_arm[PRETRAINED], by_arm[other]) for other in (UNTRAINED, SCRATCH, LONGER)
        },
        "pretraining": {
            "held_out_loss": losses,
            "loss_of_predicting_the_mean": mean_loss(),
            "below_the_mean": max(losses) < mean_loss(),
        },
        "scores": [asdict(score) for score in scores],
    }


def _bar(what: str, seed: int, steps: int) -> "tqdm[Any]":
    return tqdm(total=steps, desc=f"seed {seed}, {what}", unit="step")


def _show(bar: "tqdm[Any]", loss: float) -> None:
    bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
    bar.update()


if __name__ == "__main__":
    sys.exit(main())
