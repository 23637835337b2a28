"""The classifier, mixing, drop path, and weights from one stage into the next."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model import cubes
from model.blocks import drop_path_scales
from model.classifier import Classifier, ClassifierConfig
from model.objectives import Classification, Draw, soft_targets
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import Size
from model.transfer import TransferError, from_classifier, from_pretrainer

SMALL = Size("small", 32, 3, 2, 64, 8, decoder_dim=16, decoder_heads=2, decoder_hidden=64, decoder_depth=1)
NAMES = ("drift", "zoom", "turn", "shake")
CONFIG = ClassifierConfig(SMALL, 4, 16, NAMES)


def clips(batch: int) -> Tensor:
    return torch.randint(0, 256, (batch, 4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Batch:
    def __init__(self, class_ids: list[int], share: float = 1.0) -> None:
        self.frames = clips(len(class_ids))
        self.class_ids = torch.tensor(class_ids)
        self.share = share
        self.clip_ids = tuple(map(str, range(len(class_ids))))


def test_a_fresh_head_gives_nearly_equal_odds() -> None:
    with torch.no_grad():
        logits = Classifier(CONFIG)(clips(3))
    assert logits.shape == (3, 4)
    assert 0 < logits.abs().max() < 0.01


def test_the_encoder_is_the_pretrainer_s() -> None:
    """With every cube visible, the classifier's tokens are those of the pre-training encoder."""
    pretrainer = Pretrainer(PretrainerConfig(SMALL, 4, 16))
    model = Classifier(replace(CONFIG, init_scale=1.0))
    from_pretrainer(model, pretrainer.state_dict(), "here")
    tokens = CONFIG.grid.tokens
    cubes_BNK = cubes.to_cubes(clips(2), SMALL, CONFIG.grid)
    with torch.no_grad():
        pretrainer.encoder.norm = torch.nn.Identity()
        encoded = pretrainer.encoder(cubes_BNK, torch.arange(tokens).expand(2, -1))
        torch.testing.assert_close(model(clips(2)), model.head(model.fc_norm(encoded.mean(1))))


def test_drop_path_rises_linearly_and_keeps_the_mean() -> None:
    scales = drop_path_scales(5, 40_000, 0.4, torch.Generator().manual_seed(0))
    assert torch.equal(scales[0], torch.ones(2, 40_000))
    dropped = (scales == 0).float().mean((1, 2))
    assert torch.allclose(dropped, torch.linspace(0, 0.4, 5), atol=0.01)
    assert torch.allclose(scales.mean((1, 2)), torch.ones(5), atol=0.02)


def test_dropped_branches_leave_the_clip_alone() -> None:
    model = Classifier(CONFIG)
    tokens = torch.randn(2, 8, 32)
    scales = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    with torch.no_grad():
        out = model.blocks[0](tokens, scales)
        assert torch.equal(out[0], tokens[0])
        torch.testing.assert_close(out[1], model.blocks[0](tokens)[1])


def test_targets_of_mixed_clips_are_shared_out_with_the_row_opposite() -> None:
    wanted = soft_targets(torch.tensor([0, 1, 2]), classes=4, smoothing=0.1, share=0.7)
    on, off = 0.9, 0.025
    expected = [[on * 0.7, 0, on * 0.3, 0], [0, on, 0, 0], [on * 0.3, 0, on * 0.7, 0]]
    torch.testing.assert_close(wanted, torch.tensor(expected) + off)


def test_the_loss_of_mixed_clips_is_that_of_both_classes() -> None:
    model = Classifier(replace(CONFIG, init_scale=50.0))
    batch = Batch([0, 3, 1, 1], share=0.7)
    loss = Classification(model, label_smoothing=0.1).loss(batch, Draw(0, 0, 0, 1), torch.device("cpu"))
    logits = model(batch.frames)
    own, others = (
        torch.nn.functional.cross_entropy(logits, ids, label_smoothing=0.1)
        for ids in (batch.class_ids, batch.class_ids.flip(0))
    )
    torch.testing.assert_close(loss, 0.7 * own + 0.3 * others)


def test_smoothed_loss_is_torch_s() -> None:
    model = Classifier(replace(CONFIG, init_scale=50.0))
    batch = Batch([0, 3, 1])
    loss = Classification(model, label_smoothing=0.1).loss(batch, Draw(0, 0, 0, 1), torch.device("cpu"))
    expected = torch.nn.functional.cross_entropy(model(batch.frames), batch.class_ids, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("bad", [-1, 4])
def test_a_clip_without_a_class_stops_training(bad: int) -> None:
    with pytest.raises(ValueError, match=rf"step 7: class ids \[{bad}\].*4 classes"):
        Classification(Classifier(CONFIG)).loss(Batch([0, bad]), Draw(0, 7, 0, 1), torch.device("cpu"))


def test_transfer_from_pretraining_says_what_it_drops_and_what_is_fresh() -> None:
    pretrainer = Pretrainer(PretrainerConfig(SMALL, 4, 16))
    weights = pretrainer.state_dict()
    model = Classifier(CONFIG)
    report = from_pretrainer(model, weights, "here")
    assert set(report.fresh) == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
    assert {"mask_token", "encoder.norm.weight", "encoder.norm.bias", "decoder.head.bias"} <= set(report.dropped)
    assert len(report.loaded) + len(report.dropped) == len(weights)
    assert set(report.loaded) | set(report.fresh) == set(model.state_dict())
    for name in report.loaded:
        assert torch.equal(model.state_dict()[name], weights[f"encoder.{name}"])
    assert "encoder.norm.weight" in str(report)
    assert "fc_norm.weight" in str(report)


def test_transfer_refuses_what_does_not_fit_and_names_it() -> None:
    weights = Pretrainer(PretrainerConfig(SMALL, 4, 16)).state_dict()
    model = Classifier(CONFIG)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    without = {name: value for name, value in weights.items() if name != "encoder.blocks.1.attn.q_bias"}
    with pytest.raises(TransferError, match=r"missing blocks\.1\.attn\.q_bias"):
        from_pretrainer(model, without, "here")
    with pytest.raises(TransferError, match="unexpected surprise"):
        from_pretrainer(model, {**weights, "surprise": torch.zeros(1)}, "here")
    with pytest.raises(TransferError, match=r"unexpected blocks\.3\."):
        from_pretrainer(model, {**weights, "encoder.blocks.3.norm1.bias": torch.zeros(32)}, "here")
    with pytest.raises(TransferError, match=r"of another shape patch_embed\.proj\.bias \(7,\) for \(32,\)"):
        from_pretrainer(model, {**weights, "encoder.patch_embed.proj.bias": torch.zeros(7)}, "here")
    with pytest.raises(TransferError, match=r"unexpected head\.bias"):
        from_pretrainer(model, {**weights, "encoder.head.bias": torch.zeros(4)}, "here")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_head_follows_the_class_names() -> None:
    source = Classifier(replace(CONFIG, init_scale=1.0))
    weights = source.state_dict()
    chosen = Classifier(replace(CONFIG, class_names=("turn", "drift")))
    report = from_classifier(chosen, weights, NAMES, "here")
    assert torch.equal(chosen.head.weight, source.head.weight[[2, 0]])
    assert torch.equal(chosen.head.bias, source.head.bias[[2, 0]])
    assert "2 of the source's 4" in report.head
    assert report.fresh == ()

    same = Classifier(CONFIG)
    assert "kept" in from_classifier(same, weights, NAMES, "here").head
    assert all(torch.equal(value, weights[name]) for name, value in same.state_dict().items())


def test_a_head_with_a_new_class_starts_fresh_and_says_so() -> None:
    source = Classifier(replace(CONFIG, init_scale=1.0))
    model = Classifier(replace(CONFIG, class_names=("turn", "jump")))
    before = model.head.weight.clone()
    report = from_classifier(model, source.state_dict(), NAMES, "here")
    assert torch.equal(model.head.weight, before)
    assert report.fresh == ("head.weight", "head.bias")
    assert "lacks 1 of 2 classes" in report.head
    assert "'jump'" in report.head
    assert torch.equal(model.fc_norm.weight, source.fc_norm.weight)
