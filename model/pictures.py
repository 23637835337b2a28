"""Pictures of what a pre-trained model sees and makes of it."""

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Generator, Tensor

from model import cubes
from model.masking import covering, tube_visible
from model.pretrainer import Pretrainer

HIDDEN_GREY = 128
GAP_PX = 2


@torch.no_grad()
def reconstruct(model: Pretrainer, frames_BTHWC: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Clips with their hidden cubes grey, and with the model's predictions in their place.

    ``frames_BTHWC`` (uint8), the model and the generator are on one device. Predictions are brought back with the
    cubes' own mean and spread, which the model never predicts; visible cubes are shown as they are. The decoder
    is asked several times, with masks of its kind that together cover every place. Returns uint8 clips.
    """
    config = model.config
    size, grid = config.size, config.grid
    cubes_BNK = cubes.to_cubes(frames_BTHWC, size, grid)
    visible_BV = tube_visible(len(cubes_BNK), grid, config.tube_ratio, generator)
    seen_BVK = cubes.take(cubes_BNK, visible_BV)
    index_BVK = visible_BV[..., None].expand_as(seen_BVK)

    masked_BNK = torch.full_like(cubes_BNK, HIDDEN_GREY).scatter_(1, index_BVK, seen_BVK)
    rebuilt_BNK = torch.empty_like(cubes_BNK)
    for decoded_BM in covering(visible_BV, grid, config.decoder_mask, config.decoder_ratio, generator):
        wanted_BMK = cubes.take(cubes_BNK, decoded_BM)
        predicted_BMK = model(cubes_BNK, visible_BV, decoded_BM)
        pixels_BMK = cubes.from_targets(predicted_BMK, *cubes.target_statistics(wanted_BMK))
        rebuilt_BNK.scatter_(1, decoded_BM[..., None].expand_as(pixels_BMK), pixels_BMK)
    rebuilt_BNK.scatter_(1, index_BVK, seen_BVK)
    return cubes.from_cubes(masked_BNK, size, grid), cubes.from_cubes(rebuilt_BNK, size, grid)


def reconstruction_sheet(
    model: Pretrainer, frames_BTHWC: Tensor, generator: Generator, columns: int = 4
) -> NDArray[np.uint8]:
    """A sheet of clips: three rows each (original, masked, reconstruction), ``columns`` frames spread over the clip.

    Returns uint8 (3 × B × (H + gap) - gap, columns × (W + gap) - gap, 3), RGB, on white.
    """
    was_training = model.training
    model.eval()
    masked, rebuilt = reconstruct(model, frames_BTHWC, generator)
    model.train(was_training)
    shown = np.linspace(0, frames_BTHWC.shape[1] - 1, columns).round().astype(int)
    rows = torch.stack((frames_BTHWC, masked, rebuilt), dim=1)[:, :, shown].cpu().numpy()
    framed = np.pad(rows, ((0, 0),) * 3 + ((0, GAP_PX),) * 2 + ((0, 0),), constant_values=255)
    sheet = rearrange(framed, "b r f h w c -> (b r h) (f w) c")
    return sheet[:-GAP_PX, :-GAP_PX]
