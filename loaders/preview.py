"""A contact sheet of what the model is about to see."""

import numpy as np

_GAP = 2  # pixels between rows and between frames


def contact_sheet(frames_BTHW3: np.ndarray) -> np.ndarray:
    """Views as rows, their frames from left to right: uint8 (B, T, H, W, 3) → uint8 (rows, columns, 3) on white."""
    if frames_BTHW3.ndim != 5 or frames_BTHW3.shape[-1] != 3 or frames_BTHW3.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 (B, T, H, W, 3), not {frames_BTHW3.dtype} {frames_BTHW3.shape}")
    padding = ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0))
    views, steps, height, width, _ = (padded := np.pad(frames_BTHW3, padding, constant_values=255)).shape
    return padded.transpose(0, 2, 1, 3, 4).reshape(views * height, steps * width, 3)[:-_GAP, :-_GAP]
