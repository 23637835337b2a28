"""Clips as cubes of pixels, and what the decoder has to predict of them."""

import torch
from einops import rearrange
from torch import Tensor

from model.sizes import Grid, Size

# Mean and standard deviation of ImageNet's RGB values in [0, 1], which VideoMAE normalises with.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)

TARGET_EPSILON = 1e-6
"""Added to a cube's standard deviation (released VideoMAE V2 code)."""


def to_cubes(frames_BTHWC: Tensor, size: Size, grid: Grid) -> Tensor:
    """Cut clips into cubes: (B, T, H, W, 3) → (B, tokens, tubelet × patch × patch × 3), RGB fastest, same dtype.

    Raises ValueError for clips of another shape than the grid's.
    """
    expected = (grid.t * size.tubelet, grid.h * size.patch, grid.w * size.patch, 3)
    if tuple(frames_BTHWC.shape[1:]) != expected:
        raise ValueError(f"clips of shape {tuple(frames_BTHWC.shape[1:])}, but the model takes {expected}")
    return rearrange(
        frames_BTHWC,
        "b (t u) (h p) (w q) c -> b (t h w) (u p q c)",
        u=size.tubelet,
        p=size.patch,
        q=size.patch,
    )


def from_cubes(cubes_BNK: Tensor, size: Size, grid: Grid) -> Tensor:
    """Inverse of :func:`to_cubes`."""
    return rearrange(
        cubes_BNK,
        "b (t h w) (u p q c) -> b (t u) (h p) (w q) c",
        t=grid.t,
        h=grid.h,
        u=size.tubelet,
        p=size.patch,
        q=size.patch,
    )


def take(tokens_BNK: Tensor, index_BM: Tensor) -> Tensor:
    """Row ``index_BM[b, m]`` of clip b: (B, M, K)."""
    return tokens_BNK.gather(1, index_BM[..., None].expand(-1, -1, tokens_BNK.shape[-1]))


def normalise(cubes_BNK: Tensor) -> Tensor:
    """Pixel values on the scale 0..255 (uint8, or float after mixing) to float32 normalised per colour channel."""
    mean = torch.tensor(PIXEL_MEAN, device=cubes_BNK.device) * 255
    std = torch.tensor(PIXEL_STD, device=cubes_BNK.device) * 255
    pixels_BNPC = cubes_BNK.float().unflatten(-1, (-1, 3))
    return ((pixels_BNPC - mean) / std).flatten(-2)


def target_statistics(cubes_BMK: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread per cube and colour channel of values in [0, 1]: float32 (B, M, 1, 3) each.

    The spread is the unbiased standard deviation plus ``TARGET_EPSILON``.
    """
    variance, mean = torch.var_mean(_unit_pixels(cubes_BMK), dim=-2, keepdim=True, correction=1)
    return mean, variance.sqrt() + TARGET_EPSILON


def targets(cubes_BMK: Tensor) -> Tensor:
    """What the decoder predicts of uint8 cubes: values normalised per cube and colour channel, float32 (B, M, K)."""
    mean, spread = target_statistics(cubes_BMK)
    return ((_unit_pixels(cubes_BMK) - mean) / spread).flatten(-2)


def _unit_pixels(cubes_BMK: Tensor) -> Tensor:
    """Values in 0..255 to float32 (B, M, pixels, 3) in [0, 1]."""
    return cubes_BMK.float().unflatten(-1, (-1, 3)) / 255


def from_targets(predicted_BMK: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Normalised predictions back to uint8 pixels with the cubes' own statistics (see :func:`target_statistics`)."""
    pixels_BMPC = predicted_BMK.float().unflatten(-1, (-1, 3)) * spread + mean
    return (pixels_BMPC * 255).round().clamp(0, 255).to(torch.uint8).flatten(-2)
