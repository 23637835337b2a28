"""What the renditions keep of the picture, how large they are and what decoding a view of them takes."""

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from loaders.decode import decode_frames
from loaders.sampling import dense
from warehouse.catalog.snapshots import Sample
from warehouse.shards.encoding import encode
from warehouse.shards.quality import picture_quality
from warehouse.shards.rendition import CONTRACTS, ORIGINAL, stored_stride
from warehouse.shards.shard_plan import Member

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
        kept = [
            picture_quality(clip.media, rendition, stride, data) for clip, data in zip(clips, encoded, strict=True)
        ]
        found[rendition] = _figures(encoded, times, files) | {
            "psnr": float(np.mean([clip.psnr for clip in kept])),
            "ssim": float(np.mean([clip.ssim for clip in kept])),
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
