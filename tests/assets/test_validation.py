"""Top-1 of the models in training: as an evaluation has it, on any number of ranks, and without clips that fail."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from made_up_clips import write_clips
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from assets.reporter import Reporter
from assets.validation import Validator
from loaders.evaluation_loader import EvaluationConfig, EvaluationLoader
from model.blocks import Block
from model.classifier import Classifier, ClassifierConfig
from model.evaluation import evaluate
from model.parallel import parallelise
from model.sizes import Size
from model.training import Progress
from pipelines.presets import smoke
from warehouse.catalog.sample import Sample

SMALL = Size("small", 32, 2, 2, 64, 8, decoder_dim=16, decoder_heads=2, decoder_hidden=64, decoder_depth=1)
NAMES = ("drift", "zoom", "turn")
CPU = torch.device("cpu")
CONFIG = EvaluationConfig(clips_per_batch=3, frames=8, size=32)
CLIPS = 11


def classifiers() -> dict[str, Classifier]:
    """Two that do not agree; drop path is on in training."""
    config = ClassifierConfig(SMALL, 8, 32, NAMES, drop_path=0.5, head_dropout=0.5, init_scale=100.0)
    return {name: Classifier(config, torch.Generator().manual_seed(seed)) for seed, name in enumerate(("S", "B"))}


def sharded(models: dict[str, Classifier]) -> dict[str, Classifier]:
    for model in models.values():
        parallelise(model, CPU)
        model.train()
    return models


def expected(samples: Sequence[Sample]) -> dict[str, float]:
    """Each model's top-1 by the evaluation, of all samples."""
    scores = {}
    for name, model in classifiers().items():
        with EvaluationLoader(samples, CONFIG) as batches:
            scores[name] = evaluate(model, batches, [sample.clip_id for sample in samples], CPU).top1
    return scores


@pytest.mark.usefixtures("one_rank")
def test_one_rank_scores_as_an_evaluation_and_leaves_training_as_it_was(tmp_path: Path) -> None:
    samples = write_clips(tmp_path, CLIPS, classes=3)
    models = sharded(classifiers())
    before = {name: model.state_dict() for name, model in models.items()}
    said: list[str] = []
    validate = Validator(models, samples, CONFIG, CPU, said.append)
    wanted = expected(samples)
    assert len(set(wanted.values())) == 2 and min(wanted.values()) > 0
    for _ in range(2):  # the clips come again every time
        assert validate() == pytest.approx(sum(wanted.values()) / 2)
        assert validate.scores == pytest.approx(wanted)
    assert said == []
    for name, model in models.items():
        assert all(module.training for module in model.modules())
        assert all(parameter.grad is None for parameter in model.parameters())
        # Sharded again, inside and outside of blocks, so that the optimiser sees the weights it knows.
        assert all(type(p).__name__ == "DTensor" for p in (*model.parameters(), *before[name].values()))
        assert any(isinstance(module, Block) for module in model.modules())


@pytest.mark.usefixtures("one_rank")
def test_a_clip_that_fails_is_left_out_said_once_and_counted(tmp_path: Path) -> None:
    samples = write_clips(tmp_path, CLIPS, classes=3)
    broken = [samples[4], samples[10]]
    for sample in broken:
        with sample.shard.open("r+b") as shard:
            shard.seek(sample.offset + sample.size // 2)
            shard.write(b"broken")
    said: list[str] = []
    validate = Validator(sharded(classifiers()), samples, CONFIG, CPU, said.append)
    wanted = expected([sample for sample in samples if sample not in broken])
    for _ in range(2):
        validate()
        assert validate.scores == pytest.approx(wanted)
    assert [line.split(" (")[0] for line in said] == [
        *(f"clip {sample.clip_id} is left out of validation" for sample in broken),
        "validation goes on with 9 of 11 clips",
    ]
    gone = [replace(sample, shard=tmp_path / "gone.tar") for sample in samples[:4]]
    nothing = Validator(sharded(classifiers()), gone, CONFIG, CPU, said.append)
    assert nothing() != nothing()  # NaN


@pytest.mark.usefixtures("one_rank")
def test_each_model_s_score_is_in_metrics_tensorboard_and_log_where_there_is_one(tmp_path: Path) -> None:
    samples = write_clips(tmp_path, CLIPS, classes=3)
    said: list[str] = []
    validate = Validator(sharded(classifiers()), samples, CONFIG, CPU, said.append)
    step = Progress(
        step=1, steps=9, loss=1.0, rate=0.1, grad_norm=1.0, clips_per_s=9.0, data_wait_share=0.5, failed=(),
        checkpoint=None,
    )  # fmt: skip
    reporter = Reporter(tmp_path, smoke().finetuned, samples, None, CPU, said.append, validate)
    saved = replace(step, step=2, checkpoint=tmp_path / "step-000002", validation=validate())
    for progress in (step, saved, replace(step, step=3)):
        reporter.report(progress)
        if progress.checkpoint:
            reporter.saved(progress)
    reporter.close()
    scores = {f"val_top1/{name}": score for name, score in expected(samples).items()}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["val_top1"] for row in rows] == [None, validate(), None]
    assert {key: rows[1][key] for key in scores} == pytest.approx(scores)
    assert not rows[0].keys() & scores.keys() and not rows[2].keys() & scores.keys()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name, score in (scores | {"val_top1": validate()}).items():
        [event] = events.Scalars(name)
        assert (event.step, event.value) == (2, pytest.approx(score))
    assert said == [f"saved step-000002, validation top-1 {validate():.1%}"]


def two_ranks(rank: int, folder: Path, samples: Sequence[Sample]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    said: list[str] = []
    validate = Validator(sharded(classifiers()), samples, CONFIG, CPU, said.append)
    torch.save((validate(), validate.scores, said), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_score_as_one_where_the_last_has_fewer_clips_and_one_fails(tmp_path: Path) -> None:
    """Of seven clips rank 0 has four, in two passes, and rank 1 three, of which one fails: one pass is of nothing."""
    samples = write_clips(tmp_path, 7, classes=3)
    with samples[1].shard.open("r+b") as shard:
        shard.seek(samples[1].offset + samples[1].size // 2)
        shard.write(b"broken")
    mp.spawn(two_ranks, (tmp_path, samples), nprocs=2)
    wanted = expected([sample for sample in samples if sample != samples[1]])
    for rank in (0, 1):
        mean, scores, said = torch.load(tmp_path / f"{rank}.pt")
        assert scores == pytest.approx(wanted) and mean == pytest.approx(sum(wanted.values()) / 2)
        assert [line.split(" (")[0] for line in said] == [
            f"clip {samples[1].clip_id} is left out of validation",
            "validation goes on with 6 of 7 clips",
        ]
