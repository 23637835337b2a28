"""What each stage of VideoMAE V2 is worth at toy scale: ``python -m benchmarks.learning [--seeds N] [--json]``.

A `tiny` model learns to tell eight motions apart from a few labelled clips of a rendered corpus, and six actions of
people in UT-Interaction: with pre-training and without, for as many steps as all stages together, with a stage of
post-pre-training in between, with the decoder's mask and without, and as the teacher of a smaller model. A small Conv3D
is the control. All that learn from the same labels see the same batches of them in the same order; only where the
weights come from differs.

The recipe (``learning_stages.Schedule``) was chosen on clips rendered from other seeds. The held-out clips are scored
once by each model that was trained, and nothing is chosen by them. Finished models stay under ``--work``; a second call
trains what is missing, and with ``--only SEED`` the work can be spread over processes.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist

from benchmarks import conv3d, learning_data, learning_real
from benchmarks.learning_data import RenderedClips
from benchmarks.learning_real import RealClips
from benchmarks.learning_report import figures, table
from benchmarks.learning_speed import masking_seconds
from benchmarks.learning_stages import (
    STUDENT,
    Schedule,
    Trainer,
    answers,
    facts,
    held_out_loss,
    mean_loss,
    predictions,
    recipe,
)
from loaders.train_loader import ClipLoader
from model.classifier import Classifier
from warehouse.catalog.snapshots import Sample
from warehouse.corpus.plants import LEAST_CLIPS
from warehouse.store import fingerprint

WORK = Path(".reelhouse/benchmarks/learning")
REAL = Path("../shared/data")
SCHEDULE = Schedule()
SCRATCH, LONGER, UNTRAINED = "scratch", "scratch, longer", "untrained encoder"
PRETRAINED, ENCODER_MASKING = "pre-trained", "pre-trained, encoder masking"
POST, POST_ALONE = "pre-trained, post-pre-trained", "post-pre-trained alone, longer"
TAUGHT, ALONE, LABELS = "student, distilled", "student, few labels", "student, the teacher's labels"
ELSEWHERE = "pre-trained on the rendered clips"
CONTROL = "Conv3D"
DUAL = "pretrained"  # folder of what is pre-trained on the rendered clips with dual masking
"""Names of the arms, as the table has them."""
RENDERED_PAIRS = (
    (PRETRAINED, SCRATCH),
    (PRETRAINED, LONGER),
    (PRETRAINED, UNTRAINED),
    (PRETRAINED, ENCODER_MASKING),
    (POST, PRETRAINED),
    (POST, POST_ALONE),
    (TAUGHT, POST),
    (TAUGHT, ALONE),
    (TAUGHT, LABELS),
)
REAL_PAIRS = ((PRETRAINED, SCRATCH), (PRETRAINED, LONGER), (ELSEWHERE, SCRATCH))
"""Arms that are compared seed by seed."""


@dataclass(frozen=True)
class Score:
    """One trained model on clips that it has not seen. ``steps`` and ``cpu_s`` are of all its stages together."""

    arm: str
    seed: int
    steps: int
    cpu_s: float
    loss: float
    """Mean training loss of the last 50 steps."""
    top1: float
    clips: int


def main(arguments: Sequence[str] | None = None, schedule: Schedule = SCHEDULE) -> int:
    """Run the benchmark and print its tables as Markdown, or with ``--json`` one object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4000, help=f"clips to render, {LEAST_CLIPS} or more (4000)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of every arm (3)")
    parser.add_argument("--only", type=int, metavar="SEED", help="train the models of this seed and print nothing")
    parser.add_argument("--real", type=Path, default=REAL, help=f"folder of ut_interaction and asl_words ({REAL})")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for clips, shards and weights ({WORK})")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    asked = parser.parse_args(arguments)
    work = asked.work.absolute()
    rendered = learning_data.prepare(work / f"clips-{asked.clips}", asked.clips)
    real = None
    if asked.real.is_dir():
        real = learning_real.prepare(work / "real", asked.real)
    else:
        print(f"{asked.real} is not there: without UT-Interaction (--real names another folder)", file=sys.stderr)
    models = work / f"models-{fingerprint(asked.clips, recipe(schedule))[:8]}"
    seeds = range(asked.seeds) if asked.only is None else [asked.only]
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        scores: dict[str, list[Score]] = {"rendered": [], "real": []}
        losses: list[float] = []
        for seed in seeds:
            trainer = Trainer(models / f"seed-{seed}" / "rendered", seed, schedule)
            scores["rendered"] += on_rendered(rendered, trainer)
            dual = trainer.pretrained(DUAL, rendered.unlabelled, schedule.pretrain_steps)
            losses.append(held_out_loss(dual, rendered.held_out))
            if real:
                there = Trainer(models / f"seed-{seed}" / "real", seed, schedule, flip=True)
                scores["real"] += on_real(real, there, dual)
    finally:
        dist.destroy_process_group()
    if asked.only is not None:
        return 0
    result = {
        "benchmark": "learning",
        **recipe(schedule),
        "rendered": {
            "clips": _rendered_facts(rendered, schedule),
            **figures(scores["rendered"], RENDERED_PAIRS),
            "held_out_loss": losses,
            "loss_of_predicting_the_mean": mean_loss(),
        },
        "real": real and {"clips": _real_facts(real), **figures(scores["real"], REAL_PAIRS)},
        "masking": masking_seconds(rendered.unlabelled, schedule),
    }
    print(json.dumps(result, indent=1) if asked.json else table(result))
    return 0


def on_rendered(clips: RenderedClips, trainer: Trainer) -> list[Score]:
    """Train and score all arms of one seed on the rendered clips."""
    schedule, names = trainer.schedule, clips.class_names
    few = clips.few(schedule.labels_per_class, trainer.seed)
    brief, whole = schedule.finetune_steps, schedule.pretrain_steps + schedule.post_steps

    def tuned(name: str, start: Path | None = None, steps: int = brief) -> Path:
        return trainer.classifier(name, few, names, steps, start)

    dual = trainer.pretrained(DUAL, clips.unlabelled, schedule.pretrain_steps)
    encoder_masking = trainer.pretrained("encoder-masking", clips.unlabelled, schedule.pretrain_steps, "none")
    post = trainer.classifier("post", clips.merged, names, schedule.post_steps, dual)
    post_alone = trainer.classifier("post-alone", clips.merged, names, whole)
    teacher = tuned("post-finetuned", post)
    taught = trainer.student("taught", clips.unlabelled, teacher, schedule.distil_steps)
    by_label = [
        trainer.classifier(name, labelled, names, schedule.distil_steps, size=STUDENT)
        for name, labelled in (("student-few", few), ("student-labels", [*few, *clips.merged]))
    ]
    arms = {
        SCRATCH: [tuned("scratch")],
        LONGER: [tuned("scratch-longer", steps=whole + brief)],
        UNTRAINED: [tuned("untrained", trainer.untrained())],
        PRETRAINED: [dual, tuned("pretrained-finetuned", dual)],
        ENCODER_MASKING: [encoder_masking, tuned("encoder-masking-finetuned", encoder_masking)],
        POST: [dual, post, teacher],
        POST_ALONE: [post_alone, tuned("post-alone-finetuned", post_alone)],
        TAUGHT: [taught],
        ALONE: [by_label[0]],
        LABELS: [by_label[1]],
    }
    found = {arm: predictions(stages[-1], clips.held_out) for arm, stages in arms.items()}
    scores = [_score(arm, trainer.seed, stages, found[arm]) for arm, stages in arms.items()]
    return [*scores, _control(clips, few, trainer)]


def on_real(clips: RealClips, trainer: Trainer, elsewhere: Path) -> list[Score]:
    """Train all arms of one seed on each fold of UT-Interaction, and score them on all folds together.

    ``elsewhere``: weights of pre-training on the rendered clips.
    """
    schedule, names = trainer.schedule, clips.class_names
    brief, before = schedule.real_finetune_steps, schedule.real_pretrain_steps
    stages: dict[str, list[Path]] = {}
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for number, fold in enumerate(clips.folds):
        dual = trainer.pretrained(f"fold-{number}/pretrained", fold.unlabelled, before)
        starts = {SCRATCH: None, LONGER: None, PRETRAINED: dual, ELSEWHERE: elsewhere}
        for place, (arm, start) in enumerate(starts.items()):
            steps = before + brief if arm == LONGER else brief
            tuned = trainer.classifier(f"fold-{number}/arm-{place}", fold.labelled, names, steps, start)
            stages.setdefault(arm, []).extend([tuned, *([dual] if start == dual else [])])
            found.setdefault(arm, {}).update(predictions(tuned, fold.held_out))
    return [_score(arm, trainer.seed, paths, found[arm], len(clips.folds)) for arm, paths in stages.items()]


def _score(arm: str, seed: int, stages: Sequence[Path], found: Mapping[str, tuple[int, int]], models: int = 1) -> Score:
    """``stages``: those of all ``models``; of these, steps, seconds and losses are given for one, on average."""
    known = [facts(path) for path in stages]
    right = sum(wanted == named for wanted, named in found.values())
    return Score(
        arm,
        seed,
        steps=sum(each["steps"] for each in known) // models,
        cpu_s=sum(each["cpu_s"] for each in known) / models,
        loss=known[-1]["loss"],
        top1=right / len(found),
        clips=len(found),
    )


def _control(clips: RenderedClips, few: Sequence[Sample], trainer: Trainer) -> Score:
    """The convolutional network on the batches of the arms that fine-tune; it is quick, and trained anew each time."""
    steps, started = trainer.schedule.finetune_steps, time.process_time()
    model = conv3d.Conv3d(conv3d.ControlConfig(clips.class_names), trainer.seed)
    with closing(ClipLoader(few, trainer.labelled_loader())) as batches:
        losses = list(conv3d.train(model, batches, steps))
    seconds = time.process_time() - started
    # Scoring calls the model and reads its class names: all that it has of a Classifier.
    found = answers(cast(Classifier, model), clips.held_out)
    top1 = sum(p.class_id == p.predicted for p in found) / len(found)
    return Score(CONTROL, trainer.seed, steps, seconds, statistics.mean(losses[-50:]), top1, len(found))


def _rendered_facts(clips: RenderedClips, schedule: Schedule) -> dict[str, Any]:
    return {
        "unlabelled": len(clips.unlabelled),
        "labelled": schedule.labels_per_class * len(clips.class_names),
        "merged": len(clips.merged),
        "held_out": len(clips.held_out),
        "chance": 1 / len(clips.class_names),
    }


def _real_facts(clips: RealClips) -> dict[str, Any]:
    folds = clips.folds
    return {
        "folds": len(folds),
        "scored": sum(len(fold.held_out) for fold in folds),
        "labelled": f"{min(len(fold.labelled) for fold in folds)} to {max(len(fold.labelled) for fold in folds)}",
        "unlabelled": f"{min(len(fold.unlabelled) for fold in folds)} to {max(len(fold.unlabelled) for fold in folds)}",
        "chance": 1 / len(clips.class_names),
        "top1_metadata_only": clips.top1_metadata_only,
    }


if __name__ == "__main__":
    sys.exit(main())
