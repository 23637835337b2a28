"""Writing and reading the corpus's video files. Same frames, same bytes: one thread, no dates, no random ids."""

from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

from warehouse.corpus.motions import generator

# As a camera or a site would (`first`), and as somebody who saves a copy would (`again`). Without mbtree=0, libx264 of
# PyAV 18 gave other bytes now and then for the same small frames (96x72, 96x96, 112x84, 64x48), on one thread too.
QUALITIES: dict[str, dict[str, dict[str, str]]] = {
    ".mp4": {
        "first": {"preset": "veryfast", "crf": "19", "g": "50", "x264-params": "mbtree=0"},
        "again": {"preset": "medium", "crf": "31", "g": "250", "x264-params": "mbtree=0"},
    },
    ".webm": {
        "first": {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0", "g": "64"},
        "again": {"deadline": "realtime", "cpu-used": "6", "crf": "40", "b": "0", "g": "128"},
    },
}
_CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}


def write_video(
    path: Path, frames: NDArray[np.uint8], fps: int, quality: str = "first", index_first: bool = True
) -> None:
    """Encode RGB frames (T, H, W, 3), H and W even, as H.264 in .mp4 or VP9 in .webm.

    ``index_first`` puts an mp4's index before its data, as files for the web have it.
    """
    suffix = path.suffix
    options = {"fflags": "+bitexact"}
    if suffix == ".mp4" and index_first:
        options["movflags"] = "+faststart"
    with av.open(str(path), "w", format=suffix[1:], options=options) as container:
        stream = cast(
            av.VideoStream, container.add_stream(_CODECS[suffix], rate=fps, options=QUALITIES[suffix][quality])
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


def read_video(path: Path) -> tuple[NDArray[np.uint8], int]:
    """All frames of a file as RGB (T, H, W, 3), and its frames per second."""
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.uint8)
        rate = container.streams.video[0].average_rate
    if rate is None:
        raise ValueError(f"{path}: no frame rate; delete the file and make the corpus again")
    return frames, round(rate)


def write_sound(path: Path, seconds: float, key: str) -> None:
    """An mp4 with one AAC stream, a chord drawn from ``key``, and no video."""
    rate = 16000
    time = np.arange(int(seconds * rate), dtype=np.float32) / rate
    pitches = generator(key).uniform(200, 800, 3).astype(np.float32)
    chord = 0.2 * np.sin(2 * np.pi * pitches[:, None] * time).sum(0, keepdims=True, dtype=np.float32)
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        stream = cast(av.AudioStream, container.add_stream("aac", rate=rate, layout="mono"))
        frame = av.AudioFrame.from_ndarray(chord.astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
