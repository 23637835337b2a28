"""How a planted file is made from another file of the corpus."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from warehouse.corpus.encoding import read_video, write_sound, write_video

CUT_BEFORE, CUT_AFTER = 7, 5  # frames that a trimmed copy lacks: on no second, no GOP and no sampling grid


def _changed(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], quality: str) -> Callable[[Path, Path], None]:
    """A maker of a copy whose frames (T, H, W, 3) are decoded, changed and encoded again."""

    def make(origin: Path, target: Path) -> None:
        frames, fps = read_video(origin)
        write_video(target, change(frames), fps, quality)

    return make


def _resized(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = (side * 3 // 8 * 2 for side in frames.shape[1:3])  # three quarters, and even
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def _letterboxed(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bar = frames.shape[1] // 16 * 2
    return np.pad(frames, ((0, 0), (bar, bar), (0, 0), (0, 0)))


def _copied(origin: Path, target: Path) -> None:
    shutil.copyfile(origin, target)


def _cut(origin: Path, target: Path) -> None:
    content = origin.read_bytes()
    target.write_bytes(content[: len(content) * 55 // 100])


def _cut_without_index(origin: Path, target: Path) -> None:
    frames, fps = read_video(origin)
    write_video(target, frames, fps, index_first=False)
    content = target.read_bytes()
    target.write_bytes(content[: len(content) * 55 // 100])


# Kind -> what makes the file at the second path from the one at the first, which some do not look at.
DERIVE: dict[str, Callable[[Path, Path], None]] = {
    "shared": _copied,
    "byte_copy": _copied,
    "val_byte_copy_in_train": _copied,
    "re_encode": _changed(lambda frames: frames, "again"),
    "val_re_encode_in_train": _changed(lambda frames: frames, "again"),
    "resize": _changed(_resized, "first"),
    "trim": _changed(lambda frames: frames[CUT_BEFORE : len(frames) - CUT_AFTER], "first"),
    "letterbox": _changed(_letterboxed, "first"),
    "mirror": _changed(lambda frames: frames[:, :, ::-1], "first"),
    "truncated": _cut,
    "no_moov": _cut_without_index,
    "empty": lambda _, target: target.touch(),
    "no_video": lambda _, target: write_sound(target, 2.0, "no_video"),
}
