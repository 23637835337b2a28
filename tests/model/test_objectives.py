"""Which of a step's randomness a batch gets."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from small_training import CPU, classification, pretraining, stream

from loaders.order import draws
from model.objectives import Draw


@pytest.mark.parametrize(("ranks", "parts", "clips"), [(1, 1, 12), (3, 2, 2), (2, 1, 6), (1, 4, 3)])
def test_a_clip_has_the_same_rows_however_a_step_is_dealt(ranks: int, parts: int, clips: int) -> None:
    """The order of a step's 12 clips, of two views each, is that of the loaders."""
    rows_of = {}
    for rank in range(ranks):
        order = draws([1.0] * 40, seed=3, rank=rank, world=ranks)
        for part in range(parts):
            draw = Draw(0, 5, rank, ranks, part, parts)
            assert draw.all_rows(2 * clips) == 24
            rows = draw.own_rows(2 * clips, clips, CPU).view(clips, 2).tolist()
            for drawn, own in zip(islice(order, clips), rows, strict=True):
                rows_of[drawn.position] = own
    assert rows_of == {position: [2 * position, 2 * position + 1] for position in range(12)}


def test_randomness_differs_by_seed_step_and_purpose_and_not_by_rank_or_part() -> None:
    draw = Draw(seed=1, step=2, rank=0, ranks=2)
    others = [draw, replace(draw, seed=2), replace(draw, step=3)]
    numbers = {torch.rand(1, generator=other.generator("masks", CPU)).item() for other in others}
    numbers.add(torch.rand(1, generator=draw.generator("dropout", CPU)).item())
    assert len(numbers) == 4
    elsewhere = replace(draw, rank=1, ranks=4, part=1, parts=3)
    first, second = (torch.rand(9, generator=one.generator("masks", CPU)) for one in (draw, elsewhere))
    assert torch.equal(first, second)


@pytest.mark.parametrize("make", [pretraining, classification])
def test_a_loss_is_that_of_its_part_of_the_step(make: type) -> None:
    """Two parts of a step lose on average what the whole loses, and the second one not what the first would."""
    objective = make()
    whole = objective.loss(next(stream(clips=8, share=1.0)), Draw(0, 1, 0, 1), CPU)
    batches = list(islice(stream(clips=4, share=1.0), 2))
    parts = [objective.loss(batch, Draw(0, 1, 0, 1, part, 2), CPU) for part, batch in enumerate(batches)]
    torch.testing.assert_close(sum(parts) / 2, whole, rtol=1e-5, atol=0)
    assert objective.loss(batches[1], Draw(0, 1, 0, 1, 0, 2), CPU) != parts[1]
