"""Runs with fewer stages: from a file of weights, and without post-pre-training; real ones on three rendered clips."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import torch
from safetensors.torch import save_file
from test_plan import SPLITS, TOML, run_data_steps, write_source

from assets.report_page import build_report
from assets.stages import Recipe
from assets.training import run_specs
from model.classifier import Classifier, ClassifierConfig
from model.features import FeatureConfig, FeatureExtractor
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from model.weights import write_weights
from pipelines.__main__ import main, print_plan
from pipelines.definitions import build_definitions
from pipelines.plan import make_plan
from pipelines.presets import FRESH_HEAD, recipe_of
from pipelines.summary import print_summary
from warehouse.catalog.build import build_catalog
from warehouse.config import Config, ConfigError, load
from warehouse.store import Store

Configured = Callable[..., Config]
EXAMPLE = Path(__file__).parents[2] / "examples/finetune_kinetics400.toml"


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """Writes the configuration of a few clips, with other keys in [training], and reads it."""
    write_source(tmp_path, SPLITS)

    def write(*lines: str, preset: str = "smoke", check_files: bool = True) -> Config:
        keys = "\n".join([f'preset = "{preset}"', 'finetune = "moving"', *lines])
        head, _, tail = TOML.partition("[training]")
        rest = tail[tail.index("[collections") :].replace("collections.clips", "collections.moving")
        rest = rest.replace('["clips"]', '["moving"]')
        (tmp_path / "sources.toml").write_text(f"{head}[training]\n{keys}\n{rest}")
        return load(tmp_path / "sources.toml", check_files)

    return write


def weights(path: Path, kind: str, size: str = "tiny") -> Path:
    """A file of ours, of random weights."""
    torch.manual_seed(0)
    model: Pretrainer | Classifier | FeatureExtractor
    match kind:
        case "pretrainer":
            model = Pretrainer(PretrainerConfig(SIZES[size], 8, 48))
        case "classifier":
            model = Classifier(ClassifierConfig(SIZES[size], 8, 48, ("rising", "falling")))
        case _:
            model = FeatureExtractor(FeatureConfig(SIZES[size], 8, 48))
    write_weights(path, model.kind, model.config, model.state_dict())
    return path


def short(recipe: Recipe) -> Recipe:
    """Two steps a stage, of two clips."""

    def cut(settings: Any) -> Any:
        if settings is None:
            return None
        fit = replace(settings.fit, steps=2, checkpoint_every=2, optim=replace(settings.fit.optim, warmup_steps=1))
        return replace(settings, fit=fit, loader=replace(settings.loader, clips_per_batch=2, workers=0))

    return replace(
        recipe,
        pretrained=cut(recipe.pretrained),
        post_pretrained=cut(recipe.post_pretrained),
        finetuned=cut(recipe.finetuned),
    )


def assets_of(config: Config, recipe: Recipe) -> dict[str, set[str]]:
    """The assets of training, the report among them, and what each depends on directly."""
    definitions = build_definitions(config, recipe)
    assert definitions.resolve_job_def("full_run").partitions_def is not None
    graph = definitions.resolve_asset_graph()
    keys = [key for key in graph.get_all_asset_keys() if graph.get(key).group_name == "training"]
    return {key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys} for key in keys}


@pytest.mark.parametrize(
    ("kind", "named", "expected"),
    [
        ("pretrainer", ('post_pretrain = "moving"',), ["post_pretrained", "finetuned", "evaluation"]),
        ("pretrainer", (), ["finetuned", "evaluation"]),
        ("classifier", (), ["finetuned", "evaluation"]),
        ("classifier", ('pretrain = "moving"', 'post_pretrain = "moving"'), ["finetuned", "evaluation"]),
        ("features", (), ["finetuned", "evaluation"]),
        (None, ('pretrain = "moving"',), ["pretrained", "finetuned", "evaluation"]),
    ],
)
def test_stages_that_a_file_stands_for_are_no_assets(
    tmp_path: Path, configured: Configured, kind: str | None, named: tuple[str, ...], expected: list[str]
) -> None:
    lines = list(named)
    if kind is not None:
        lines.append(f'start = "{weights(tmp_path / "start.safetensors", kind).name}"')
    config = configured(*lines)
    recipe = recipe_of(config)
    assert list(recipe.stages) == expected
    before = dict(zip(expected, [None, *expected], strict=False))
    wanted = {stage: {"moving", *([before[stage]] if before[stage] else [])} for stage in expected}
    assert assets_of(config, recipe) == wanted | {"report": {"evaluation"}}


def test_run_from_a_classifier_learns_scores_and_is_told_of(
    tmp_path: Path, configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    file = weights(tmp_path / "start.safetensors", "classifier")
    config = configured(f'start = "{file.name}"')
    store, recipe = Store(config.data_root), short(recipe_of(config))
    run_data_steps(store, config)
    build_catalog(store)
    with pytest.raises(ConfigError, match=r":8: training.start: .*has 0 of the 3 classes of moving, and not 'drift"):
        run_specs(store, config, replace(recipe, keeps_head=True))
    definitions = build_definitions(config, recipe)
    selected = [definitions.resolve_assets_def(name) for name in ("finetuned", "evaluation")]
    assert dg.materialize(selected, instance=dg.DagsterInstance.ephemeral()).success

    specs = run_specs(store, config, recipe)
    ledger = {row["stage"]: row for row in store.rows("runs")}
    assert {stage: row["run_id"] for stage, row in ledger.items()} == {s: specs[s].run_id for s in specs}
    assert specs["finetuned"].parent_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (ledger["finetuned"]["parent"], ledger["evaluation"]["parent"]) == (str(file), specs["finetuned"].checkpoint)
    assert {row["metric"] for row in store.rows("scores")} >= {"top1", "top5"}

    print_summary(config, recipe)
    said = capsys.readouterr().out
    assert f"from {file}" in said and "post_pretrained" not in said and "Accuracy on 1 val clips" in said
    assert "finetuned" in build_report(store, config, recipe).read_text()
    plan = make_plan(config, recipe)
    assert [(stage.name, stage.seconds) for stage in plan.stages] == [("finetuned", 0.0), ("evaluation", 0.0)]
    print_plan(config, plan)

    # Elsewhere it is the same file, and the same run; other weights under its name are another.
    moved = file.rename(tmp_path / "moved.safetensors")
    again = short(recipe_of(configured(f'start = "{moved.name}"')))
    assert run_specs(store, config, again)["finetuned"].run_id == specs["finetuned"].run_id
    weights(moved, "features")
    assert run_specs(store, config, again)["finetuned"].run_id != specs["finetuned"].run_id


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        (('start = "none.safetensors"',), 8, ["there is no", "python -m model convert"]),
        ((), 5, ["pretrain", "missing"]),
        (('start = "start.safetensors"', 'size = "B"'), 9, ["one size"]),
        (('start = "start.safetensors"', "source_shares = { own = 1 }"), 9, ["pre-training, and there is none"]),
    ],
)
def test_nothing_to_start_from_is_said_with_its_line(
    tmp_path: Path, configured: Configured, lines: tuple[str, ...], line: int, said: list[str]
) -> None:
    weights(tmp_path / "start.safetensors", "pretrainer")
    with pytest.raises(ConfigError) as error:
        recipe_of(configured(*lines))
    assert f"sources.toml:{line}: training." in str(error.value)
    assert all(text in str(error.value) for text in said)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("official.pth", "{} is not of Reelhouse. Convert it: `python -m model convert {} {to} --to reelhouse`"),
        ("other.safetensors", "{} is not of Reelhouse. Convert it: `python -m model convert {} {to} --to reelhouse`"),
        ("downloaded", "{} is not of Reelhouse. Convert it: `python -m model convert {} {to} --to reelhouse`"),
        ("cut.safetensors", "{} cannot be read as safetensors: Error while deserializing header: incomplete metadata, "
         "file not fully covered. Fetch or write it again"),
        ("odd.safetensors", "{}: its header is not one that this version writes (KeyError: 'kind'). Fetch or write it "
         "again"),
        ("run", "{} is the folder of a run. Give its newest checkpoint: {}/checkpoints/step-000002"),
        ("videos", "{} has no weights.safetensors: it is no checkpoint. Give a folder that has, or a file of weights"),
    ],
)  # fmt: skip
def test_what_is_no_start_is_refused_with_one_remedy(
    tmp_path: Path, configured: Configured, start: str, said: str
) -> None:
    whole = weights(tmp_path / "start.safetensors", "pretrainer").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "official.pth")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "odd.safetensors", {"reelhouse": "{}"})
    for folder in ("downloaded", "run/checkpoints/step-000001", "run/checkpoints/step-000002"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "downloaded" / "config.json").write_text("{}")
    config, path = configured(f'start = "{start}"'), tmp_path / start
    with pytest.raises(ConfigError) as error:
        recipe_of(config)
    message = said.format(path, path, to=path.with_suffix(".converted.safetensors"))
    assert str(error.value).endswith(f"  sources.toml:8: training.start: {message}")


@pytest.mark.parametrize(
    ("size", "start", "said"),
    [
        (None, None, "missing"),
        ("M", None, "'M' is no size of the paper's"),
        ("B", "tiny", "holds a model of size 'tiny'"),
        (None, "tiny", "which the paper does not have"),
    ],
)
def test_size_of_the_paper_is_one_that_it_has(
    tmp_path: Path, configured: Configured, size: str | None, start: str | None, said: str
) -> None:
    lines = ['pretrain = "moving"', *([f'size = "{size}"'] if size else [])]
    if start:
        lines.append(f'start = "{weights(tmp_path / "start.safetensors", "pretrainer", start).name}"')
    with pytest.raises(ConfigError, match=said):
        recipe_of(configured(*lines, preset="paper"))


def test_rows_of_the_paper_follow_the_start(tmp_path: Path, configured: Configured) -> None:
    """The size is that of the weights; fine-tuning is that after K710 where they come with a head for Kinetics."""

    def of_kinetics(kind: str) -> Recipe:
        config = load(EXAMPLE, check_files=False)
        start = weights(tmp_path / f"{kind}.safetensors", kind, "S")
        return recipe_of(replace(config, training=replace(config.training, start=start)), gpus=8)

    direct = recipe_of(configured('pretrain = "moving"', 'size = "S"', preset="paper"), gpus=8)
    file = weights(tmp_path / "start.safetensors", "classifier", "S")
    other = recipe_of(configured(f'start = "{file.name}"', preset="paper"), gpus=8)
    assert other.size == "S" and list(other.stages) == ["finetuned", "evaluation"]
    assert any("fine-tunes on nothing like this" in remark for remark in other.remarks["finetuned"])
    recipes = (direct, other, of_kinetics("classifier"), of_kinetics("features"))
    assert [recipe.finetuned.epochs.count for recipe in recipes] == [90, 90, 3, 90]
    assert [recipe.keeps_head for recipe in recipes] == [False, False, True, False]
    assert [FRESH_HEAD in recipe.remarks["finetuned"] for recipe in recipes] == [False, True, False, True]


def test_commands_tell_of_a_start_that_is_gone(configured: Configured, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError):
        configured('start = "gone.safetensors"')
    config = configured('start = "gone.safetensors"', check_files=False)
    for command in ("recipe", "plan", "summary"):
        assert main([command, "--sources", str(config.path)]) == 1
        said = capsys.readouterr().err
        assert "sources.toml:8: training.start: " in said and "gone.safetensors --to reelhouse" in said
