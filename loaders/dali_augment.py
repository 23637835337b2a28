"""Rendering a view's whole frames with torch, on the device that holds them: what ``views`` does with cv2 on a CPU.

RandAugment's operations with the parameters drawn, crop and resize, flip, erasing. Frames are uint8 (T, H, W, 3), RGB.
Every operation gives what ``image_operations`` gives for each frame, within the tolerances that the tests state.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from loaders import erasing
from loaders.augment import SHRINKS, Box
from loaders.erasing import Erased
from loaders.image_geometry import inverse_affine
from loaders.randaugment import Operation
from loaders.views import View

_GREY = (19595, 38470, 7471)  # of 65536: red, green and blue in Pillow's luma (ITU-R 601)
_OUTSIDE = 128.0  # where a picture was turned or moved away


def render(frames_THW3: Tensor, view: View, size: int) -> Tensor:
    """The view's pixels, uint8 (T, S, S, 3), without what is erased. The view's frames are given, in its order."""
    for operation in view.operations:
        frames_THW3 = apply(frames_THW3, operation)
    box = view.box
    crop_TSS3 = frames_THW3[:, box.top : box.top + box.height, box.left : box.left + box.width]
    pixels_TSS3 = _resize(crop_TSS3, size, averages(box, size))
    return pixels_TSS3.flip(2) if view.flip else pixels_TSS3


def averages(box: Box, size: int) -> bool:
    """Whether pixels are averaged over, as ``augment.crop_resize`` does where both sides shrink enough.

    A triangular filter is DALI's and torch's way of averaging; OpenCV's is a box.
    """
    return min(box.height, box.width) >= SHRINKS * size


def apply(frames_THW3: Tensor, operation: Operation) -> Tensor:
    """One operation of RandAugment on all frames."""
    if operation.name in _GEOMETRIC:
        return _moved(frames_THW3, operation)
    return _OPERATIONS[operation.name](frames_THW3, operation.value)


def erase(frames_TSS3: Tensor, erased: Erased) -> None:
    """Fill the box of all frames with the noise of ``erasing.noise``, bit for bit, in place."""
    box, device = erased.box, frames_TSS3.device
    shape = (len(frames_TSS3), box.height, box.width, 3)
    word = torch.arange(shape[0] * shape[1] * shape[2] * 3, device=device)
    word = _low(word * 0x9E3779B9 + erased.seed)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word = _low((word ^ (word >> shift)) * factor)
    levels_3N = torch.from_numpy(erasing.noise_levels()).to(device)
    place = ((word ^ (word >> 16)) >> 20).reshape(shape) + torch.arange(3, device=device) * levels_3N.shape[1]
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    frames_TSS3[:, rows, columns] = levels_3N.flatten()[place]


def _low(word: Tensor) -> Tensor:
    """The low 32 bits: products of int64 wrap, and their low half is that of uint32."""
    return word & 0xFFFFFFFF


def _resize(frames_THW3: Tensor, size: int, averaging: bool) -> Tensor:
    planes_T3HW = frames_THW3.permute(0, 3, 1, 2).float()
    scaled = functional.interpolate(planes_T3HW, (size, size), mode="bilinear", antialias=averaging)
    return scaled.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _moved(frames_THW3: Tensor, operation: Operation) -> Tensor:
    """Bicubic; grey where the place lies outside, and beyond the edge what is at the edge."""
    steps, height, width, _ = frames_THW3.shape
    device = frames_THW3.device
    # Doubles, so that both paths agree on what lies outside.
    (xx, xy, x0), (yx, yy, y0) = inverse_affine(operation, height, width).tolist()
    y_H1 = torch.arange(height, dtype=torch.float64, device=device)[:, None] + 0.5
    x_W = torch.arange(width, dtype=torch.float64, device=device) + 0.5
    from_x_HW, from_y_HW = xx * x_W + xy * y_H1 + x0, yx * x_W + yy * y_H1 + y0
    inside_HW = (from_x_HW >= 0) & (from_x_HW < width) & (from_y_HW >= 0) & (from_y_HW < height)
    grid_HW2 = (torch.stack([from_x_HW / width, from_y_HW / height], dim=-1) * 2 - 1).float()
    planes_T3HW = frames_THW3.permute(0, 3, 1, 2).float()
    grid_THW2 = grid_HW2.expand(steps, -1, -1, -1)
    moved = functional.grid_sample(planes_T3HW, grid_THW2, mode="bicubic", padding_mode="border", align_corners=False)
    moved = torch.where(inside_HW, moved, _OUTSIDE)
    return moved.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _looked_up(frames_THW3: Tensor, table_T3N: Tensor) -> Tensor:
    """Each value replaced by its frame's and channel's table of 256."""
    return table_T3N.flatten()[_bins(frames_THW3)].to(torch.uint8)


def _bins(frames_THW3: Tensor) -> Tensor:
    """Each value's place in tables of 256, one for each frame and channel."""
    steps, channels = torch.arange(len(frames_THW3)), torch.arange(3)
    table_TC = ((steps[:, None] * 3 + channels) * 256).to(frames_THW3.device)
    return frames_THW3.long() + table_TC[:, None, None, :]


def _autocontrast(frames_THW3: Tensor, value: float) -> Tensor:
    low_T3 = frames_THW3.amin((1, 2)).double()[..., None]
    high_T3 = frames_THW3.amax((1, 2)).double()[..., None]
    levels_N = torch.arange(256, dtype=torch.float64, device=frames_THW3.device)
    scale = 255 / (high_T3 - low_T3).clamp(min=1)
    table_T3N = (levels_N * scale - low_T3 * scale).clamp(0, 255).trunc()
    return _looked_up(frames_THW3, torch.where(high_T3 > low_T3, table_T3N, levels_N))


def _equalize(frames_THW3: Tensor, value: float) -> Tensor:
    bins, device = _bins(frames_THW3).flatten(), frames_THW3.device
    counts = torch.zeros(len(frames_THW3) * 3 * 256, dtype=torch.int64, device=device)
    counts_T3N = counts.scatter_add_(0, bins, torch.ones_like(bins)).reshape(-1, 3, 256)
    levels_N = torch.arange(256, device=device)
    highest_T31 = torch.where(counts_T3N > 0, levels_N, -1).amax(-1, keepdim=True)
    step_T31 = (counts_T3N.sum(-1, keepdim=True) - counts_T3N.gather(-1, highest_T31)) // 255
    below_T3N = counts_T3N.cumsum(-1) - counts_T3N
    table_T3N = ((step_T31 // 2 + below_T3N) // step_T31.clamp(min=1)).clamp(max=255)
    return _looked_up(frames_THW3, torch.where(step_T31 > 0, table_T3N, levels_N))


def _solarize_add(frames_THW3: Tensor, added: float) -> Tensor:
    return torch.where(frames_THW3 < 128, frames_THW3.int() + int(added), frames_THW3).clamp(max=255).to(torch.uint8)


def _color(frames_THW3: Tensor, factor: float) -> Tensor:
    return _blend(_grey(frames_THW3)[..., None], frames_THW3, factor)


def _contrast(frames_THW3: Tensor, factor: float) -> Tensor:
    mean_T = (_grey(frames_THW3).double().mean((1, 2)) + 0.5).floor()
    return _blend(mean_T[:, None, None, None], frames_THW3, factor)


def _sharpness(frames_THW3: Tensor, factor: float) -> Tensor:
    values = frames_THW3.int()
    smooth = values.clone()
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * values[:, 1:-1, 1:-1]
    smooth[:, 1:-1, 1:-1] = (2 * around + 13) // 26  # a 13th, rounded
    return _blend(smooth, frames_THW3, factor)


def _grey(frames_THW3: Tensor) -> Tensor:
    red, green, blue = frames_THW3.int().unbind(-1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue + 32768) >> 16


def _blend(other: Tensor, frames_THW3: Tensor, factor: float) -> Tensor:
    """``other`` at factor 0, the frames at 1, beyond these away from each other."""
    other = other.float()
    return (other + factor * (frames_THW3.float() - other)).clamp_(0, 255).to(torch.uint8)


_GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "invert": lambda frames, value: 255 - frames,
    "posterize": lambda frames, bits: frames & (0xFF << (8 - int(bits)) & 0xFF),
    # Not as uint8, whose comparison with a threshold of 256 would be one with 0.
    "solarize": lambda frames, threshold: torch.where(frames.int() < int(threshold), frames, 255 - frames),
    "solarize_add": _solarize_add,
    "color": _color,
    "contrast": _contrast,
    "brightness": lambda frames, factor: _blend(torch.zeros_like(frames), frames, factor),
    "sharpness": _sharpness,
}
