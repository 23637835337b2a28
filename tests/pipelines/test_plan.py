"""The plan of a small source of rendered videos, before, between and after the steps; and what the commands print."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from assets.schedule import Epochs
from assets.stages import PretrainSettings, Recipe, SupervisedSettings
from assets.training import run_specs
from model import checkpoint as checkpoints
from pipelines.__main__ import main, print_plan
from pipelines.plan import make_plan
from pipelines.presets import smoke
from pipelines.source_plan import HASH_BYTES, SourcePlan
from warehouse import steps
from warehouse.catalog.build import build_catalog
from warehouse.catalog.snapshots import take_snapshot
from warehouse.config import Config, load
from warehouse.corpus.encoding import write_video
from warehouse.corpus.motions import MOTIONS, Scene, render
from warehouse.probing import probe_sources
from warehouse.shards.executing import execute_plans
from warehouse.step_result import Progress
from warehouse.store import Store
from warehouse.takedown.compact import compact
from warehouse.takedown.takedowns import take_down

TOML = """
[reelhouse]
data_root = "data"
workers = 1
[training]
preset = "smoke"
pretrain = "clips"
post_pretrain = "clips"
finetune = "clips"
[collections.clips]
splits = ["train", "val"]
taxonomy = "motions"
[taxonomies.motions]
[sources.own]
kind = "folder"
media_root = "videos"
annotations = "own.csv"
splits = { train = ["train"], val = ["val"] }
collections = ["clips"]
stride = 2
licence = "ours"
"""
SPLITS = {"a": "train", "b": "train", "c": "val"}
FPS, FRAMES = 12, 18
TrainedSettings = TypeVar("TrainedSettings", PretrainSettings, SupervisedSettings)


def silent(progress: Progress) -> None:
    """No progress."""


def write_source(root: Path, splits: dict[str, str]) -> None:
    """A folder of one video for each name, none a copy of another, and its CSV."""
    (root / "videos").mkdir(exist_ok=True)
    for i, name in enumerate(splits):
        path = root / "videos" / f"{name}.mp4"
        if not path.exists():
            write_video(path, render(Scene(name, MOTIONS[i], 64, 48), 0, FRAMES), FPS)
    rows = [f"{name}.mp4,{MOTIONS[i]},{split}" for i, (name, split) in enumerate(splits.items())]
    (root / "own.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")


def run_data_steps(store: Store, config: Config) -> None:
    """Everything up to the snapshot."""
    [source], [collection] = config.sources, config.collections
    steps.write_sources(store, config)
    steps.list_source(store, source)
    probe_sources(store, config, [source], silent)
    steps.search_duplicates(store, config)
    steps.decide(store, config)
    steps.label(store, config)
    steps.plan_source(store, config, source)
    execute_plans(store, config, [source], silent)
    take_snapshot(store, config, collection)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "sources.toml").write_text(TOML)
    write_source(tmp_path, SPLITS)
    return load(tmp_path / "sources.toml")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """The smoke recipe, its stages of a known length and with batches of one clip, to be tried in a moment."""
    whole = smoke()
    assert whole.post_pretrained
    return replace(
        whole,
        pretrained=_short(whole.pretrained, 200),
        post_pretrained=_short(whole.post_pretrained, 200),
        finetuned=_short(whole.finetuned, 80),
        evaluation=replace(whole.evaluation, loader=replace(whole.evaluation.loader, clips_per_batch=1)),
    )


def _short(settings: TrainedSettings, steps: int) -> TrainedSettings:
    loader, fit = replace(settings.loader, clips_per_batch=1), replace(settings.fit, steps=steps)
    return replace(settings, loader=loader, fit=fit)


def test_plan_follows_the_work(config: Config, recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    before = make_plan(config, recipe)
    assert not config.data_root.exists(), "a plan writes nothing"
    [source] = before.sources
    assert (source.clips, source.files, source.to_probe, source.to_store) == (3, 3, 3, 3)
    assert source.bytes == sum(path.stat().st_size for path in (config.path.parent / "videos").iterdir())
    assert source.hours == pytest.approx(3 * FRAMES / FPS / 3600) and not source.hours_known
    assert source.probe_s and source.store_s and before.complete
    assert [stage.steps for stage in before.stages] == [200, 200, 80, 1]
    assert all(stage.seconds for stage in before.stages)
    assert before.seconds > sum(stage.seconds or 0 for stage in before.stages)
    print_plan(config, before)
    assert "3 clips, ~" in (printed := capsys.readouterr().out) and "pretrained" in printed

    store = Store(config.data_root)
    run_data_steps(store, config)
    # All three clips were tried, so the estimate of the disk is exact.
    written = sum(row["size"] for row in store.rows("samples"))
    assert source.bytes_to_write == written + HASH_BYTES * store.read("frame_hashes").num_rows
    [source] = make_plan(config, recipe).sources
    nothing = SourcePlan("own", 3, 3, 0, source.bytes, source.hours, True, 0, 0, 0.0, 0.0, 0)
    assert source == nothing and source.hours == pytest.approx(3 * FRAMES / FPS / 3600)

    write_source(config.path.parent, SPLITS | {"d": "train"})
    plan = make_plan(config, recipe)
    assert (plan.sources[0].to_probe, plan.sources[0].to_store) == (1, 1)


def test_stages_without_a_single_file_to_train_on_are_not_tried(config: Config, recipe: Recipe) -> None:
    videos = config.path.parent / "videos"
    for path in videos.iterdir():
        path.unlink()
    *training, _ = make_plan(config, recipe).stages
    missing = f"none of its 2 listed training clips has a file under {videos}"
    assert {(stage.steps, stage.seconds, stage.remark) for stage in training} == {(0, None, missing)}


def test_a_clip_taken_down_is_not_planned_again(config: Config, recipe: Recipe) -> None:
    store = Store(config.data_root)
    run_data_steps(store, config)
    take_down(store, [store.rows("samples")[0]["clip_id"]], "a wish", "me")
    compact(store)
    assert make_plan(config, recipe).sources[0].to_store == 0


def test_evaluation_on_a_query_is_planned_by_what_it_selected(config: Config, recipe: Recipe) -> None:
    query = "SELECT clip_id, split, class_name FROM collection_clips"
    chosen = f'[collections.chosen]\ntaxonomy = "motions"\nsql = "{query}"\n'
    text = TOML.replace("[collections.clips]", f"{chosen}[collections.clips]")
    text = text.replace('finetune = "clips"', 'finetune = "chosen"')
    config.path.write_text(text)
    config = load(config.path)
    store = Store(config.data_root)
    recipe = replace(recipe, finetuned=replace(recipe.finetuned, epochs=Epochs(3, 0)))
    plan = {stage.name: stage for stage in make_plan(config, recipe).stages}
    for stage in (plan["finetuned"], plan["evaluation"]):
        assert (stage.steps, stage.seconds) == (0, None) and "has not run" in stage.remark
    run_data_steps(store, replace(config, collections=config.collections[1:]))
    build_catalog(store)
    take_snapshot(store, config, config.collections[0])
    plan = {stage.name: stage for stage in make_plan(config, recipe).stages}
    assert plan["evaluation"].steps == 1 and plan["evaluation"].seconds
    assert plan["finetuned"].steps == 3 * 2  # epochs of its clips, one at a time


def test_summary_and_plan_know_runs(config: Config, recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(config.data_root)
    run_data_steps(store, config)
    build_catalog(store)
    assert main(["summary", "--sources", str(config.path)]) == 0
    printed = capsys.readouterr().out
    assert "0 training clips repeat" in printed and "No report yet" in printed
    assert printed.count("not run") == 4

    specs = run_specs(store, config, recipe)
    row = dict.fromkeys(("snapshot_id", "config"), "") | {"started": 0, "attempts": 1, "seconds": 61.0}
    for stage in ("pretrained", "evaluation"):
        store.write("runs", [row | {"run_id": specs[stage].run_id, "stage": stage, "status": "finished"}],
                    specs[stage].run_id)  # fmt: skip
    cut = store.runs / specs["post_pretrained"].run_id / "checkpoints" / "step-000150"
    cut.mkdir(parents=True)
    meta = {"step": 150, "seed": 0, "cursors": [{}]}
    (cut / checkpoints.META).write_text(json.dumps(meta))

    plan = make_plan(config, recipe)
    assert [stage.steps for stage in plan.stages] == [0, 50, 80, 0]
    assert plan.stages[0].remark == "finished, took 61 s" and plan.stages[0].seconds == 0
    assert plan.stages[1].remark == "goes on after step 150"
    print_plan(config, plan)
    assert "goes on after step 150" in capsys.readouterr().out

    # A new clip makes a new snapshot: what was trained on the old one does not count.
    write_source(config.path.parent, SPLITS | {"d": "train"})
    assert [stage.steps for stage in make_plan(config, recipe).stages] == [200, 200, 80, 1]


def test_commands_say_what_is_wrong(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*arguments: str) -> str:
        assert main(arguments) == 1
        return capsys.readouterr().err

    sources = str(config.path)
    assert "no catalog yet" in fails("summary", "--sources", sources)
    config.path.write_text(TOML.replace('"smoke"', '"smke"'))
    assert "'smke' is not a preset" in fails("plan", "--sources", sources)
    config.path.write_text(TOML.replace("stride = 2", "strde = 2"))
    assert "strde" in fails("plan", "--sources", sources)
    config.path.write_text(TOML)
    (config.path.parent / "own.csv").unlink()
    assert "own.csv" in fails("plan", "--sources", sources)
