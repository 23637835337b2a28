"""Our files of weights: the configuration inside, and clear refusals."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model.classifier import Classifier, ClassifierConfig
from model.features import FeatureConfig, FeatureExtractor
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import Size
from model.transfer import TransferError, filled, load_classifier, load_pretrainer
from model.weights import WEIGHTS, CheckpointError, read_weights, write_weights

SMALL = Size("small", 32, 2, 2, 64, 8, decoder_dim=16, decoder_heads=2, decoder_hidden=64, decoder_depth=1)


@pytest.mark.parametrize(
    "model",
    [
        Pretrainer(PretrainerConfig(SMALL, 4, 16, 0.75, 0.25, "frame")),
        Classifier(ClassifierConfig(SMALL, 4, 16, ("Tanz, übung", "zoom"), drop_path=0.1)),
        FeatureExtractor(FeatureConfig(SMALL, 4, 16)),
    ],
)
def test_a_file_says_all_that_its_model_needs(
    model: Pretrainer | Classifier | FeatureExtractor, tmp_path: Path
) -> None:
    path = tmp_path / "some.safetensors"
    tmp_path.chmod(0o750)
    write_weights(path, model.kind, model.config, model.state_dict())
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["reelhouse"])["kind"] == model.kind
    read = read_weights(path)
    assert (read.kind, read.config) == (model.kind, model.config)
    again = filled(read)
    assert type(again) is type(model)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_what_is_no_file_of_ours_is_refused_with_a_remedy(tmp_path: Path) -> None:
    model = Pretrainer(PretrainerConfig(SMALL, 4, 16))
    whole = tmp_path / WEIGHTS
    write_weights(whole, model.kind, model.config, model.state_dict())
    with pytest.raises(CheckpointError, match="holds a pretrainer, not a classifier"):
        load_classifier(whole)
    assert load_pretrainer(tmp_path).config == model.config  # a checkpoint's folder too

    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors cannot be read"):
        read_weights(tmp_path / "cut.safetensors")
    save_file(model.state_dict(), tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match=r"foreign\.safetensors is not of Reelhouse\. Convert it"):
        read_weights(tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        read_weights(tmp_path / "none.safetensors")
    older = tmp_path / "step-000010"
    older.mkdir()
    torch.save(model.state_dict(), older / "weights.pt")
    with pytest.raises(CheckpointError, match=r"step-000010 is a checkpoint of an earlier version.*train again"):
        read_weights(older)

    # The folder of a run, and a checkpoint of several models, whose weights lie deeper.
    runs = [tmp_path / "run" / "checkpoints" / step / name for step in ("step-999999", "step-1000000") for name in "ab"]
    for folder in runs:
        folder.mkdir(parents=True)
        write_weights(folder / WEIGHTS, model.kind, model.config, model.state_dict())
    with pytest.raises(CheckpointError, match=r"folder of a run\. Give its newest checkpoint: .*/step-1000000$"):
        read_weights(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"step-1000000 holds several models\. Give the folder of one: a, b$"):
        read_weights(runs[-1].parent)
    with pytest.raises(CheckpointError, match=r"run/checkpoints has no weights\.safetensors: it is no checkpoint"):
        read_weights(tmp_path / "run" / "checkpoints")

    deeper = replace(model.config, size=replace(SMALL, depth=3))
    write_weights(whole, model.kind, deeper, model.state_dict())
    with pytest.raises(TransferError, match=r"missing encoder\.blocks\.2\.attn\.proj\.bias"):
        load_pretrainer(whole)


CONFIG = asdict(ClassifierConfig(SMALL, 4, 16, ("a", "b")))


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("nonsense", "JSONDecodeError"),
        ("[1]", "TypeError"),
        ("{}", "KeyError: 'kind'"),
        (json.dumps({"kind": "detector", "config": CONFIG}), "KeyError: 'detector'"),
        (json.dumps({"kind": "classifier", "config": {"frames": 4}}), "KeyError: 'class_names'"),
        (json.dumps({"kind": "classifier", "config": CONFIG | {"bits": 8}}), "TypeError: .*bits"),
        (json.dumps({"kind": "classifier", "config": CONFIG | {"frames": "4"}}), "TypeError"),
        (json.dumps({"kind": "classifier", "config": CONFIG | {"frames": -2}}), "-2 frames of 16 px do not divide"),
    ],
)
def test_a_header_of_another_version_is_refused(header: str, why: str, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "odd.safetensors", {"reelhouse": header})
    said = rf"odd\.safetensors: its header is not one that this version writes \(.*{why}.*Fetch or write it again$"
    with pytest.raises(CheckpointError, match=said):
        read_weights(tmp_path / "odd.safetensors")
