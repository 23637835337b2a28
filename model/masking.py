"""The two masks of VideoMAE V2, as index tensors whose shapes depend on the grid alone.

The encoder sees the few tokens that a *tube* leaves (the same places in every time step); the decoder predicts the
tokens that a *running cell* leaves (half of every 2×2 cell, moving on with time). A token counts in the loss when it is
decoded and the encoder did not see it. VideoMAE V2, section 3.2, with the rounding of the released code: a tube masks
``int(ratio × tokens per frame)``.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from model.sizes import Grid

CELL = 4
"""Places in a 2×2 cell; also the number of different running-cell masks, and their period in time."""


@dataclass(frozen=True)
class Masks:
    """What the encoder sees, what the decoder predicts and what the loss counts, for a batch of clips."""

    visible_BV: Tensor
    """int64, ascending token numbers that the encoder sees."""
    decoded_BM: Tensor
    """int64, ascending token numbers that the decoder predicts; some of them the encoder sees too."""
    counted_BM: Tensor
    """bool, which of ``decoded_BM`` the encoder did not see."""

    def rows(self, start: int, count: int) -> "Masks":
        """The masks of ``count`` clips from ``start`` on."""
        rows = slice(start, start + count)
        return Masks(self.visible_BV[rows], self.decoded_BM[rows], self.counted_BM[rows])


def tube_visible(batch: int, grid: Grid, ratio: float, generator: Generator) -> Tensor:
    """Tokens that a random tube leaves visible: int64 (batch, t × kept places), ascending, on the generator's device.

    Each clip keeps its own places, drawn uniformly without replacement, through all time steps.
    """
    kept = grid.per_frame - int(ratio * grid.per_frame)
    if not 0 < kept < grid.per_frame:
        raise ValueError(f"a tube ratio of {ratio} leaves {kept} of {grid.per_frame} places of a frame")
    noise_BP = torch.rand(batch, grid.per_frame, generator=generator, device=generator.device)
    places_BP = noise_BP.argsort(dim=1)[:, :kept].sort(dim=1).values
    offsets_T = torch.arange(grid.t, device=generator.device) * grid.per_frame
    return (offsets_T[None, :, None] + places_BP[:, None, :]).flatten(1)


def running_cells(grid: Grid, ratio: float) -> Tensor:
    """The four running-cell masks: int64 (4, tokens decoded), row ``s`` for a cell that starts at phase ``s``.

    A cell of 2×2 places hides ``int(4 × ratio)`` neighbours in its round; with every time step the round moves on by
    one. Raises ValueError for a grid with an odd side or a ratio that hides none or all of a cell.
    """
    hidden = int(CELL * ratio)
    if not 0 < hidden < CELL:
        raise ValueError(f"a running-cell ratio of {ratio} hides {hidden} of a cell's {CELL} places")
    if grid.h % 2 or grid.w % 2:
        raise ValueError(f"running cells need even sides, not {grid.h} × {grid.w} tokens")
    row = torch.arange(grid.h) % 2
    column = torch.arange(grid.w) % 2
    place_HW = 2 * row[:, None] + column[None, :]
    phase_S = torch.arange(CELL)
    time_T = torch.arange(grid.t)
    # A round that has moved on n times shows at place i what it first had at place i + n. It moves before a time step.
    turn_STHW = place_HW + (phase_S[:, None] + time_T + 1)[:, :, None, None]
    decoded_SN = (turn_STHW % CELL >= hidden).flatten(1)
    return decoded_SN.nonzero()[:, 1].view(CELL, -1)


def draw_masks(batch: int, grid: Grid, tube_ratio: float, cell_ratio: float, generator: Generator) -> Masks:
    """Draw the masks of ``batch`` clips on the generator's device."""
    visible_BV = tube_visible(batch, grid, tube_ratio, generator)
    cells_SM = running_cells(grid, cell_ratio).to(generator.device)
    phase_B = torch.randint(CELL, (batch,), generator=generator, device=generator.device)
    return combine(visible_BV, cells_SM[phase_B], grid)


def combine(visible_BV: Tensor, decoded_BM: Tensor, grid: Grid) -> Masks:
    """Masks from the two sets of token numbers."""
    unseen_BN = torch.ones(len(visible_BV), grid.tokens, dtype=torch.bool, device=visible_BV.device)
    unseen_BN.scatter_(1, visible_BV, False)
    return Masks(visible_BV, decoded_BM, unseen_BN.gather(1, decoded_BM))
