"""Single frames of media files as small pictures, decoded in processes that can be killed."""

from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np

from warehouse.engine import Failure, map_unordered
from warehouse.error_classes import MediaError
from warehouse.media_file import MediaFile
from warehouse.video import open_video, packet_digest, quarter_turns

WIDTH_PX = 240
SECONDS_A_FRAME = 30.0
_UNIT = 4

Wanted = tuple[MediaFile, int]
"""A media file and a time in ms since its first frame."""


def pictures(wanted: Sequence[Wanted], workers: int, width_px: int = WIDTH_PX) -> dict[Wanted, bytes | str]:
    """For each (file, time) the frame shown then as JPEG of this width, or in words why there is none."""
    found: dict[Wanted, bytes | str] = {}
    each = list(dict.fromkeys(wanted))
    units = [each[start : start + _UNIT] for start in range(0, len(each), _UNIT)]
    for unit, results in map_unordered(partial(jpegs, width_px), units, workers=workers, timeout_s=SECONDS_A_FRAME):
        for item, result in zip(unit, results, strict=True):
            found[item] = result.error_class if isinstance(result, Failure) else result
    return found


def jpegs(width_px: int, wanted: list[Wanted]) -> list[bytes | str]:
    """:func:`pictures` of a unit, in its order."""
    cv2.setNumThreads(1)
    return [_jpeg(media, t_ms, width_px) for media, t_ms in wanted]


def _jpeg(media: MediaFile, t_ms: int, width_px: int) -> bytes | str:
    shown, first_s = None, None
    try:
        with open_video(media) as video:
            for frame in video.frames(packet_digest()):
                time_s = frame.time or 0.0
                first_s = time_s if first_s is None else first_s
                if shown is not None and (time_s - first_s) * 1000 > t_ms:
                    break
                shown = frame
            if shown is None:
                return "no frame can be decoded"
            rgb = np.rot90(shown.to_ndarray(format="rgb24"), quarter_turns(shown))
    except MediaError as error:
        return f"{error.error_class}: {error.detail}"
    height = max(1, round(width_px * rgb.shape[0] / rgb.shape[1]))
    small = cv2.resize(np.ascontiguousarray(rgb[:, :, ::-1]), (width_px, height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
