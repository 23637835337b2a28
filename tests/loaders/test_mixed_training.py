"""A fine-tuning run with every augmentation on: as the training entry point runs it, resumed to the bit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_snapshot import SNAPSHOT, write_snapshot

from assets.stages import PretrainSettings, RunSpec, SupervisedSettings
from assets.train import _run
from loaders.views import LoaderConfig
from model.optim import OptimConfig
from model.training import FitConfig
from model.transfer import load_classifier
from warehouse.catalog.samples import Sample
from warehouse.store import Store

MakeSamples = Callable[[list[bytes]], list[Sample]]
CPU = torch.device("cpu")
FULL = LoaderConfig(
    clips_per_batch=3, views=2, frames=8, size=48, sampling="linspace", crop="random_resized", flip=True,
    unflipped=("two",), randaugment=True, erasing=0.25, mixup=0.8, cutmix=1.0,
)  # fmt: skip


def fit_config(steps: int) -> FitConfig:
    return FitConfig(steps, checkpoint_every=2, seed=5, optim=OptimConfig(peak_rate=1e-3, warmup_steps=1))


def run(spec: RunSpec, store: Store) -> list[float]:
    """Run a stage to its end; its losses."""
    folder = store.runs / spec.run_id
    folder.mkdir(parents=True, exist_ok=True)
    assert _run(spec, store, CPU, lambda: False, lambda text: None) == 0
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("one_rank", "one_thread")
def test_a_resumed_run_is_augmented_and_mixed_as_an_uninterrupted_one(
    clips: list[bytes], make_samples: MakeSamples, tmp_path: Path
) -> None:
    store = write_snapshot(tmp_path, make_samples(clips[:10]))
    plain = LoaderConfig(clips_per_batch=3, frames=8, size=48)
    pretraining = RunSpec("pretrained", SNAPSHOT, None, PretrainSettings("tiny", plain, fit_config(2)))
    run(pretraining, store)
    settings = SupervisedSettings(FULL, fit_config(4))
    spec = RunSpec("finetuned", SNAPSHOT, pretraining.checkpoint, settings)
    losses = run(spec, store)
    weights = load_classifier(store.root / spec.checkpoint).state_dict()

    # As if the run had been killed after its checkpoint at step 2 and gone on, with another number of workers.
    shutil.rmtree(store.root / spec.checkpoint)
    (store.runs / spec.run_id / "result.json").unlink()
    worker = SupervisedSettings(replace(FULL, workers=1), fit_config(4))
    resumed = replace(spec, settings=worker)
    assert resumed.run_id == spec.run_id and run(resumed, store) == losses
    again = load_classifier(store.root / spec.checkpoint).state_dict()
    assert weights.keys() == again.keys() and all(torch.equal(weights[name], again[name]) for name in weights)

    # The same without mixing is another run.
    unmixed = SupervisedSettings(replace(FULL, mixup=0.0, cutmix=0.0), fit_config(4))
    assert run(RunSpec("finetuned", SNAPSHOT, pretraining.checkpoint, unmixed), store) != losses
