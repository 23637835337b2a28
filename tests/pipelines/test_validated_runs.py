"""Validation in a whole run: on which clips, when, and where it shows."""

import shutil
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
import torch
from whole_runs import Whole

from assets.stages import RunSpec, SupervisedSettings
from assets.validation import validator
from loaders.evaluation_loader import EvaluationLoader
from loaders.views import EvaluationConfig, LoaderConfig
from model import checkpoint as checkpoints
from model.checkpoint import Measure
from model.evaluation import evaluate
from model.optim import OptimConfig
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from model.training import FitConfig
from model.transfer import load_classifier
from warehouse.catalog.snapshots import open_places
from warehouse.store import Store

CPU = torch.device("cpu")


def test_validation_is_recorded_at_checkpoints_alone_and_is_that_of_an_evaluation(undisturbed: Whole) -> None:
    rows = undisturbed.steps("finetuned")
    scored = {row["step"]: row["val_top1"] for row in rows if row["val_top1"] is not None}
    assert list(scored) == [row["step"] for row in rows if row["checkpoint"]]
    folder = undisturbed.run_folder("finetuned")
    last = checkpoints.latest(folder / "checkpoints")
    assert last is not None and last.measure == Measure("validation", scored[last.step])
    samples = open_places(undisturbed.store, undisturbed.ledger("finetuned")["snapshot_id"], "val").present()
    with EvaluationLoader(samples, EvaluationConfig(8, frames=8, size=32)) as batches:
        clips = [sample.clip_id for sample in samples]
        evaluated = evaluate(load_classifier(last.path), batches, clips, torch.device("cpu"))
    assert scored[last.step] == pytest.approx(evaluated.top1) and len(clips) > 3
    assert all("val_top1" not in row or row["val_top1"] is None for row in undisturbed.steps("pretrained"))
    with undisturbed.instance() as instance:
        [record] = instance.fetch_materializations(dg.AssetKey("finetuned"), limit=1).records
    assert record.asset_materialization is not None
    shown = record.asset_materialization.metadata
    assert shown["last validation top-1"].value == scored[last.step]
    best = max(scored, key=lambda step: (scored[step], step))
    assert shown["best checkpoint"].value == f"step-{best:06d}: top-1 of validation clips {scored[best]:.1%}"


@pytest.mark.usefixtures("one_rank")
def test_it_is_on_val_else_on_test_and_else_not_at_all(undisturbed: Whole, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.store.root, tmp_path / "data")
    store, ledger = Store(tmp_path / "data"), undisturbed.ledger("finetuned")
    rows = store.read("snapshot_clips", ledger["snapshot_id"])
    splits = rows["split"].to_pylist()
    loader = LoaderConfig(4, frames=8, size=32)
    settings = SupervisedSettings(loader, FitConfig(1, 1, 0, OptimConfig(1e-3, 0)))
    spec = RunSpec("finetuned", ledger["snapshot_id"], ledger["parent"], settings)
    last = checkpoints.latest(undisturbed.run_folder("finetuned") / "checkpoints")
    assert last is not None
    models = {"": load_classifier(last.path)}
    said: list[str] = []

    def validated(renamed: dict[str, str]) -> bool:
        said.clear()
        changed = pa.array([renamed.get(split, split) for split in splits], rows.schema.field("split").type)
        place = rows.column_names.index("split")
        table = rows.set_column(place, rows.schema.field("split"), changed)
        store.write("snapshot_clips", table.to_pylist(), ledger["snapshot_id"])
        return validator(spec, loader, models, store, CPU, said.append) is not None

    clips = splits.count("val")
    assert validated({}) and said == [f"validation: top-1 of {clips} val clips at each checkpoint, one view each"]
    assert validated({"val": "test"})
    assert said[-1].startswith("validation: top-1 of") and "test clips" in said[-1]
    assert not validated({"val": "train", "test": "train"})
    assert said == ["validation: none, as the snapshot has no val or test clips with a class"]
    pretrainer = Pretrainer(PretrainerConfig(SIZES["tiny"], 8, 48))
    assert validator(spec, loader, {"": pretrainer}, store, CPU, said.append) is None and len(said) == 1
