"""The masks of VideoMAE V2, as index tensors whose shapes depend on the grid and the ratios alone.

The encoder sees the few tokens that a *tube* leaves (the same places in every time step). What the decoder predicts is
chosen by its own mask: a *running cell* (half of every 2×2 cell, moving on with time) in VideoMAE V2; whole time steps
or single tokens in its ablation; all that the encoder does not see in VideoMAE V1. A token counts in the loss when it
is decoded and the encoder did not see it. VideoMAE V2, section 3.2, with the rounding of the released code: a mask of
``ratio`` hides ``int(ratio × places)``.

Nothing here asks a GPU for a number: shapes are known beforehand, and the host does not wait.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from model.sizes import Grid

CELL = 4
"""Places in a 2×2 cell; also the number of different running-cell masks, and their period in time."""

DecoderMask = Literal["running_cell", "frame", "random", "none"]
"""How the decoder's tokens are chosen; "none" is VideoMAE V1."""
DECODER_MASKS: tuple[DecoderMask, ...] = get_args(DecoderMask)


@dataclass(frozen=True)
class Masks:
    """What the encoder sees, what the decoder predicts and what the loss counts, for a batch of clips."""

    visible_BV: Tensor
    """int64, ascending token numbers that the encoder sees."""
    decoded_BM: Tensor
    """int64, ascending token numbers that the decoder predicts; some of them the encoder may see too."""
    counted_BM: Tensor
    """bool, which of ``decoded_BM`` the encoder did not see."""

    def rows(self, rows_R: Tensor) -> "Masks":
        """The masks of some of the clips, by their int64 numbers."""
        return Masks(self.visible_BV[rows_R], self.decoded_BM[rows_R], self.counted_BM[rows_R])


def tube_visible(batch: int, grid: Grid, ratio: float, generator: Generator) -> Tensor:
    """Tokens that a random tube leaves visible: int64 (batch, t × kept places), ascending, on the generator's device.

    Each clip keeps its own places, drawn uniformly without replacement, through all time steps.
    """
    kept = grid.per_frame - int(ratio * grid.per_frame)
    if not 0 < kept < grid.per_frame:
        raise ValueError(f"a tube ratio of {ratio} leaves {kept} of {grid.per_frame} places of a frame")
    places_BP = _shuffled(batch, grid.per_frame, generator)[:, :kept].sort(dim=1).values
    offsets_T = torch.arange(grid.t, device=generator.device) * grid.per_frame
    return (offsets_T[None, :, None] + places_BP[:, None, :]).flatten(1)


def running_cells(grid: Grid, ratio: float, device: torch.device | None = None) -> Tensor:
    """The four running-cell masks: int64 (4, tokens decoded), row ``s`` for a cell that starts at phase ``s``.

    A cell of 2×2 places hides ``int(4 × ratio)`` neighbours in its round; with every time step the round moves on by
    one. Raises ValueError for a grid with an odd side or a ratio that hides none or all of a cell.
    """
    hidden = int(CELL * ratio)
    if not 0 < hidden < CELL:
        raise ValueError(f"a running-cell ratio of {ratio} hides {hidden} of a cell's {CELL} places")
    if grid.h % 2 or grid.w % 2:
        raise ValueError(f"running cells need even sides, not {grid.h} × {grid.w} tokens")
    row = torch.arange(grid.h, device=device) % 2
    column = torch.arange(grid.w, device=device) % 2
    place_HW = 2 * row[:, None] + column[None, :]
    phase_S = torch.arange(CELL, device=device)
    time_T = torch.arange(grid.t, device=device)
    # A round that has moved on n times shows at place i what it first had at place i + n. It moves before a time step.
    turn_STHW = place_HW + (phase_S[:, None] + time_T + 1)[:, :, None, None]
    hidden_SN = (turn_STHW % CELL < hidden).flatten(1)
    # A stable sort puts the decoded ones first, ascending.
    return hidden_SN.byte().argsort(dim=1, stable=True)[:, : grid.tokens * (CELL - hidden) // CELL]


def unseen(visible_BV: Tensor, grid: Grid) -> Tensor:
    """The tokens that are not visible: int64 (B, tokens - V), ascending."""
    seen_BN = torch.zeros(len(visible_BV), grid.tokens, dtype=torch.uint8, device=visible_BV.device)
    seen_BN.scatter_(1, visible_BV, 1)
    return seen_BN.argsort(dim=1, stable=True)[:, : grid.tokens - visible_BV.shape[1]]


def draw_masks(
    batch: int, grid: Grid, tube_ratio: float, decoder_mask: DecoderMask, decoder_ratio: float, generator: Generator
) -> Masks:
    """Draw the masks of ``batch`` clips on the generator's device. ``decoder_ratio`` is the share that is not decoded.

    Raises ValueError for a ratio that hides nothing or everything, and for a grid that the mask does not fit.
    """
    visible_BV = tube_visible(batch, grid, tube_ratio, generator)
    if decoder_mask == "none":
        decoded_BM = unseen(visible_BV, grid)
    elif decoder_mask == "running_cell":
        cells_SM = running_cells(grid, decoder_ratio, generator.device)
        phase_B = torch.randint(CELL, (batch,), generator=generator, device=generator.device)
        decoded_BM = cells_SM[phase_B]
    else:
        parts, kept, width = _parts(grid, decoder_mask, decoder_ratio)
        decoded_BM = _tokens(_shuffled(batch, parts, generator)[:, :kept], width)
    return combine(visible_BV, decoded_BM, grid)


def covering(
    visible_BV: Tensor, grid: Grid, decoder_mask: DecoderMask, decoder_ratio: float, generator: Generator
) -> list[Tensor]:
    """Several decoder masks of one kind that together decode every unseen token: each int64 (B, M)."""
    batch = len(visible_BV)
    if decoder_mask == "none":
        return [unseen(visible_BV, grid)]
    if decoder_mask == "running_cell":
        return [cell_M.expand(batch, -1) for cell_M in running_cells(grid, decoder_ratio, generator.device)]
    parts, kept, width = _parts(grid, decoder_mask, decoder_ratio)
    order_BP = _shuffled(batch, parts, generator)
    # The last mask takes some parts a second time, so that it has as many as the others.
    starts = [min(start, parts - kept) for start in range(0, parts, kept)]
    return [_tokens(order_BP[:, start : start + kept], width) for start in starts]


def combine(visible_BV: Tensor, decoded_BM: Tensor, grid: Grid) -> Masks:
    """Masks from the two sets of token numbers."""
    unseen_BN = torch.ones(len(visible_BV), grid.tokens, dtype=torch.bool, device=visible_BV.device)
    unseen_BN.scatter_(1, visible_BV, False)
    return Masks(visible_BV, decoded_BM, unseen_BN.gather(1, decoded_BM))


def _parts(grid: Grid, decoder_mask: Literal["frame", "random"], ratio: float) -> tuple[int, int, int]:
    """What is hidden or decoded together: the number of such parts, how many are decoded, and tokens in each.

    The paper names the two masks without saying more. Here "frame" draws whole time steps and "random" single tokens,
    for each clip anew.
    """
    parts, width = (grid.t, grid.per_frame) if decoder_mask == "frame" else (grid.tokens, 1)
    kept = parts - int(ratio * parts)
    if not 0 < kept < parts:
        raise ValueError(f"a {decoder_mask} mask with ratio {ratio} decodes {kept} of {parts} parts of a clip")
    return parts, kept, width


def _shuffled(batch: int, count: int, generator: Generator) -> Tensor:
    """Numbers 0..count-1 in a random order of its own for each clip: int64 (batch, count)."""
    return torch.rand(batch, count, generator=generator, device=generator.device).argsort(dim=1)


def _tokens(parts_BP: Tensor, width: int) -> Tensor:
    """Ascending token numbers of parts of ``width`` tokens each: int64 (B, P × width)."""
    within_W = torch.arange(width, device=parts_BP.device)
    return (parts_BP.sort(dim=1).values[..., None] * width + within_W).flatten(1)
