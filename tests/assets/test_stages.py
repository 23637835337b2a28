"""What a stage is told survives its way through JSON, and names the run by all that determines its result."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from assets.stages import RunSpec, read_spec
from pipelines.presets import PRESETS, smoke

STAGES = ("pretrained", "post_pretrained", "finetuned", "evaluation")


def spec(stage: str, preset: str = "smoke") -> RunSpec:
    parent = None if stage == "pretrained" else "runs/before/checkpoints/step-000010"
    return RunSpec(stage, "0123456789abcdef", parent, getattr(PRESETS[preset](), stage))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("stage", STAGES)
def test_spec_survives_json(tmp_path: Path, stage: str, preset: str) -> None:
    written = spec(stage, preset)
    read, data_root = read_spec(written.write(tmp_path / written.run_id, tmp_path))
    assert read == written
    assert read.run_id == written.run_id
    assert data_root == tmp_path


@pytest.mark.parametrize("stage", STAGES)
def test_run_id_does_not_depend_on_speed(stage: str) -> None:
    one = spec(stage)
    loader = replace(one.settings.loader, workers=7, prefetch_batches=9)
    assert replace(one, settings=replace(one.settings, loader=loader)).run_id == one.run_id


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
    parts = [field.name for field in fields(one.settings)]
    for name in parts:
        part = getattr(one.settings, name)
        if name == "loader":
            inner = [f.name for f in fields(part) if f.name not in ("workers", "prefetch_batches")]
            variants = [replace(part, **{key: changed(getattr(part, key))}) for key in inner]
        elif name == "fit":
            inner = [f.name for f in fields(part) if f.name not in ("optim", "checkpoint_every", "keep")]
            variants = [replace(part, **{key: changed(getattr(part, key))}) for key in inner]
            optims = [replace(part.optim, **{f.name: changed(getattr(part.optim, f.name))}) for f in fields(part.optim)]
            variants += [replace(part, optim=optim) for optim in optims]
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
