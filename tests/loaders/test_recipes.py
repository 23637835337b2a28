"""From sources.toml to what a stage draws."""

from pathlib import Path

import pytest

from loaders.recipes import RECIPES, stage_loaders
from warehouse.config import ConfigError, load

CONFIG = """\
[reelhouse]
data_root = "data"

[training]
preset = "{preset}"
pretrain = "all"
post_pretrain = "all"
finetune = "all"

[collections.all]
splits = ["train", "val"]
taxonomy = "actions"

[taxonomies.actions]

[sources.kinetics400]
kind = "kinetics"
media_root = "media"
annotations = {{ train = "train.csv", val = "val.csv" }}
collections = ["all"]
stride = 4
licence = "CC BY 4.0"

[sources.ssv2]
kind = "something_something_v2"
media_root = "media"
annotations = {{ labels = "labels.json", train = "train.json", val = "val.json" }}
collections = ["all"]
stride = 2
licence = "free"

[sources.turns]
kind = "folder"
media_root = "media"
collections = ["all"]
stride = 4
flip = false
licence = "own"
"""


def write(folder: Path, preset: str) -> Path:
    path = folder / "sources.toml"
    path.write_text(CONFIG.format(preset=preset))
    return path


@pytest.mark.parametrize("preset", RECIPES)
def test_clips_with_directions_are_kept_from_flips(tmp_path: Path, preset: str) -> None:
    loaders = stage_loaders(load(write(tmp_path, preset), check_files=False))
    for loader in (loaders.pretrained, loaders.post_pretrained, loaders.finetuned):
        assert loader.unflipped == (("ssv2", "turns") if loader.flip else ())
    assert loaders.finetuned.flip == (preset != "smoke") and not loaders.pretrained.flip


def test_an_unknown_preset_is_named(tmp_path: Path) -> None:
    expected = r"sources\.toml:5: training\.preset: 'papper' is not a preset\. Choose from smoke, small, paper"
    with pytest.raises(ConfigError, match=expected):
        stage_loaders(load(write(tmp_path, "papper"), check_files=False))


@pytest.mark.parametrize("preset", RECIPES)
def test_something_something_alone_is_sampled_from_whole_clips(tmp_path: Path, preset: str) -> None:
    path = write(tmp_path, preset)
    mixed = stage_loaders(load(path, check_files=False))
    others = path.read_text().replace('collections = ["all"]', 'collections = ["rest"]')
    alone = others.replace('["rest"]\nstride = 2', '["all"]\nstride = 2')
    path.write_text(alone + '\n[collections.rest]\nsplits = ["train"]\n')
    loaders = stage_loaders(load(path, check_files=False))
    if preset == "smoke":
        assert loaders == mixed
        return
    assert (mixed.finetuned.sampling, mixed.evaluation.sampling) == ("linspace", "dense")
    assert (loaders.finetuned.sampling, loaders.post_pretrained.sampling) == ("segments", "segments")
    tested = loaders.evaluation
    assert (tested.sampling, tested.temporal_views, tested.spatial_views) == ("segments", 2, 3)
    assert loaders.pretrained == mixed.pretrained


def test_a_mixture_is_of_the_pretraining_and_runs_are_of_every_training_stage(tmp_path: Path) -> None:
    path = write(tmp_path, "paper")
    shares = "source_shares = { kinetics400 = 2, ssv2 = 1, turns = 0 }"
    path.write_text(path.read_text().replace("[training]\n", f"[training]\nrun_clips = 16\n{shares}\n"))
    loaders = stage_loaders(load(path, check_files=False))
    assert loaders.pretrained.source_shares == {"kinetics400": 2, "ssv2": 1, "turns": 0}
    assert loaders.post_pretrained.source_shares is loaders.finetuned.source_shares is None
    assert [stage.run_clips for stage in (loaders.pretrained, loaders.post_pretrained, loaders.finetuned)] == [16] * 3
