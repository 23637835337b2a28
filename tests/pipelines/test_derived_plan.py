"""The plan of what is made of the trained model: students are tried beside their teacher, windows are counted."""

from dataclasses import replace
from pathlib import Path

import torch
from test_plan import SPLITS, TOML, run_data_steps, write_source

from assets.training import run_specs
from pipelines.presets import recipe_of
from pipelines.stage_plan import StagePlan, plan_stage
from warehouse.catalog.build import build_catalog
from warehouse.config import load
from warehouse.sources import read_source
from warehouse.store import Store

ASKED = 'students = ["micro"]\nfeatures = ["clips"]\nfeatures_every = 4\n'


def test_students_and_windows_are_planned(tmp_path: Path) -> None:
    (tmp_path / "sources.toml").write_text(TOML.replace("[training]\n", f"[training]\n{ASKED}"))
    write_source(tmp_path, SPLITS)
    config = load(tmp_path / "sources.toml")
    store, whole = Store(config.data_root), recipe_of(config)
    assert whole.distilled and whole.features
    recipe = replace(
        whole,
        distilled=replace(whole.distilled, loader=replace(whole.distilled.loader, clips_per_batch=1)),
        evaluation=replace(whole.evaluation, loader=replace(whole.evaluation.loader, clips_per_batch=1)),
        features=replace(whole.features, loader=replace(whole.features.loader, clips_per_batch=2)),
    )
    listings = {source.name: read_source(source) for source in config.sources}

    def plan(name: str, data_done: bool = True) -> StagePlan:
        return plan_stage(store, config, recipe, name, listings, data_done, torch.device("cpu"))

    distilled, features = plan("distilled", False), plan("features", False)
    assert distilled.steps == whole.distilled.fit.steps and distilled.seconds
    # A checkpoint holds the student alone.
    assert 0 < distilled.bytes_to_write < 16 * 200_000 * 2
    assert features.seconds is None and "not known yet" in features.remark

    run_data_steps(store, config)
    build_catalog(store)
    # 18 frames are 3 windows of 8 every 4; of three clips 9, and two of them a step.
    features = plan("features")
    assert features.steps == 5 and features.seconds

    specs = run_specs(store, config, recipe)
    row = dict.fromkeys(("snapshot_id", "config"), "") | {"started": 0, "attempts": 1, "seconds": 30.0}
    for name in ("evaluation", "evaluation of micro", "features of clips"):
        run = {"run_id": specs[name].run_id, "stage": specs[name].stage, "status": "finished"}
        if name == "evaluation of micro":  # one of two evaluations alone does not finish the stage
            assert plan("evaluation").steps == 1
        store.write("runs", [row | run], specs[name].run_id)
    assert [plan(name).remark for name in ("evaluation", "features")] == ["finished, took 60 s", "finished, took 30 s"]
