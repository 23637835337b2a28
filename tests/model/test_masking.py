"""The masks against a slow generator of whole boolean maps, written from the published description."""

import itertools

import pytest
import torch

from model.masking import CELL, DECODER_MASKS, DecoderMask, combine, covering, draw_masks, running_cells, tube_visible
from model.pretrainer import PretrainerConfig
from model.sizes import SIZES, Grid


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_running_cell(grid: Grid, ratio: float, start: int) -> list[list[list[bool]]]:
    """True where the decoder does not look: a 2×2 cell whose queue turns by one place before each time step."""
    hidden = int(4 * ratio)
    queue = [True] * hidden + [False] * (4 - hidden)
    maps = []
    for t in range(grid.t):
        turn = (start + t + 1) % 4
        turned = queue[turn:] + queue[:turn]
        cell = [turned[:2], turned[2:]]
        maps.append([[cell[y % 2][x % 2] for x in range(grid.w)] for y in range(grid.h)])
    return maps


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("grid", [Grid(8, 14, 14), Grid(8, 16, 16), Grid(3, 2, 6)])
def test_running_cells_equal_the_slow_maps(grid: Grid, ratio: float) -> None:
    cells = running_cells(grid, ratio)
    for start in range(CELL):
        hidden = torch.tensor(slow_running_cell(grid, ratio, start)).flatten()
        assert cells[start].tolist() == (~hidden).nonzero().flatten().tolist()


def test_first_cells_of_a_half_mask_are_the_measured_ones() -> None:
    # Seen in the released code for start 0 at ratio 0.5, in time order; 1 is hidden.
    hidden = torch.ones(4, 4, dtype=torch.int)
    hidden.view(-1)[running_cells(Grid(4, 2, 2), 0.5)[0]] = 0
    assert hidden.tolist() == [[1, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("size", "visible", "decoded", "counted"), [("B", 160, 784, 704), ("S", 160, 784, 704), ("g", 208, 1024, 920)]
)
def test_counts_are_those_of_the_released_code(size: str, visible: int, decoded: int, counted: int) -> None:
    masks = draw_masks(5, SIZES[size].grid(16, 224), 0.9, "running_cell", 0.5, generator())
    assert masks.visible_BV.shape == (5, visible)
    assert masks.decoded_BM.shape == (5, decoded)
    assert masks.counted_BM.sum(1).tolist() == [counted] * 5


@pytest.mark.parametrize("grid", [Grid(8, 6, 6), Grid(2, 14, 14), Grid(5, 4, 8)])
def test_tubes_keep_the_same_places_in_every_time_step(grid: Grid) -> None:
    kept = grid.per_frame - int(0.9 * grid.per_frame)
    visible_BV = tube_visible(16, grid, 0.9, generator())
    assert (visible_BV.diff() > 0).all()
    for tokens in visible_BV.tolist():
        by_time = [[n % grid.per_frame for n in tokens if n // grid.per_frame == t] for t in range(grid.t)]
        assert len(by_time[0]) == kept
        assert all(places == by_time[0] for places in by_time)


def test_tubes_are_uniform_over_places_and_independent_of_each_other() -> None:
    grid = Grid(1, 4, 5)
    visible_BV = tube_visible(20_000, grid, 0.8, generator())
    share = visible_BV.flatten().bincount() / 20_000
    assert torch.allclose(share, torch.full((20,), 0.2), atol=0.015)
    pairs = {frozenset(pair) for tokens in visible_BV[:4000].tolist() for pair in itertools.combinations(tokens, 2)}
    assert len(pairs) == 20 * 19 // 2


def test_all_four_phases_come_about_as_often() -> None:
    grid = Grid(8, 4, 4)
    cells = running_cells(grid, 0.5).tolist()
    masks = draw_masks(4000, grid, 0.9, "running_cell", 0.5, generator())
    drawn = [cells.index(row) for row in masks.decoded_BM.tolist()]
    assert torch.allclose(torch.tensor(drawn).bincount(minlength=4) / 4000, torch.full((4,), 0.25), atol=0.04)


def test_counted_are_exactly_the_decoded_that_are_not_visible() -> None:
    masks = draw_masks(8, Grid(6, 4, 4), 0.75, "running_cell", 0.5, generator())
    for visible, decoded, counted in zip(masks.visible_BV, masks.decoded_BM, masks.counted_BM, strict=True):
        assert counted.tolist() == [n not in visible.tolist() for n in decoded.tolist()]
    again = combine(masks.visible_BV, masks.decoded_BM, Grid(6, 4, 4))
    assert torch.equal(again.counted_BM, masks.counted_BM)


def test_same_seed_same_masks() -> None:
    first, second = (draw_masks(3, Grid(8, 6, 6), 0.9, "running_cell", 0.5, generator(7)) for _ in range(2))
    assert torch.equal(first.visible_BV, second.visible_BV)
    assert torch.equal(first.decoded_BM, second.decoded_BM)


def test_without_a_decoder_mask_all_that_is_unseen_is_decoded_and_counted() -> None:
    grid = SIZES["B"].grid(16, 224)
    masks = draw_masks(3, grid, 0.9, "none", 0.5, generator())
    assert masks.counted_BM.all()
    for visible, decoded in zip(masks.visible_BV.tolist(), masks.decoded_BM.tolist(), strict=True):
        assert decoded == sorted(set(range(grid.tokens)) - set(visible))
    assert masks.decoded_BM.shape == (3, 1408)


@pytest.mark.parametrize(("decoder_mask", "part"), [("frame", 196), ("random", 1)])
def test_frame_and_random_masks_decode_half_of_their_parts_drawn_evenly(decoder_mask: DecoderMask, part: int) -> None:
    """As many tokens as a running cell of the same ratio, which is what makes the ablation a fair one."""
    grid = Grid(8, 14, 14)
    masks = draw_masks(500, grid, 0.9, decoder_mask, 0.5, generator())
    assert masks.decoded_BM.shape == (500, 784)
    assert (masks.decoded_BM.diff() > 0).all()
    decoded_BN = torch.zeros(500, grid.tokens).scatter_(1, masks.decoded_BM, 1.0)
    assert (decoded_BN.unflatten(1, (-1, part)).float().mean(-1) % 1 == 0).all()
    assert (decoded_BN.mean(0) - 0.5).abs().max() < 0.12
    assert len({tuple(row) for row in masks.decoded_BM.tolist()}) > 65  # of 70 ways to take 4 of 8 steps
    again = combine(masks.visible_BV, masks.decoded_BM, grid)
    assert torch.equal(again.counted_BM, masks.counted_BM)


@pytest.mark.parametrize("decoder_mask", DECODER_MASKS)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_masks_for_pictures_cover_all_that_is_unseen(decoder_mask: DecoderMask, ratio: float) -> None:
    grid = Grid(5, 4, 6)
    visible_BV = tube_visible(2, grid, 0.75, generator())
    passes = covering(visible_BV, grid, decoder_mask, ratio, generator())
    trained = draw_masks(2, grid, 0.75, decoder_mask, ratio, generator()).decoded_BM.shape
    assert all(decoded_BM.shape == trained for decoded_BM in passes)
    for clip in range(2):
        decoded = {token for decoded_BM in passes for token in decoded_BM[clip].tolist()}
        assert decoded | set(visible_BV[clip].tolist()) == set(range(grid.tokens))


def test_what_cannot_be_masked_is_refused() -> None:
    with pytest.raises(ValueError, match="even sides"):
        running_cells(Grid(8, 7, 6), 0.5)
    with pytest.raises(ValueError, match="hides 4"):
        running_cells(Grid(8, 6, 6), 1.0)
    with pytest.raises(ValueError, match="leaves 0"):
        tube_visible(1, Grid(8, 6, 6), 1.0, generator())
    with pytest.raises(ValueError, match="decodes 8 of 8 parts"):
        draw_masks(1, Grid(8, 6, 6), 0.9, "frame", 0.1, generator())
    with pytest.raises(ValueError, match="'cell' is not one of running_cell, frame, random, none"):
        PretrainerConfig(SIZES["tiny"], 8, 48, decoder_mask="cell")  # type: ignore[arg-type]
