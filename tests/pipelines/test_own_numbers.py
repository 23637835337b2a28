"""Numbers that a configuration gives in the place of a preset's: what they change, and what is said of wrong ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from assets.stages import of_length, videos_per_step
from pipelines.own_numbers import in_their_place
from pipelines.presets import recipe_of, smoke
from warehouse.config import Config, ConfigError, load
from warehouse.training_numbers import Numbers

ROOT = Path(__file__).parents[2]
HYBRID = ROOT / "examples/hybrid.toml"


def with_table(path: Path, original: Path, stage: str, *lines: str) -> Path:
    """A configuration beside its original, with a table of numbers at its end."""
    path.write_text("\n".join([original.read_text(), f"[training.numbers.{stage}]", *lines, ""]))
    return path


def hybrid(tmp_path: Path, stage: str, *lines: str) -> Config:
    return load(with_table(tmp_path / "hybrid.toml", HYBRID, stage, *lines), check_files=False)


def test_a_step_keeps_its_videos_in_smaller_batches(tmp_path: Path) -> None:
    preset = recipe_of(load(HYBRID, check_files=False), gpus=8).pretrained
    smaller = recipe_of(hybrid(tmp_path, "pretrained", "clips_per_gpu = 8"), gpus=8)
    assert preset and smaller.pretrained
    assert smaller.pretrained.loader.clips_per_batch == 8
    assert videos_per_step(smaller.pretrained, 8) == videos_per_step(preset, 8)
    batch, parts = preset.loader.clips_per_batch, preset.fit.accumulate
    assert smaller.pretrained.fit == replace(preset.fit, accumulate=parts * batch // 8)
    assert smaller.remarks["pretrained"][-1] == "not the preset's, but of hybrid.toml: clips_per_gpu 8"


def test_rate_length_and_warmup_are_those_given(tmp_path: Path) -> None:
    lines = ("videos = 512", "epochs = 20", "warmup = 0.25", "rate = 3e-4", "clip_grad = 1.0")
    stage = recipe_of(hybrid(tmp_path, "post_pretrained", *lines), gpus=4).post_pretrained
    assert stage is not None and videos_per_step(stage, 4) == 512
    fit = of_length(stage, 51_200, 4).fit
    assert (fit.steps, fit.optim.warmup_steps, fit.optim.clip_grad) == (2_000, 500, 1.0)
    assert fit.optim.peak_rate == pytest.approx(6e-4)


def test_other_videos_take_the_preset_s_rate_along() -> None:
    stage = smoke().finetuned
    before = videos_per_step(stage, 1)
    twice = in_their_place(stage, Numbers(videos=2 * before), 1)
    assert videos_per_step(twice, 1) == 2 * before and twice.fit.accumulate == 2
    assert twice.fit.optim.peak_rate == pytest.approx(2 * stage.fit.optim.peak_rate)
    assert (twice.fit.steps, twice.fit.optim.warmup_steps) == (stage.fit.steps, stage.fit.optim.warmup_steps)
    assert in_their_place(stage, Numbers(), 1) == stage
    fewer = of_length(in_their_place(stage, Numbers(epochs=3), 1), 4 * before, 1).fit
    assert (fewer.steps, fewer.optim.warmup_steps) == (12, round(12 * stage.fit.optim.warmup_steps / stage.fit.steps))


@pytest.mark.parametrize(
    ("stage", "line", "said"),
    [
        ("finetuned", "rate = 0", "finetuned.rate: must be a number above 0"),
        ("finetuned", "warmup = 1", "finetuned.warmup: is a part of all steps, from 0 to below 1, not 1"),
        ("finetuned", "videos = 1.5", "finetuned.videos: must be a whole number"),
        ("finetuned", "lr = 1e-3", "finetuned.lr: unknown key"),
        ("finetune", "rate = 1", "training.numbers.finetune: is no stage that trains. Did you mean 'finetuned'"),
        ("distilled", "rate = 1", "training.numbers.distilled: no such stage runs here"),
    ],
)
def test_wrong_numbers_are_told_with_their_line(tmp_path: Path, stage: str, line: str, said: str) -> None:
    path = with_table(tmp_path / "sources.toml", HYBRID, stage, line)
    with pytest.raises(ConfigError, match=r"sources.toml:\d+: training.numbers") as error:
        recipe_of(load(path, check_files=False), gpus=1)
    assert said in str(error.value)
