"""Weights from stage to stage: heads by class name, features, and clips of another size and length."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up_models import random_clips, roughened

from model.classifier import Classifier, ClassifierConfig
from model.features import FeatureConfig, FeatureExtractor
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import Size
from model.transfer import from_classifier, from_pretrainer, transfer
from model.weights import write_weights

SMALL = Size("small", 32, 2, 2, 64, 8, decoder_dim=16, decoder_heads=2, decoder_hidden=64, decoder_depth=1)


@pytest.mark.parametrize("classes", [400, 600, 700])
def test_a_head_of_710_classes_gives_the_heads_of_the_others(classes: int) -> None:
    """Row for row what the official maps, lists of row numbers, gather."""
    names = [f"class {i}" for i in range(710)]
    official_map = random.Random(classes).sample(range(710), classes)
    source = roughened(Classifier(ClassifierConfig(SMALL, 4, 16, tuple(names))))
    wanted = tuple(names[row] for row in official_map)
    model = Classifier(ClassifierConfig(SMALL, 4, 16, wanted))
    report = from_classifier(model, source.state_dict(), names, "here")
    assert f"{classes} of the source's 710" in report.head
    frames = random_clips(2, 4, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(frames), source(frames)[:, official_map])


def test_features_come_out_of_every_kind_of_model(tmp_path: Path) -> None:
    """A classifier's are what its head sees; the report names what else became of tensors."""
    config = FeatureConfig(SMALL, 4, 16)
    frames = random_clips(2, 4, 16)
    classifier = roughened(Classifier(ClassifierConfig(SMALL, 4, 16, ("a", "b"))))
    write_weights(tmp_path / "classifier.safetensors", classifier.kind, classifier.config, classifier.state_dict())
    features = FeatureExtractor(config)
    report = transfer(features, tmp_path / "classifier.safetensors")
    assert (report.dropped, report.fresh, report.head) == (("head.bias", "head.weight"), (), "dropped (2 classes)")
    with torch.no_grad():
        torch.testing.assert_close(classifier.head(features(frames)), classifier(frames))

    again = Classifier(ClassifierConfig(SMALL, 4, 16, ("a", "b")))
    write_weights(tmp_path / "features.safetensors", features.kind, config, features.state_dict())
    report = transfer(again, tmp_path / "features.safetensors")
    assert report.fresh == ("head.weight", "head.bias") and "lacks 2 of 2 classes" in report.head
    assert torch.equal(again.fc_norm.weight, classifier.fc_norm.weight)

    pretrainer = roughened(Pretrainer(PretrainerConfig(SMALL, 4, 16)))
    report = from_pretrainer(features, pretrainer.state_dict(), "here")
    assert report.fresh == ("fc_norm.weight", "fc_norm.bias") and "encoder.norm.weight" in report.dropped
    assert torch.equal(features.blocks[1].mlp.fc1.bias, pretrainer.encoder.blocks[1].mlp.fc1.bias)


def slow_position(token: int, place: int, dim: int) -> float:
    angle = token / 10000 ** (2 * (place // 2) / dim)
    return math.sin(angle) if place % 2 == 0 else math.cos(angle)


@pytest.mark.parametrize(
    ("patch", "frames", "image", "tokens"), [(16, 32, 224, 3136), (14, 64, 266, 11552), (16, 32, 384, 9216)]
)
def test_other_clips_take_the_weights_and_have_their_own_positions(
    patch: int, frames: int, image: int, tokens: int
) -> None:
    """Sizes of the paper at which the released script breaks: it reshapes a table of 16 frames of 224 px."""
    size = replace(SMALL, patch=patch, depth=1)
    source = Classifier(ClassifierConfig(size, 16, 224, ("a", "b"), init_scale=1.0))
    model = Classifier(ClassifierConfig(size, frames, image, ("a", "b")))
    report = from_classifier(model, source.state_dict(), ("a", "b"), "here")
    assert report.fresh == report.dropped == ()
    assert model.positions_ND.shape == (tokens, size.dim)
    for token in (0, 1, 1567, tokens - 1):
        expected = [slow_position(token, place, size.dim) for place in range(size.dim)]
        torch.testing.assert_close(model.positions_ND[token], torch.tensor(expected))
    # Token by token, as far as both reach, the larger grid's positions are the smaller one's.
    shared = len(source.positions_ND)
    assert torch.equal(model.positions_ND[:shared], source.positions_ND)
    with torch.no_grad():
        assert model(random_clips(1, frames, image)).isfinite().all()
