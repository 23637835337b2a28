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
    return tokens_BNK[torch.arange(len(tokens_BNK), device=tokens_BNK.device)[:, None], index_BM]


def normalise(cubes_BNK: Tensor) -> Tensor:
    """Pixel values on the scale 0..255 (uint8, or float after mixing), normalised per colour channel.

    Returns the same shape, in float32 (float64 for float64).
    """
    pixels_BNPC = _pixels(cubes_BNK)
    mean_C, std_C = (_per_channel(values, pixels_BNPC) for values in (PIXEL_MEAN, PIXEL_STD))
    return ((pixels_BNPC - mean_C * 255) / (std_C * 255)).flatten(-2)


def target_statistics(cubes_BMK: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread per cube and colour channel of values in [0, 1]: float32 (B, M, 1, 3) each.

    The spread is the unbiased standard deviation plus ``TARGET_EPSILON``.
    """
    _, mean, spread = _centred(cubes_BMK)
    return mean / 255, spread / 255


def targets(cubes_BMK: Tensor) -> Tensor:
    """What the decoder predicts of cubes on the scale 0..255: values normalised per cube and colour channel.

    Returns (B, M, K) in float32 (float64 for float64).
    """
    centred_BMPC, _, spread = _centred(cubes_BMK)
    return centred_BMPC.div_(spread).flatten(-2)


def _centred(cubes_BMK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels less the mean of their cube and channel, that mean, and the spread, all on the scale 0..255."""
    pixels_BMPC = _pixels(cubes_BMK)
    mean = pixels_BMPC.mean(-2, keepdim=True)
    centred_BMPC = pixels_BMPC - mean
    # Not ``var_mean``, which takes three times as long as all of this on a CPU.
    variance = centred_BMPC.square().sum(-2, keepdim=True) / (pixels_BMPC.shape[-2] - 1)
    return centred_BMPC, mean, variance.sqrt() + TARGET_EPSILON * 255


def _pixels(cubes_BMK: Tensor) -> Tensor:
    """(B, M, pixels, 3), in float32 at least: half precision would round targets."""
    return cubes_BMK.to(torch.promote_types(cubes_BMK.dtype, torch.float32)).unflatten(-1, (-1, 3))


def _per_channel(values: tuple[float, float, float], like: Tensor) -> Tensor:
    """(3,), filled on the device: a list would be copied there, and the host would wait for it."""
    return torch.stack([like.new_full((), value) for value in values])


def from_targets(predicted_BMK: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Normalised predictions back to uint8 pixels with the cubes' own statistics (see :func:`target_statistics`)."""
    pixels_BMPC = predicted_BMK.float().unflatten(-1, (-1, 3)) * spread + mean
    return (pixels_BMPC * 255).round().clamp(0, 255).to(torch.uint8).flatten(-2)
