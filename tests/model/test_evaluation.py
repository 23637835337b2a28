"""Scores over views, and the sheet of reconstructions."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from model import cubes
from model.classifier import Classifier, ClassifierConfig
from model.evaluation import EvaluationError, evaluate
from model.pictures import GAP_PX, HIDDEN_GREY, reconstruct, reconstruction_sheet
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import Size

SMALL = Size("small", 32, 1, 2, 64, 8, decoder_dim=16, decoder_heads=2, decoder_hidden=64, decoder_depth=1)
NAMES = tuple("abcdefg")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    frames: Tensor
    class_ids: Tensor
    clip_ids: tuple[str, ...]


def rows(clip_ids: list[str], class_ids: list[int], per_batch: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (len(clip_ids), 4, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return [
        Batch(frames[i : i + per_batch], torch.tensor(class_ids[i : i + per_batch]), tuple(clip_ids[i : i + per_batch]))
        for i in range(0, len(clip_ids), per_batch)
    ]


def classifier() -> Classifier:
    config = ClassifierConfig(SMALL, 4, 16, NAMES, init_scale=200.0)
    return Classifier(config, torch.Generator().manual_seed(1))


def test_views_are_averaged_over_batch_borders() -> None:
    clips = [f"clip{i}" for i in range(9)]
    of_clip = [0, 1, 2, 3, 3, 3, 4, 5, 3]
    clip_ids = [clip for clip in clips for _ in range(3)]
    class_ids = [class_id for class_id in of_clip for _ in range(3)]
    whole = rows(clip_ids, class_ids, len(clip_ids))
    model = classifier()
    result = evaluate(model, rows(clip_ids, class_ids, 4), clips, CPU)

    with torch.no_grad():
        mean = model(whole[0].frames).softmax(-1).view(9, 3, -1).mean(1)
    assert [p.clip_id for p in result.predictions] == clips
    np.testing.assert_allclose(np.stack([p.probabilities for p in result.predictions]), mean.numpy(), rtol=1e-4)
    right = mean.argmax(1) == torch.tensor(of_clip)
    assert result.top1 == pytest.approx(right.float().mean().item())
    best = mean.topk(5).indices
    assert result.top5 == pytest.approx(np.mean([c in row for c, row in zip(of_clip, best.tolist(), strict=True)]))
    assert result.confusion.sum(1).tolist() == [1, 1, 1, 4, 1, 1, 0]
    assert result.chance_uniform == pytest.approx(1 / 7)
    assert result.chance_largest == pytest.approx(4 / 9)
    assert np.isnan(result.per_class[6])
    assert result.per_class[3] == result.confusion[3, 3] / 4


@pytest.mark.parametrize(
    ("clip_ids", "class_ids", "expected", "message"),
    [
        (["a", "a", "b", "b"], [0, 0, 1, 1], ["a", "b", "c"], r"1 not scored \(c"),
        (["a", "a", "b", "b"], [0, 0, 1, 1], ["a"], r"1 not expected \(b"),
        (["a", "b", "b", "a"], [0, 1, 1, 0], ["a", "b"], r"1 scored more than once \(a"),
        (["a", "a", "b", "b"], [0, 0, -1, -1], ["a", "b"], r"1 without a class of the model \(b"),
        (["a", "a", "b"], [0, 0, 1], ["a", "b"], r"1 in another number of views \(b"),
        ([], [], [], "no clips"),
    ],
)
def test_every_clip_exactly_once(clip_ids: list[str], class_ids: list[int], expected: list[str], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluate(classifier(), rows(clip_ids, class_ids, 2), expected, CPU)


def test_reconstruction_shows_visible_cubes_as_they_are() -> None:
    config = PretrainerConfig(SMALL, 4, 32, tube_ratio=0.75)
    model = Pretrainer(config)
    frames = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    masked, rebuilt = reconstruct(model, frames, torch.Generator().manual_seed(0))
    shown = (masked == frames).all(-1)
    assert shown.float().mean() == pytest.approx(0.25, abs=0.01)
    assert (masked[~shown] == HIDDEN_GREY).all()
    assert torch.equal(rebuilt[shown], frames[shown])
    assert not torch.equal(rebuilt, frames)


def test_a_perfect_model_gives_the_clip_back(monkeypatch: pytest.MonkeyPatch) -> None:
    config = PretrainerConfig(SMALL, 4, 32, tube_ratio=0.75)
    model = Pretrainer(config)

    def know_all(cubes_BNK: Tensor, visible_BV: Tensor, decoded_BM: Tensor) -> Tensor:
        return cubes.targets(cubes.take(cubes_BNK, decoded_BM))

    monkeypatch.setattr(model, "forward", know_all)
    frames = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    _, rebuilt = reconstruct(model, frames, torch.Generator().manual_seed(0))
    assert torch.equal(rebuilt, frames)


def test_sheet_has_three_rows_a_clip() -> None:
    model = Pretrainer(PretrainerConfig(SMALL, 4, 32, tube_ratio=0.75))
    frames = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    sheet = reconstruction_sheet(model, frames, torch.Generator().manual_seed(0), columns=2)
    cell = 32 + GAP_PX
    assert sheet.shape == (6 * cell - GAP_PX, 2 * cell - GAP_PX, 3)
    assert sheet.dtype == np.uint8
    assert np.array_equal(sheet[:32, :32], frames[0, 0].numpy())
    assert np.array_equal(sheet[3 * cell : 3 * cell + 32, cell:], frames[1, 3].numpy())
    assert (sheet[32:cell] == 255).all()
