"""Students and features of a recipe: what is asked for, which runs that makes, and what is told of the students."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from test_report import CLASSES, TOML, Page, write_clips, write_runs

from assets.derived_stages import DistillSettings, FeatureSettings, Student
from assets.report_facts import models_of, stage_facts
from assets.report_page import build_report
from assets.run_previews import of_training
from assets.stages import Recipe, RunSpec, read_spec
from assets.start import weights_sha256
from assets.student_scores import AGREEMENT, note_agreement
from assets.training import run_specs, training_assets
from model.classifier import Classifier, ClassifierConfig
from model.sizes import SIZES
from model.weights import write_weights
from pipelines.presets import recipe_of, smoke
from warehouse import steps
from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.snapshots import current_snapshot, take_snapshot
from warehouse.config import Config, ConfigError, load
from warehouse.store import Store

ASKED = 'students = ["micro", "tiny"]\nfeatures = ["actions", "everything"]\n'


def configured(root: Path, training: str = ASKED, toml: str = TOML) -> Config:
    path = root / "sources.toml"
    path.write_text(toml.replace("[training]\n", f"[training]\n{training}"))
    return load(path, check_files=False)


def snapshots_of(config: Config) -> Store:
    """A store with a snapshot of each collection."""
    store = Store(config.data_root)
    steps.write_sources(store, config)
    write_clips(store)
    build_catalog(store)
    for collection in config.collections:
        take_snapshot(store, config, collection)
    build_catalog(store)
    return store


def test_settings_survive_json_and_name_the_run(tmp_path: Path) -> None:
    recipe = recipe_of(configured(tmp_path, f"{ASKED}features_every = 4\n"))
    assert recipe.distilled and recipe.features and recipe.features.loader.every == 4
    for stage in ("distilled", "features"):
        one = RunSpec(stage, "0123456789abcdef", "runs/before/checkpoints/step-000010", recipe.stages[stage])
        assert read_spec(one.write(tmp_path / stage, tmp_path)) == (one, tmp_path)
        slower = replace(one.settings, loader=replace(one.settings.loader, workers=7))
        assert replace(one, settings=slower).run_id == one.run_id
        assert replace(one, parent="runs/other/checkpoints/step-000010").run_id != one.run_id
    first = replace(recipe.features, loader=replace(recipe.features.loader, every=8))
    cooler = replace(recipe.distilled, temperature=1.0)
    others = {stage: RunSpec(stage, "0", "p", recipe.stages[stage]).run_id for stage in ("distilled", "features")}
    assert RunSpec("distilled", "0", "p", cooler).run_id != others["distilled"]
    assert RunSpec("features", "0", "p", first).run_id != others["features"]
    with pytest.raises(ValueError, match="each of another size"):
        replace(recipe.distilled, students=(Student("tiny"), Student("tiny")))


def test_the_students_learn_of_the_finetuned_model_and_are_scored_beside_it(tmp_path: Path) -> None:
    config = configured(tmp_path)
    store, recipe = snapshots_of(config), recipe_of(config)
    specs = run_specs(store, config, recipe)
    assert list(specs) == [
        "pretrained", "post_pretrained", "finetuned", "distilled", "evaluation", "evaluation of micro",
        "evaluation of tiny", "features of actions", "features of everything",
    ]  # fmt: skip
    finetuned, distilled = specs["finetuned"], specs["distilled"]
    assert distilled.parent == finetuned.checkpoint and distilled.snapshot_id == finetuned.snapshot_id
    assert specs["evaluation"].parent == finetuned.checkpoint
    for name in ("micro", "tiny"):
        assert specs[f"evaluation of {name}"].parent == f"{distilled.checkpoint}/{name}"
    assert specs["features of everything"].parent == finetuned.checkpoint
    assert specs["features of everything"].snapshot_id == current_snapshot(store, "everything")
    assert [asset.key.to_user_string() for asset in training_assets(config, recipe)] == list(recipe.stages)
    # Without the keys there are no such stages.
    plain = recipe_of(configured(tmp_path, ""))
    assert plain.distilled is None and plain.features is None and "distilled" not in plain.stages


def test_the_teacher_may_be_the_model_before_or_a_file_in_its_place(tmp_path: Path) -> None:
    toml = TOML.replace('post_pretrain = "actions"', 'post_pretrain = "labelled"').replace(
        "[collections.actions]", '[collections.labelled]\nsplits = ["train", "val"]\ntaxonomy = "actions"\n'
        "min_duration_s = 0.5\n[collections.actions]"
    ).replace('["everything", "actions"]', '["everything", "actions", "labelled"]')  # fmt: skip
    config = configured(tmp_path, 'students = ["micro"]\nteacher = "post_pretrained"\n', toml)
    store = Store(config.data_root)
    write_clips(store)
    rows = store.rows("decisions")
    labelled = [row | {"collection": "labelled"} for row in rows if row["collection"] == "actions"]
    store.write("decisions", [*rows, *labelled[:-1], labelled[-1] | {"keep": False, "reason": "too_short"}])
    for collection in config.collections:
        take_snapshot(store, config, collection)
    specs = run_specs(store, config, recipe_of(config))
    assert specs["distilled"].parent == specs["post_pretrained"].checkpoint
    assert specs["distilled"].snapshot_id == current_snapshot(store, "labelled") != specs["finetuned"].snapshot_id
    assert specs["evaluation of the teacher"].parent == specs["post_pretrained"].checkpoint
    assert specs["evaluation of micro"].snapshot_id == specs["evaluation of the teacher"].snapshot_id

    file, own = tmp_path / "k710.safetensors", tmp_path / "own.safetensors"
    write_classifier(file, "tiny")
    write_classifier(own, "micro")
    config = configured(
        tmp_path, f'students = ["micro"]\nteacher = "post_pretrained"\nstart = "{file}"\n'
        'student_weights = { micro = "own.safetensors" }\n', toml
    )  # fmt: skip
    recipe = recipe_of(config)
    assert recipe.distilled and recipe.distilled.students == (Student("micro", str(own), weights_sha256(own)),)
    spec = run_specs(store, config, recipe)["distilled"]
    assert (spec.parent, spec.parent_sha256) == (str(file), weights_sha256(file))


def write_classifier(path: Path, size: str) -> None:
    model = Classifier(ClassifierConfig(SIZES[size], 8, 48, tuple(CLASSES)), torch.Generator().manual_seed(0))
    write_weights(path, model.kind, model.config, model.state_dict())


def test_published_numbers_are_dealt_over_the_gpus(tmp_path: Path) -> None:
    training = 'size = "g"\nstudents = ["S", "B"]\n'
    recipe = recipe_of(configured(tmp_path, training, TOML.replace('"smoke"', '"paper"')), gpus=8)
    settings = recipe.distilled
    assert settings and settings.epochs and (settings.epochs.count, settings.epochs.warmup) == (100, 5)
    assert settings.loader.clips_per_batch * settings.fit.accumulate * 8 == 1024
    optim = settings.fit.optim
    assert (optim.peak_rate, optim.weight_decay, optim.layer_decay, optim.clip_grad) == (1e-3 * 4, 0.05, 0.75, 1.0)
    assert (settings.temperature, settings.drop_path) == (3.0, 0.1)
    assert settings.loader.mixup == 0.8 and settings.loader.cutmix == 1.0 and settings.loader.randaugment
    remarks = " ".join(recipe.remarks["distilled"])
    assert "table of distillation" in remarks and "starts fresh (ours)" in remarks


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ('students = ["mikro"]\n', r"training\.students: 'mikro' is no size of a model. Did you mean 'micro'"),
        ('students = ["micro"]\nteacher = "pretrained"\n', r"training\.teacher: 'pretrained' is no stage that leaves"),
        ('student_weights = { micro = "x" }\n', r"student_weights\.micro: is none of the `students`"),
        ('features = ["action"]\n', r"there is no \[collections\.action\]. Did you mean 'actions'"),
        ("features_every = 4\n", r"is about `features`, which are missing"),
        ('students = ["micro", "micro"]\n', r"names 'micro' twice"),
    ],
)
def test_what_makes_no_sense_is_reported_with_its_line(tmp_path: Path, training: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_of(configured(tmp_path, training))


def test_student_weights_have_to_be_there_and_of_their_size(tmp_path: Path) -> None:
    config = configured(tmp_path, 'students = ["micro"]\nstudent_weights = { micro = "k710.safetensors" }\n')
    with pytest.raises(ConfigError, match=r"student_weights\.micro: .*k710\.safetensors: no such file.*model convert"):
        recipe_of(config)
    write_classifier(tmp_path / "k710.safetensors", "tiny")
    with pytest.raises(ConfigError, match=r"student_weights\.micro: .*k710\.safetensors holds a model of size 'tiny'"):
        recipe_of(config)


def test_report_and_ledger_have_the_students_beside_their_teacher(tmp_path: Path) -> None:
    config = configured(tmp_path)
    store, recipe = snapshots_of(config), recipe_of(config)
    write_runs(store, config)
    specs = run_specs(store, config, recipe)
    write_student_runs(store, specs)
    assert note_agreement(store, specs)
    build_catalog(store)

    found = models_of(store, stage_facts(store, config, recipe))
    assert [(model.name, model.top1, model.agreement) for model in found] == [
        ("fine-tuned", 0.8, None), ("micro", 0.6, 0.75), ("tiny", 0.6, 1.0),
    ]  # fmt: skip
    page = Page(build_report(store, config, recipe).read_text())
    assert "Students beside their teacher" in page.text and "micro 60.0% 100.0% 75.0% 5" in page.text
    with connect(store) as connection:
        told = connection.execute(
            "SELECT name, value FROM run_facts WHERE run_id = ? AND about = 'scores' AND name LIKE ?",
            [specs["distilled"].run_id, f"{AGREEMENT}%"],
        ).fetchall()
    assert sorted(told) == [
        (f"{AGREEMENT} of micro on val of actions", "0.75"), (f"{AGREEMENT} of tiny on val of actions", "1.0"),
    ]  # fmt: skip
    shown = of_training(store, specs["distilled"].run_id, specs["distilled"].settings, 2)
    assert "| micro | 0.5000 |" in shown["students"].value and {"loss of micro", "loss of tiny"} <= shown.keys()

    # Asked again it changes nothing, and one student alone has its losses too.
    assert not note_agreement(store, specs)
    alone = of_training(store, specs["distilled"].run_id, one_student(recipe), 2)
    assert "| micro | 0.5000 |" in alone["students"].value and "loss of micro" not in alone


def one_student(recipe: Recipe) -> DistillSettings:
    assert recipe.distilled is not None
    return replace(recipe.distilled, students=recipe.distilled.students[:1])


def write_student_runs(store: Store, specs: dict[str, RunSpec]) -> None:
    """What the distillation and the evaluations of its students leave; the teacher's predictions beside them."""
    now = datetime.now(UTC)
    said = {"fine-tuned": "xyxy", "micro": "xyxx", "tiny": "xyxy"}
    for name, spec in specs.items():
        folder = store.runs / spec.run_id
        folder.mkdir(parents=True, exist_ok=True)
        run = {"run_id": spec.run_id, "stage": spec.stage, "snapshot_id": spec.snapshot_id, "parent": spec.parent}
        run |= {"config": "{}", "status": "finished", "started": now, "finished": now, "seconds": 1.0, "attempts": 1}
        if name == "distilled":
            losses = {"micro": 0.5, "tiny": 0.25}
            row = {"loss": 0.375, "losses": losses, "clips_per_s": 9.0, "data_wait_share": 0.5}
            lines = [json.dumps({"step": step, **row}) for step in (1, 2)]
            (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
            saved = [{"checkpoint": c, "run_id": spec.run_id, "step": 2, "created": now} for c in spec.models.values()]
            store.write("checkpoints", saved, spec.run_id)
        elif name.startswith("evaluation of"):
            key = {"run_id": spec.run_id, "checkpoint": spec.parent, "snapshot_id": spec.snapshot_id, "split": "val"}
            measured = {"top1": 0.6, "top5": 1.0, "chance": 0.5, "chance_largest_class": 0.6, "clips": 5}
            store.write("scores", [key | {"metric": m, "value": v} for m, v in measured.items()], spec.run_id)
        if spec.stage == "evaluation":
            model = "fine-tuned" if name == "evaluation" else name.removeprefix("evaluation of ")
            result = {"class_names": CLASSES, "confusion": [[3, 0], [1, 1]],
                      "predictions": dict(enumerate(said[model]))}  # fmt: skip
            (folder / "result.json").write_text(json.dumps(result))
        if spec.stage == "distilled" or name.startswith("evaluation of"):
            store.write("runs", [run], spec.run_id)


def test_presets_of_the_demo_ask_for_both() -> None:
    config = load(check_files=False)
    recipe = recipe_of(config)
    assert recipe.distilled and [student.size for student in recipe.distilled.students] == ["micro"]
    assert isinstance(recipe.features, FeatureSettings) and config.training.features == ("kinetics400",)
    assert smoke().distilled is None
