"""Two ablations of a tiny recipe on a rendered source, for real: torchrun under Dagster, the ledger, and the table."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import test_plan

from assets.stages import EvaluationSettings, PretrainSettings, Recipe, SupervisedSettings
from assets.training import run_specs
from loaders.views import EvaluationConfig, LoaderConfig
from model.optim import OptimConfig
from model.training import FitConfig
from pipelines.__main__ import main
from pipelines.ablation_table import print_measured
from pipelines.ablations import ABLATIONS, AblationError, run_all, setting
from warehouse.catalog.build import build_catalog
from warehouse.config import Config, load
from warehouse.store import Store

FRAMES, IMAGE = 8, 32
LOADER = LoaderConfig(clips_per_batch=2, frames=FRAMES, size=IMAGE)
FIT = FitConfig(2, 2, seed=0, optim=OptimConfig(1e-3, 1))
RECIPE = Recipe(
    name="test",
    pretrained=PretrainSettings("tiny", LOADER, FIT),
    post_pretrained=None,
    finetuned=SupervisedSettings(LOADER, FIT),
    evaluation=EvaluationSettings(EvaluationConfig(clips_per_batch=1, frames=FRAMES, size=IMAGE)),
    processes=1,
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration whose snapshot has been taken."""
    (tmp_path / "sources.toml").write_text(test_plan.TOML)
    test_plan.write_source(tmp_path, test_plan.SPLITS)
    config = load(tmp_path / "sources.toml")
    test_plan.run_data_steps(Store(config.data_root), config)
    build_catalog(Store(config.data_root))
    return config


def test_ablations_are_runs_of_the_ledger_and_not_repeated(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(config.data_root)
    found = run_all(["decoder-none", "recipe"], config, RECIPE, 1)
    assert [each.name for each in found] == ["recipe", "decoder-none"]
    assert found[0].runs == {stage: spec.run_id for stage, spec in run_specs(store, config, RECIPE).items()}
    assert not set(found[0].runs.values()) & set(found[1].runs.values())
    runs = {row["run_id"]: row for row in store.rows("runs")}
    assert set(runs) == {run_id for each in found for run_id in each.runs.values()}
    assert {row["status"] for row in runs.values()} == {"finished"}
    scores = {row["run_id"]: row["value"] for row in store.rows("scores") if row["metric"] == "top1"}
    assert [each.top1 for each in found] == [scores[each.runs["evaluation"]] for each in found]
    # Without the decoder's mask more is decoded.
    assert found[1].gmacs > found[0].gmacs and found[0].seconds_per_step > 0

    # With running cells of a half the recipe is what it was: nothing is started.
    again = run_all(["decoder-none", "decoder-cell-50"], config, RECIPE, 1)
    assert [each.runs for each in again] == [found[1].runs, found[0].runs]
    assert {row["run_id"]: row["attempts"] for row in store.rows("runs")} == dict.fromkeys(runs, 1)
    print_measured(found)
    assert f"recipe, seed 0: {found[0].runs['evaluation']}" in capsys.readouterr().out


def test_each_replaces_one_thing(config: Config) -> None:
    pretrained = RECIPE.pretrained
    assert pretrained
    for name in ABLATIONS:
        if name == "size-g":  # patches of 14 pixels
            with pytest.raises(AblationError, match="size-g does not fit clips of 8 × 32²"):
                setting(name, config, RECIPE, 0)
            continue
        changed_config, changed = setting(name, config, RECIPE, 0)
        assert changed.pretrained and changed == replace(RECIPE, pretrained=changed.pretrained)
        assert changed_config == config or name == "data-finetuning-only"
        own = (changed.pretrained.size, changed.pretrained.decoder_mask, changed.pretrained.decoder_ratio)
        rest = replace(changed.pretrained, size="tiny", decoder_mask="running_cell", decoder_ratio=0.5)
        assert rest == pretrained
        assert (own == ("tiny", "running_cell", 0.5)) == (
            name in ("recipe", "decoder-cell-50", "size-tiny", "data-finetuning-only")
        )
    _, other = setting("recipe", config, RECIPE, 3)
    assert other.pretrained and (other.pretrained.fit.seed, other.pretrained.loader.seed) == (3, 3)
    with pytest.raises(AblationError, match="pre-trains nothing"):
        setting("decoder-none", config, replace(RECIPE, pretrained=None), 0)


def test_what_cannot_run_is_said_before_anything_runs(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AblationError, match=r"no ablation decoder-nothing\. There are: recipe, decoder-none"):
        run_all(["recipe", "decoder-nothing"], config, RECIPE, 1)
    shutil.rmtree(config.data_root / "collections")
    assert main(["ablations", "recipe", "--sources", str(config.path)]) == 1
    assert "no snapshot of 'clips' has been taken" in capsys.readouterr().err
    assert main(["ablations", "--list"]) == 0 and "decoder-random-50" in capsys.readouterr().out
