"""Small real videos in the codecs and structures that matter, and real tar shards that hold them."""

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from warehouse.catalog.snapshots import Sample

WIDTH, HEIGHT, FRAMES = 96, 72, 60

_NP = "keyint=32:min-keyint=32:scenecut=0:open-gop=0:bframes=3:b-adapt=0:b-pyramid=none"
_PYRAMID = "keyint=24:min-keyint=24:scenecut=0:open-gop=1:bframes=5:b-adapt=0:b-pyramid=normal"
_KINDS = {  # codec, container, options
    "np": ("libx264", "mp4", {"x264-params": _NP}),
    "pyramid": ("libx264", "mp4", {"x264-params": _PYRAMID}),
    "pyramid_mkv": ("libx264", "matroska", {"x264-params": _PYRAMID}),
    "intra_refresh": ("libx264", "mp4", {"x264-params": "keyint=20:intra-refresh=1:bframes=0"}),
    "vp9": ("libvpx-vp9", "webm", {"g": "20", "deadline": "realtime", "cpu-used": "8"}),
    "mjpeg": ("mjpeg", "mp4", {"qmin": "4", "qmax": "4", "strict": "unofficial"}),
    "mpeg4_avi": ("mpeg4", "avi", {"g": "12", "bf": "2", "qscale": "3"}),
}

MakeSamples = Callable[[list[bytes]], list[Sample]]


def _encode(codec: str, container: str, options: dict[str, str], phase: float) -> bytes:
    """FRAMES frames of smooth colours that move; no two frames and no two phases are alike."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, "yuv420p", options
        for t in range(FRAMES):
            waves = [np.sin(x / 9 + 0.21 * t + phase), np.sin(y / 7 - 0.13 * t + phase), np.sin((x + y) / 13 + 0.1 * t)]
            pixels = (np.stack(waves, axis=-1) * 100 + 128).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def videos() -> dict[str, bytes]:
    """A video of each kind."""
    return {kind: _encode(*recipe, phase=0.0) for kind, recipe in _KINDS.items()}


@pytest.fixture(scope="session")
def clips() -> list[bytes]:
    """Twelve different clips as the default rendition stores them."""
    return [_encode(*_KINDS["np"], phase=0.5 * number) for number in range(12)]


@pytest.fixture(scope="session")
def mjpeg_clips() -> list[bytes]:
    """Twelve different clips in the codec that DALI decodes without a GPU and that shards are made in."""
    return [_encode(*_KINDS["mjpeg"], phase=0.5 * number) for number in range(12)]


@pytest.fixture
def make_samples(tmp_path: Path) -> MakeSamples:
    """Writes encoded videos into tar shards of five, and gives their samples: clip-00 of class 0, clip-01 of 1…"""

    def make(encoded: list[bytes]) -> list[Sample]:
        samples = []
        for first in range(0, len(encoded), 5):
            shard = tmp_path / f"shard-{first:02d}.tar"
            with tarfile.open(shard, "w") as tar:
                for number, data in enumerate(encoded[first : first + 5], first):
                    info = tarfile.TarInfo(f"clip-{number:02d}.mp4")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
            with tarfile.open(shard) as tar:
                for number, member in enumerate(tar, first):
                    samples.append(_sample(shard, number, member.offset_data, encoded[number]))
        return samples

    return make


def _sample(shard: Path, number: int, offset: int, data: bytes) -> Sample:
    return Sample(
        clip_id=f"clip-{number:02d}",
        source="test",
        split="train",
        class_id=None if number == 11 else number,
        weight=1.0,
        stride=2,
        shard=shard,
        offset=offset,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        codec="",
        fps=30.0,
        frames=FRAMES,
        width=WIDTH,
        height=HEIGHT,
    )
