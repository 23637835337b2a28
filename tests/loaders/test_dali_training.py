"""The training entry point with DALI's batches: its CPU decoder stands in for a GPU's."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_snapshot import SNAPSHOT, write_snapshot
from test_dali import corrupt

from assets.stages import EvaluationSettings, PretrainSettings, RunSpec, SupervisedSettings
from assets.train import _run
from loaders import dali_choice
from loaders.views import EvaluationConfig, LoaderConfig
from model.optim import OptimConfig
from model.training import FitConfig
from warehouse.catalog.sample import Sample
from warehouse.store import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="DALI exists for Linux alone")
FIT = FitConfig(steps=4, checkpoint_every=2, seed=5, optim=OptimConfig(peak_rate=1e-4, warmup_steps=1))
PRETRAINING = LoaderConfig(clips_per_batch=3, views=2, frames=8, size=48, max_failed_share=0.5)
FINE_TUNING = LoaderConfig(
    clips_per_batch=3, views=2, frames=8, size=48, sampling="linspace", crop="random_resized", flip=True,
    randaugment=True, erasing=0.25, mixup=0.8, cutmix=1.0, max_failed_share=0.5, workers=1,
)  # fmt: skip
EVALUATION = EvaluationSettings(EvaluationConfig(clips_per_batch=2, frames=8, size=48, temporal_views=2))


def run_stages(root: Path, samples: list[Sample]) -> tuple[list[dict], dict, list[str]]:
    """Pre-train, fine-tune and score; the metrics of all steps, the scores, and what was said."""
    store, said, steps = write_snapshot(root, samples), [], []
    pretraining = RunSpec("pretrained", SNAPSHOT, None, PretrainSettings("tiny", PRETRAINING, FIT))
    tuning = RunSpec("finetuned", SNAPSHOT, pretraining.checkpoint, SupervisedSettings(FINE_TUNING, FIT))
    scoring = RunSpec("evaluation", SNAPSHOT, tuning.checkpoint, EVALUATION)
    for spec in (pretraining, tuning, scoring):
        folder = Store(root).runs / spec.run_id
        folder.mkdir(parents=True)
        assert _run(spec, store, torch.device("cpu"), lambda: False, said.append) == 0
        if spec is not scoring:
            steps += [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return steps, json.loads((folder / "result.json").read_text())["scores"], said


@pytest.mark.usefixtures("one_rank")
def test_stages_train_on_dalis_batches_as_on_those_of_the_cpu_path(
    mjpeg_clips: list[bytes], make_samples: Callable[[list[bytes]], list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(mjpeg_clips)
    samples[4] = corrupt(samples[4])  # which FFmpeg refuses, too
    root = samples[0].shard.parent
    expected, scores, said = run_stages(root, samples)
    assert sum("there is no NVIDIA GPU" in line for line in said) == 3

    for run in list(Store(root).runs.iterdir()):
        run.rename(run.with_name(f"cpu-{run.name}"))
    monkeypatch.setattr(dali_choice, "_obstacle", lambda samples, device: None)
    shown, dali_scores, said = run_stages(root, samples)
    assert sum("decoded by DALI on cpu" in line for line in said) == 3
    assert any("clip-04 was passed over (decode_error)" in line and "DALI: " in line for line in said)
    assert dali_scores["clips"] == scores["clips"] == 2
    for ours, theirs in zip(shown, expected, strict=True):
        assert ours["failed"] == theirs["failed"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)
    assert sum(row["failed"] for row in shown) > 0
