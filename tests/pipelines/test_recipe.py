"""What ``python -m pipelines recipe`` says before anything runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_plan import SPLITS, TOML, run_data_steps, write_source

from assets.training import run_specs
from pipelines.__main__ import main
from pipelines.presets import recipe_of
from pipelines.recipe import resolve
from pipelines.recipe_text import as_json, print_recipe
from warehouse.config import Config, load
from warehouse.store import Store

ROOT = Path(__file__).parent.parent.parent
HYBRID = ROOT / "examples" / "hybrid.toml"
Asked = Callable[..., dict[str, Any]]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The paper's B on three rendered clips."""
    toml = TOML.replace('preset = "smoke"', 'preset = "paper"\nsize = "B"')
    (tmp_path / "sources.toml").write_text(toml)
    write_source(tmp_path, SPLITS)
    return load(tmp_path / "sources.toml")


@pytest.fixture
def asked(capsys: pytest.CaptureFixture[str]) -> Asked:
    """The command's JSON."""

    def ask(path: Path, *arguments: str) -> dict[str, Any]:
        assert main(["recipe", "--sources", str(path), "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def test_recipe_is_known_before_there_is_any_data(capsys: pytest.CaptureFixture[str]) -> None:
    """ViT-g on one machine with 8 GPUs: the batch arithmetic of the paper's 64."""
    hybrid = load(HYBRID, check_files=False)
    resolved = resolve(hybrid, recipe_of(hybrid, gpus=8), here=False)
    found = json.loads(json.dumps(as_json(resolved)))
    assert (found["preset"], found["size"], found["gpus"], found["on_gpu"]) == ("paper", "g", 8, True)
    pretrained, post, fine = found["stages"]
    assert [stage["clips"] for stage in found["stages"]] == [None] * 3
    assert (pretrained["epochs"], pretrained["videos"], pretrained["settings"]["fit"]["steps"]) == (300, 2048, 197_461)
    assert pretrained["settings"]["fit"]["optim"]["peak_rate"] == pytest.approx(4.8e-3)
    assert (post["videos"], fine["videos"]) == (128, 32)
    for stage in found["stages"]:
        dealt = stage["settings"]["loader"]["clips_per_batch"] * stage["settings"]["fit"]["accumulate"] * 8
        assert dealt == stage["videos"]
        assert stage["memory"][""]["total"] > stage["memory"][""]["weights"] > 0
        assert "estimate" in stage["cost"]["how"] and "H100" in stage["cost"]["how"]
    # Three products for each forward one, of what is computed here of a view (docs/model.md), 8,192 views a step.
    assert pretrained["cost"]["flops"] == pytest.approx(197_461 * 8192 * 238.57e9 * 6, rel=1e-4)
    assert found["evaluation"]["loader"]["temporal_views"] == 5

    print_recipe(resolved)
    said = capsys.readouterr().out
    for expected in (
        "8 GPUs × 32 videos × 8 accumulated = 2,048 videos a step; × 4 views = 8,192",
        "0.0006 for 256 videos × 2,048 / 256 = 0.0048; 19,746 steps of warm-up",
        "300 epochs of its clips (1200 of views, as the paper counts): 197,461 steps",
        "blocks checkpointed, compiled",
        "the script has 96 videos a step, not 128",
        "its clips are not known yet",
        "5 × 3 views of each clip",
    ):
        assert expected in said, expected
    assert "flip, RandAugment" in said and "flip except" not in said  # Something-Something feeds pre-training alone


def test_recipe_counts_the_clips_that_are_listed_and_then_those_of_the_snapshot(
    config: Config, asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = asked(config.path, "--gpus", "2")
    assert [stage["clips"] for stage in listed["stages"]] == [2, 2, 2]
    assert main(["recipe", "--sources", str(config.path), "--gpus", "2"]) == 0
    assert "2 GPUs × 32 videos × 16 accumulated = 1,024 videos a step" in capsys.readouterr().out
    assert not config.data_root.exists(), "nothing is written"
    store, recipe = Store(config.data_root), recipe_of(config, gpus=2)
    run_data_steps(store, config)
    counted = {stage["name"]: stage["settings"]["fit"] for stage in asked(config.path, "--gpus", "2")["stages"]}
    specs = run_specs(store, config, recipe)
    # What is printed is what is run: 200 epochs of 2 clips at 1,024 a step would be less than one.
    assert {name: fit["steps"] for name, fit in counted.items()} == {
        name: specs[name].settings.fit.steps for name in counted  # type: ignore[union-attr]
    } == {"pretrained": 1, "post_pretrained": 1, "finetuned": 1}  # fmt: skip


def test_smoke_is_tried_on_this_machine(config: Config) -> None:
    config.path.write_text(TOML)
    smoke = load(config.path)
    resolved = resolve(smoke, recipe_of(smoke), here=True)
    for stage in resolved.stages:
        assert stage.cost.how.startswith("tried on this machine")
        assert stage.cost.seconds == pytest.approx(stage.cost.step_s * stage.settings.fit.steps)


@pytest.mark.parametrize("size", ["S", "L"])
def test_every_size_says_what_its_rows_follow(config: Config, size: str) -> None:
    config.path.write_text(config.path.read_text().replace('size = "B"', f'size = "{size}"'))
    remarks = recipe_of(load(config.path)).remarks
    assert all(texts[0].startswith("follows ") for texts in remarks.values()) and len(remarks) == 3
    assert any("(ours)" in text for text in remarks["post_pretrained"])


def test_what_is_not_flipped_is_said(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    config.path.write_text(config.path.read_text().replace("stride = 2", "stride = 2\nflip = false"))
    assert main(["recipe", "--sources", str(config.path), "--gpus", "2"]) == 0
    assert capsys.readouterr().out.count("flip except own") == 2


def test_clips_without_any_file_are_told_from_clips_not_yet_listed(config: Config, asked: Asked) -> None:
    videos = config.path.parent / "videos"
    for path in videos.iterdir():
        path.unlink()
    *_, fine = asked(config.path, "--gpus", "2")["stages"]
    missing = f"none of its 2 listed training clips has a file under {videos}"
    assert fine["remarks"][-1] == f"{missing}: steps are those on the collection of the paper"
    assert fine["settings"]["fit"]["steps"] > 1000


@pytest.mark.parametrize("gpus", ["0", "-1", "abc"])
def test_no_gpus_are_refused(gpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["recipe", f"--gpus={gpus}"])
    assert f"'{gpus}' is not a whole number of 1 or more" in capsys.readouterr().err
