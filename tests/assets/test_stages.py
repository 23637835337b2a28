"""What a stage is told survives its way through JSON, and names the run by all that determines its result."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from assets.schedule import Epochs
from assets.stages import EvaluationSettings, Recipe, RunSpec, of_length, read_spec, videos_per_step
from pipelines.paper import paper
from pipelines.presets import small, smoke

STAGES = ("pretrained", "post_pretrained", "finetuned", "evaluation")
RECIPES = {"smoke": smoke(), "small": small(2), "paper": paper("g", 8)}
PARTS = ("clips_per_batch", "workers", "prefetch_batches", "accumulate", "checkpointing", "compile")
"""How a step's videos are dealt out and worked on."""


def spec(stage: str, recipe: Recipe = RECIPES["smoke"], clips: int = 10_000) -> RunSpec:
    parent = None if stage == "pretrained" else "runs/before/checkpoints/step-000010"
    settings = recipe.stages[stage]
    if isinstance(settings, EvaluationSettings):
        return RunSpec(stage, "0123456789abcdef", parent, settings)
    sized = of_length(settings, clips, recipe.processes)
    return RunSpec(stage, "0123456789abcdef", parent, sized, recipe.processes)


@pytest.mark.parametrize("preset", RECIPES)
@pytest.mark.parametrize("stage", STAGES)
def test_spec_survives_json(tmp_path: Path, stage: str, preset: str) -> None:
    written = spec(stage, RECIPES[preset])
    read, data_root = read_spec(written.write(tmp_path / written.run_id, tmp_path))
    assert read == written
    assert read.run_id == written.run_id
    assert data_root == tmp_path


@pytest.mark.parametrize("stage", STAGES)
def test_run_id_does_not_depend_on_speed(stage: str) -> None:
    one = spec(stage)
    loader = replace(one.settings.loader, workers=7, prefetch_batches=9)
    assert replace(one, settings=replace(one.settings, loader=loader)).run_id == one.run_id


@pytest.mark.parametrize("stage", STAGES)
def test_run_is_the_same_run_on_another_number_of_gpus(stage: str) -> None:
    ids = {gpus: spec(stage, paper("g", gpus, compiled=gpus > 1)).run_id for gpus in (1, 2, 8, 32)}
    assert len(set(ids.values())) == len({spec(stage, small(gpus)).run_id for gpus in (1, 2, 8)}) == 1
    # 5 GPUs do not divide the videos of a step: it has others, and so is another run.
    assert (spec(stage, paper("g", 5)).run_id == ids[1]) == (stage == "evaluation")


def test_run_from_a_file_is_known_by_what_the_file_holds() -> None:
    one = replace(spec("finetuned"), parent="/data/b.safetensors", parent_sha256="aa")
    assert replace(one, parent="/elsewhere/b.safetensors").run_id == one.run_id
    assert len({one.run_id, replace(one, parent_sha256="bb").run_id, replace(one, parent_sha256=None).run_id}) == 3


def test_epochs_become_steps_of_the_clips_that_there_are() -> None:
    settings = of_length(paper("g", 8).pretrained, 100_000, 8)
    assert videos_per_step(settings, 8) == 2048 and settings.epochs is None
    fit = settings.fit
    assert (fit.steps, fit.optim.warmup_steps, fit.checkpoint_every) == (14_648, 1_465, 100)
    # Without clips to count: the paper's collection.
    assert paper("g", 8).pretrained.fit.steps == round(300 * 1_348_000 / 2048)
    assert of_length(paper("B", 8, after_k710=False).finetuned, 240_436, 8).fit.checkpoint_every == 470
    assert of_length(smoke().finetuned, 100_000, 1) == smoke().finetuned
    with pytest.raises(ValueError, match="warm-up is less"):
        Epochs(5, 5)


def changed(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case str():
            return {"multi_scale": "random_resized", "dense": "segments"}.get(value, f"{value}x")
        case ():
            return ("another",)
        case tuple():
            return tuple(changed(part) for part in value)
        case None:
            return 0.5
        case _:
            return value + 1


@pytest.mark.parametrize("stage", STAGES)
def test_run_id_depends_on_everything_else(stage: str) -> None:
    one = spec(stage)
    others = [replace(one, snapshot_id="fedcba9876543210"), replace(one, parent="runs/other/checkpoints/step-000010")]
    others += [replace(one, stage=f"{stage}2")]
    if stage != "evaluation":
        others += [replace(one, processes=one.processes + 1)]
    parts = [field.name for field in fields(one.settings)]
    for name in parts:
        part = getattr(one.settings, name)
        if name == "loader":
            inner = [f.name for f in fields(part) if f.name not in PARTS]
            variants = [replace(part, **{key: changed(getattr(part, key))}) for key in inner]
        elif name == "fit":
            inner = [f.name for f in fields(part) if f.name not in ("optim", "checkpoint_every", "keep", *PARTS)]
            variants = [replace(part, **{key: changed(getattr(part, key))}) for key in inner]
            optims = [replace(part.optim, **{f.name: changed(getattr(part.optim, f.name))}) for f in fields(part.optim)]
            variants += [replace(part, optim=optim) for optim in optims]
        elif name == "epochs":  # they are steps by now
            variants = []
        else:
            variants = [changed(part)]
        others += [replace(one, settings=replace(one.settings, **{name: variant})) for variant in variants]
    ids = [other.run_id for other in others]
    assert len({one.run_id, *ids}) == 1 + len(others)


def test_stages_name_their_own_folders() -> None:
    recipe = smoke()
    same = [RunSpec(stage, "0123456789abcdef", None, recipe.finetuned) for stage in ("post_pretrained", "finetuned")]
    assert same[0].run_id != same[1].run_id
    assert same[0].checkpoint == f"runs/{same[0].run_id}/checkpoints/step-{recipe.finetuned.fit.steps:06d}"
    with pytest.raises(ValueError, match="leaves no checkpoint"):
        _ = spec("evaluation").checkpoint
