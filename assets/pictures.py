"""Pictures as files."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from warehouse.store import replace_file


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB picture, uint8 (H, W, 3)."""
    _, encoded = cv2.imencode(".png", picture[:, :, ::-1])
    replace_file(path, encoded.tobytes())
