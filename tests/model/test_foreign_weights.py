"""The official layouts and Hugging Face's, read from real files and written back: strictly, and never run."""

import argparse
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_models import random_clips, roughened
from safetensors.torch import save_file
from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel

from model import huggingface
from model.__main__ import main
from model.classifier import Classifier, ClassifierConfig
from model.conversion import write_huggingface, write_official
from model.features import FeatureConfig, FeatureExtractor
from model.foreign_weights import open_weights
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from model.transfer import TransferError, filled
from model.weights import CheckpointError, Weights, read_weights

TINY = SIZES["tiny"]
NAMES = ("drift", "zoom", "turn")
CLASSIFIER = ClassifierConfig(TINY, 8, 48, NAMES)


def classifier() -> Classifier:
    return roughened(Classifier(CLASSIFIER))


def weights_of(model: Pretrainer | Classifier | FeatureExtractor) -> Weights:
    return Weights("here", model.kind, model.config, model.state_dict())


def same(ours: dict[str, Tensor], theirs: Any) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("layout", ["official", "huggingface"])
@pytest.mark.parametrize("name", ["S", "B", "L", "H", "g"])
def test_every_size_is_known_by_its_tensors(name: str, layout: str, tmp_path: Path) -> None:
    """Whole models, stored without their values: a file of g would be four gigabytes."""
    size = SIZES[name]
    with torch.device("meta"):
        models = [
            Pretrainer(PretrainerConfig(size, 16, 224)),
            Classifier(ClassifierConfig(size, 16, 224, NAMES)),
            FeatureExtractor(FeatureConfig(size, 16, 224)),
        ]
    for model in models:
        state = model.state_dict()
        names = NAMES if isinstance(model, Classifier) else ()
        stored = huggingface.to_their_names(state) if layout == "huggingface" else state
        torch.save({"model": stored}, tmp_path / "m.pth")
        opened = open_weights(tmp_path / "m.pth", class_names=names)
        assert (opened.layout, opened.weights.kind, opened.weights.config) == (layout, model.kind, model.config)


@pytest.mark.parametrize("name", ["S", "L", "H", "g"])
def test_layouts_go_there_and_back(name: str, tmp_path: Path) -> None:
    """All of S; of the others one block and its decoder's, at full width."""
    size = SIZES[name] if name == "S" else replace(SIZES[name], depth=1, decoder_depth=1)
    pretrainer = Pretrainer(PretrainerConfig(size, 16, 224))
    write_official(tmp_path / "official.pth", weights_of(pretrainer))
    opened = open_weights(tmp_path / "official.pth", size=None if name == "S" else size)
    assert same(pretrainer.state_dict(), opened.weights.tensors)
    write_huggingface(tmp_path / "hf", opened.weights)
    again = open_weights(tmp_path / "hf")
    assert again.weights.config == replace(pretrainer.config, size=replace(size, name=again.weights.config.size.name))
    assert same(pretrainer.state_dict(), again.weights.tensors)


def wrapped(state: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "model": {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": np.float64(0.1)}]},
        "epoch": 3,
        "args": argparse.Namespace(lr=1e-3, output_dir="out"),
    }


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda state: state, None),
        (wrapped, "left out: optimizer, epoch, args"),
        (lambda state: {"module": {name: tensor.half() for name, tensor in state.items()}}, "float16 became float32"),
    ],
)
def test_wrappers_are_taken_off_and_what_lay_beside_is_named(
    wrap: Callable[[dict[str, Tensor]], dict[str, Any]], note: str | None, tmp_path: Path
) -> None:
    model = classifier()
    torch.save(wrap(model.state_dict()), tmp_path / "k710.pth")
    opened = open_weights(tmp_path / "k710.pth", 8, 48, NAMES)
    assert opened.weights.config == CLASSIFIER
    assert opened.notes == (() if note is None else (note,))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(opened.weights.tensors[name], value, rtol=1e-3, atol=1e-7)
    assert filled(opened.weights)(random_clips(1, 8, 48)).shape == (1, 3)


def test_files_written_with_an_earlier_numpy_are_read(tmp_path: Path) -> None:
    """As the official ones were; NumPy 2 has given a module of it, which stands in the pickle, another name."""
    model = classifier()
    torch.save(wrapped(model.state_dict()), tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            old.writestr(name, content)
    assert same(model.state_dict(), open_weights(tmp_path / "old.pth", 8, 48, NAMES).weights.tensors)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    torch.save({"model": classifier().state_dict(), "args": Bomb(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth is a pickle that wants posix\.system.*was not loaded"):
        open_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_damaged_and_strange_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save(classifier().state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"file\.pth cannot be read as a PyTorch file.*Fetch it again"):
        open_weights(path)
    for content, why in (
        (b"", "it ends"),
        (b"\x89PNG\r\n\x1a\n", "it is none"),
        (b"\n<html>\nYou need to log in</html>", "it is text, '<html>'"),
        (b"Access to model X is restricted." + 500 * b" ", r"it is text, 'Access to model X is restricted\.'\. Log in"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"file\.pth cannot be read as a PyTorch file: {why}.*etch it again"):
            open_weights(path)
    torch.save({"epoch": 3, "weights": {}}, path)
    with pytest.raises(CheckpointError, match=r"holds no state dict.*epoch, weights"):
        open_weights(path)
    torch.save({"layer1.0.conv.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"no layout that is known: names such as layer1\.0\.conv\.weight"):
        open_weights(path)
    with pytest.raises(CheckpointError, match="no such file"):
        open_weights(tmp_path / "none.pth")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="in several files"):
        open_weights(tmp_path)


def test_reading_is_strict_and_lists_every_tensor(tmp_path: Path) -> None:
    state = roughened(Pretrainer(PretrainerConfig(TINY, 8, 48))).state_dict()
    path = tmp_path / "pretrained.pth"

    def opened_with(tensors: dict[str, Tensor]) -> None:
        torch.save(tensors, path)
        open_weights(path, 8, 48)

    opened_with(state)
    left_out = ("mask_token", "encoder.blocks.1.attn.v_bias")
    without = {name: value for name, value in state.items() if name not in left_out}
    with pytest.raises(TransferError, match=r"missing encoder\.blocks\.1\.attn\.v_bias, mask_token"):
        opened_with(without)
    with pytest.raises(TransferError, match=r"unexpected encoder\.pos_embed"):
        opened_with({**state, "encoder.pos_embed": torch.zeros(1, 144, 96)})
    with pytest.raises(TransferError, match=r"of another shape decoder\.head\.bias \(7,\) for \(384,\)"):
        opened_with({**state, "decoder.head.bias": torch.zeros(7)})
    cut = {name: value for name, value in state.items() if not name.startswith("encoder.blocks.2.")}
    with pytest.raises(CheckpointError, match="of no known size: width 96, 2 blocks"):
        opened_with(cut)
    shallow = {name: value for name, value in state.items() if not name.startswith("decoder.blocks.1.")}
    with pytest.raises(TransferError, match=r"missing decoder\.blocks\.1\."):
        opened_with(shallow)
    with pytest.raises(CheckpointError, match="17 frames of 48 px do not divide"):
        open_weights(path, 17, 48)


def their_config(**other: Any) -> VideoMAEConfig:
    fields = huggingface.config_json("pretrainer", PretrainerConfig(TINY, 8, 48))
    return VideoMAEConfig(**{k: v for k, v in fields.items() if k not in ("architectures", "dtype")} | other)


def test_what_transformers_saves_is_read(tmp_path: Path) -> None:
    hf = VideoMAEForPreTraining(their_config(use_mean_pooling=False, layer_norm_eps=1e-12, norm_pix_loss=False))
    hf.save_pretrained(tmp_path / "pretraining")
    opened = open_weights(tmp_path / "pretraining")
    assert opened.weights.config == PretrainerConfig(TINY, 8, 48)
    assert opened.notes == (
        "layer_norm_eps 1e-12 is not taken over: here it is 1e-06, as in the official code",
        "norm_pix_loss false is not taken over: here what is predicted is always normalised",
    )
    assert same(huggingface.to_their_names(opened.weights.tensors), hf.state_dict())

    hf = VideoMAEForVideoClassification(their_config(use_mean_pooling=True, id2label=dict(enumerate(NAMES))))
    hf.save_pretrained(tmp_path / "classification")
    opened = open_weights(tmp_path / "classification")
    assert opened.weights.config == CLASSIFIER
    assert same(huggingface.to_their_names(opened.weights.tensors), hf.state_dict())

    hf = VideoMAEForVideoClassification(their_config(use_mean_pooling=True, num_labels=3))
    hf.save_pretrained(tmp_path / "nameless")
    with pytest.raises(CheckpointError, match="head of 3 classes, but no names"):
        open_weights(tmp_path / "nameless")
    VideoMAEModel(their_config(use_mean_pooling=True)).save_pretrained(tmp_path / "bare")
    with pytest.raises(TransferError, match=r"missing fc_norm\.bias, fc_norm\.weight$"):
        open_weights(tmp_path / "bare")
    described = json.loads((tmp_path / "classification" / "config.json").read_text())
    other = {"hidden_act": "relu", "image_size": [48, 96]}
    (tmp_path / "classification" / "config.json").write_text(json.dumps(described | other))
    with pytest.raises(CheckpointError, match=r"hidden_act = 'relu' instead of 'gelu', image_size = \[48, 96\]"):
        open_weights(tmp_path / "classification")


def test_earlier_names_and_those_of_opengvlab_are_read(tmp_path: Path) -> None:
    model = classifier()
    older = {
        name.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): tensor.contiguous()
        for name, tensor in huggingface.to_their_names(model.state_dict()).items()
    }
    assert "videomae.encoder.layer.2.attention.attention.v_bias" in older
    torch.save(older, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(huggingface.config_json("classifier", CLASSIFIER)))
    assert same(model.state_dict(), open_weights(tmp_path).weights.tensors)

    features = roughened(FeatureExtractor(FeatureConfig(TINY, 8, 48)))
    folder = tmp_path / "VideoMAEv2-Base"
    folder.mkdir()
    save_file({f"model.{name}": tensor for name, tensor in features.state_dict().items()}, folder / "model.safetensors")
    described = {"model_type": "VideoMAEv2_Base", "model_config": {"img_size": 48, "num_frames": 8, "num_classes": 0}}
    (folder / "config.json").write_text(json.dumps(described))
    opened = open_weights(folder)
    assert (opened.layout, opened.weights.config) == ("official", features.config)
    assert same(features.state_dict(), opened.weights.tensors)
    with pytest.raises(CheckpointError, match="transformers has no class"):
        write_huggingface(tmp_path / "out", opened.weights)


def test_convert_goes_through_all_layouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    torch.save(wrapped(model.state_dict()), tmp_path / "k710.pth")
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")

    def convert(source: str, out: str, to: str, *more: str) -> int:
        return main(["convert", str(tmp_path / source), str(tmp_path / out), "--to", to, *more])

    clip = ("--frames", "8", "--image", "48")
    assert convert("k710.pth", "a.safetensors", "reelhouse", *clip) == 1
    assert "head of 3 classes, but no names of classes are given" in capsys.readouterr().err
    names = ("--classes", str(tmp_path / "names.txt"))
    assert convert("k710.pth", "a.safetensors", "reelhouse", *clip, *names) == 0
    printed = capsys.readouterr().out
    assert "official, classifier, size tiny, 3 classes" in printed and "left out: optimizer, epoch, args" in printed
    assert read_weights(tmp_path / "a.safetensors").config == CLASSIFIER
    assert convert("a.safetensors", "hf", "huggingface") == 0
    assert "whatever the configuration says" in capsys.readouterr().out
    assert convert("hf", "b.pth", "official") == 0
    assert "and the class names" in capsys.readouterr().out
    assert same(model.state_dict(), torch.load(tmp_path / "b.pth", weights_only=True)["model"])

    assert convert("hf", "b.pth", "official") == 1
    assert "is there already" in capsys.readouterr().err
    assert convert("none", "c.pth", "reelhouse") == 1  # before anything is read
    assert "ends in .safetensors" in capsys.readouterr().err
    for option, number in (("--frames", "-2"), ("--image", "0")):
        with pytest.raises(SystemExit):
            convert("a.safetensors", "c.safetensors", "reelhouse", option, number)
        assert f"{option}: '{number}' is not a whole number of 1 or more" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="0 frames of 48 px do not divide"):
        open_weights(tmp_path / "a.safetensors", 0)
    assert convert("a.safetensors", "c.safetensors", "reelhouse", "--frames", "16") == 0
    assert read_weights(tmp_path / "c.safetensors").config == replace(CLASSIFIER, frames=16)
    (tmp_path / "names.txt").write_text("drift\ndrift\nturn")
    assert convert("k710.pth", "d.safetensors", "reelhouse", *clip, *names) == 1
    assert "come twice: drift" in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("drift\nturn")
    assert convert("a.safetensors", "d.safetensors", "reelhouse", *names) == 1
    assert "has a head of 3 classes, but 2 names" in capsys.readouterr().err
    (tmp_path / "names.txt").unlink()
    assert convert("a.safetensors", "d.safetensors", "reelhouse", *names) == 1
    assert "names.txt cannot be read: No such file or directory. Name a file with" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))
