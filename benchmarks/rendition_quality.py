"""What the renditions keep of the picture, how large they are and what decoding a view of them takes."""

import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from loaders.decode import decode_frames
from loaders.sampling import dense
from warehouse.catalog.snapshots import Sample
from warehouse.shards.encoding import contract_pictures, encode
from warehouse.shards.rendition import CONTRACTS, ORIGINAL, stored_stride
from warehouse.shards.shard_plan import Member
from warehouse.video import open_video, packet_digest

_WINDOW, _SIGMA = (11, 11), 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""The window and constants of SSIM as published (Wang et al., 2004)."""


FRAMES, VIEWS = 16, 4
"""Frames of a view, at the source's stride, and views that are decoded of each clip."""


def quality(clips: Sequence[Member], stride: int) -> dict[str, dict[str, float | None]]:
    """Figures by rendition.

    ``psnr`` (dB) and ``ssim`` are those of the luma as stored against the picture that went into the encoder, means
    over clips of means over frames, ``None`` for `original`; ``bytes`` is of a clip, ``of_original`` all stored bytes
    by those of the files; ``view_ms`` is CPU time to decode a view of ``FRAMES`` frames from a random start as the
    loaders do it, in RGB of the stored size.
    """
    files = [Path(clip.media.path).read_bytes() for clip in clips]
    times = [_view_ms(clip, ORIGINAL, stride, data) for clip, data in zip(clips, files, strict=True)]
    found = {ORIGINAL: _figures(files, times, files)}
    for rendition in CONTRACTS:
        encoded = [encode(clip.media, rendition, stride, clip.fps).data for clip in clips]
        times = [_view_ms(clip, rendition, stride, data) for clip, data in zip(clips, encoded, strict=True)]
        similar, noise = [], []
        for clip, data in zip(clips, encoded, strict=True):
            pairs = list(zip(_given(clip, rendition, stride), _stored(data), strict=True))
            noise.append(np.mean([psnr(given, shown) for given, shown in pairs]))
            similar.append(np.mean([ssim(given, shown) for given, shown in pairs]))
        found[rendition] = _figures(encoded, times, files) | {
            "psnr": float(np.mean(noise)),
            "ssim": float(np.mean(similar)),
        }
    return found


def _figures(stored: Sequence[bytes], times: Sequence[float], files: Sequence[bytes]) -> dict[str, float | None]:
    size = sum(map(len, stored))
    return {
        "psnr": None,
        "ssim": None,
        "bytes": size / len(stored),
        "of_original": size / sum(map(len, files)),
        "view_ms": float(np.mean(times)),
    }


def _view_ms(clip: Member, rendition: str, stride: int, data: bytes) -> float:
    with av.open(io.BytesIO(data)) as container:
        width, height = container.streams.video[0].width, container.streams.video[0].height
    step = stored_stride(rendition, stride)
    frames = clip.frames if rendition == ORIGINAL else CONTRACTS[rendition].stored_frames(clip.frames, stride)
    shard = Path(clip.media.path)
    sample = Sample(clip.clip_id, "", "train", None, 1.0, step, shard, 0, len(data), "", "", 0, frames, width, height)
    rng = np.random.default_rng(0)
    wanted = [set(dense(frames, FRAMES, step, rng).tolist()) for _ in range(VIEWS)]
    started = time.process_time()
    for view in wanted:
        for _ in decode_frames(sample, data, view):
            pass
    return 1000 * (time.process_time() - started) / VIEWS


def _given(clip: Member, rendition: str, stride: int) -> Iterator[np.ndarray]:
    contract = CONTRACTS[rendition]
    with open_video(clip.media) as source:
        step = stride if contract.strided else 1
        yield from map(_luma, contract_pictures(source.frames(packet_digest()), contract, step))


def _stored(data: bytes) -> Iterator[np.ndarray]:
    with av.open(io.BytesIO(data)) as container:
        yield from map(_luma, container.decode(video=0))


def _luma(picture: av.VideoFrame) -> np.ndarray:
    """uint8 (height, width), as coded."""
    plane = picture.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(picture.height, plane.line_size)[:, : picture.width].copy()


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


def quality_table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| rendition | PSNR, dB | SSIM | kB a clip | of the original's size | CPU-ms a view |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, found in figures.items():
        kept = ["", ""] if found["psnr"] is None else [f"{found['psnr']:.1f}", f"{found['ssim']:.4f}"]
        size = [f"{found['bytes'] / 1000:.0f}", f"{found['of_original']:.2f}", f"{found['view_ms']:.1f}"]
        lines.append(f"| {' | '.join([name, *kept, *size])} |")
    return "\n".join(lines)
