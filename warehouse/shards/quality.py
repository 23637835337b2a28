"""What a rendition keeps of the picture: the luma of what is stored against that of the picture the encoder was given.

That picture is the source's in the size and the colours of the contract, so what scaling takes away does not count.
"""

import io
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

import av
import cv2
import numpy as np

from warehouse.error_classes import MediaError, words
from warehouse.media_file import MediaFile
from warehouse.shards.encoding import contract_pictures
from warehouse.shards.errors import ShardError
from warehouse.shards.reader import read_sample
from warehouse.shards.rendition import CONTRACTS
from warehouse.video import open_video, packet_digest

_WINDOW, _SIGMA = (11, 11), 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""The window and constants of SSIM as published (Wang et al., 2004)."""


@dataclass(frozen=True)
class PictureQuality:
    """Over the ``frames`` of a clip that were compared: mean and least PSNR, in dB, and SSIM of a frame."""

    frames: int
    psnr: float
    least_psnr: float
    ssim: float
    least_ssim: float


@dataclass(frozen=True)
class EncodedClip:
    """A clip that was encoded into a shard, by its byte range there, and the file that it was made from."""

    clip_id: str
    shard: Path
    offset: int
    size: int
    sha256: str
    rendition: str
    stride: int
    media: MediaFile


def measure(frames: int, clips: list[EncodedClip]) -> list[PictureQuality | str]:
    """The quality of each clip over the first ``frames`` frames of its source, or in words why it has none.

    A unit of work for :func:`warehouse.engine.map_unordered`.
    """
    cv2.setNumThreads(1)
    found: list[PictureQuality | str] = []
    for clip in clips:
        try:
            found.append(picture_quality(clip.media, clip.rendition, clip.stride, read_sample(clip), frames))
        except (MediaError, ShardError) as error:
            found.append(str(error))
    return found


def picture_quality(
    media: MediaFile, rendition: str, stride: int, data: bytes, frames: int | None = None
) -> PictureQuality:
    """Compare a clip as it is stored with the pictures that its encoder was given.

    Args:
        rendition, stride: that it was encoded for; not ``original``, which is not encoded.
        data: the encoded video.
        frames: of the source that are looked at, from its first; all if there is no number.

    Raises:
        MediaError: the source or the encoded video cannot be decoded.
        ShardError: this is not what the video was made from: one has other frames than the other.
    """
    contract = CONTRACTS[rendition]
    step = stride if contract.strided else 1
    noise, likeness = [], []
    try:
        with open_video(media) as source, av.open(io.BytesIO(data), "r") as container:
            container.streams.video[0].codec_context.thread_count = 1
            pictures = contract_pictures(islice(source.frames(packet_digest()), frames), contract, step)
            stored = islice(
                container.decode(video=0), None if frames is None else contract.stored_frames(frames, stride)
            )
            for given, shown in zip_longest(map(luma, pictures), map(luma, stored)):
                if given is None or shown is None or given.shape != shown.shape:
                    raise ShardError(f"{media.name}: not what was stored of it. Materialise `clips` and `media` again.")
                noise.append(psnr(given, shown))
                likeness.append(ssim(given, shown))
    except (av.FFmpegError, OSError) as error:
        raise MediaError("decode_error", words(error)) from error
    if not noise:
        raise MediaError("no_frames", "no frame can be decoded")
    return PictureQuality(len(noise), float(np.mean(noise)), min(noise), float(np.mean(likeness)), min(likeness))


def psnr(given: np.ndarray, shown: np.ndarray) -> float:
    """Peak signal to noise ratio of two uint8 planes, dB; 100 for equal ones."""
    error = np.mean((given.astype(np.float32) - shown) ** 2)
    return 100.0 if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(given: np.ndarray, shown: np.ndarray) -> float:
    """Structural similarity of two uint8 planes, mean over the picture; 1 for equal ones."""
    a, b = given.astype(np.float32), shown.astype(np.float32)

    def blurred(plane: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(plane, _WINDOW, _SIGMA)

    mean_a, mean_b = blurred(a), blurred(b)
    spread_a, spread_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    together = blurred(a * b) - mean_a * mean_b
    same = (2 * mean_a * mean_b + _C1) * (2 * together + _C2)
    return float(np.mean(same / ((mean_a**2 + mean_b**2 + _C1) * (spread_a + spread_b + _C2))))


def luma(picture: av.VideoFrame) -> np.ndarray:
    """The Y of a frame as coded, uint8 (height, width)."""
    plane = picture.planes[0]
    return np.frombuffer(bytes(plane), np.uint8).reshape(picture.height, plane.line_size)[:, : picture.width]
