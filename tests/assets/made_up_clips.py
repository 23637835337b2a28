"""Clips in a real shard, for tests that train or validate."""

import hashlib
import io
import tarfile
from pathlib import Path

import av
import numpy as np

from warehouse.catalog.sample import Sample

SIDE, FRAMES = 48, 16


def write_clips(folder: Path, count: int, classes: int) -> list[Sample]:
    """``count`` clips of moving waves in ``clips.tar``, of the classes in turn; no two are alike."""
    shard = folder / "clips.tar"
    encoded = [_encode(number) for number in range(count)]
    with tarfile.open(shard, "w") as tar:
        for number, data in enumerate(encoded):
            info = tarfile.TarInfo(f"clip-{number:02d}.mp4")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(shard) as tar:
        offsets = [member.offset_data for member in tar]
    return [
        Sample(
            clip_id=f"clip-{number:02d}",
            source="test",
            split="val",
            class_id=number % classes,
            weight=1.0,
            stride=2,
            shard=shard,
            offset=offsets[number],
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            codec="h264",
            fps=30.0,
            frames=FRAMES,
            width=SIDE,
            height=SIDE,
        )
        for number, data in enumerate(encoded)
    ]


def _encode(number: int) -> bytes:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for t in range(FRAMES):
            waves = [np.sin(x / (3 + number) + 0.3 * t), np.sin(y / (2 + number % 5) - t), np.sin((x + y) / 9 + number)]
            pixels = (np.stack(waves, axis=-1) * 100 + 128).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()
