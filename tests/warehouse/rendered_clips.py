"""Small clips for the tests of this folder: a smooth texture of several scales that drifts, and how it is written."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

FPS = 25


def drifting(seed: int, *, count: int = 50, height: int = 72, width: int = 96) -> list[np.ndarray]:
    """``count`` RGB frames, uint8 (height, width, 3). All seeds share one model of texture and speed."""
    rng, side = np.random.default_rng(seed), 256
    texture = sum(
        strength * cv2.resize(rng.standard_normal((cells, cells, 3)).astype(np.float32), (side, side),
                              interpolation=cv2.INTER_CUBIC)
        for cells, strength in ((6, 1.0), (12, 0.8), (24, 0.6), (48, 0.4), (96, 0.3))
    )  # fmt: skip
    picture = np.clip(128 + 40 * texture, 0, 255).astype(np.uint8)
    angle = rng.uniform(0, 2 * np.pi)
    frames = []
    for t in range(count):
        shift = np.array([[1, 0, 0.5 * t * np.cos(angle)], [0, 1, 0.5 * t * np.sin(angle)]])
        frames.append(cv2.warpAffine(picture, shift, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                     borderMode=cv2.BORDER_WRAP))  # fmt: skip
    return frames


def write(path: Path, frames: list[np.ndarray], *, fps: float = FPS, crf: int = 23, sound: bool = False) -> Path:
    """Encode RGB frames of even size as H.264 (MP4) or VP8 (WebM), by the suffix."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"deadline": "realtime"} if path.suffix == ".webm" else {"crf": str(crf), "preset": "veryfast"}
        audio = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            samples.sample_rate = 16000
            container.mux(audio.encode(samples))
            container.mux(audio.encode())
    return path


def read(path: Path) -> tuple[list[np.ndarray], float]:
    """All RGB frames and the frame rate."""
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], rate
