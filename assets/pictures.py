"""Pictures as files, and which clips a run's pictures show."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from warehouse.store import replace_file


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB picture, uint8 (H, W, 3)."""
    _, encoded = cv2.imencode(".png", picture[:, :, ::-1])
    replace_file(path, encoded.tobytes())


def name_shown(run: Path, clip_ids: Sequence[str]) -> str:
    """Add clips to those that the pictures of a run's folder show; returns all of them, as JSON."""
    known = clips_shown(run)
    text = json.dumps([*known, *(clip for clip in clip_ids if clip not in known)])
    replace_file(_shown(run), text.encode())
    return text


def clips_shown(run: Path) -> list[str]:
    """Ids of the clips that some picture of a run's folder shows; none where it has no pictures."""
    return json.loads(_shown(run).read_text()) if _shown(run).exists() else []


def _shown(run: Path) -> Path:
    return run / "pictures" / "clips.json"
