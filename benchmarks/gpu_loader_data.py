"""Ten-second clips for ``benchmarks.gpu_loader``, stored in the ways that it compares, in tars with the catalog's rows.

The pictures are rendered: a texture that the camera moves over, another one in each clip. NVDEC's work depends on the
size and the structure of the stream, and little on what is shown; the benchmark prints the bytes of a clip.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from warehouse.catalog.sample import Sample
from warehouse.shards.encoding import encoder_options
from warehouse.shards.rendition import CONTRACTS
from warehouse.shards.tar_file import writing

STRIDE, FPS = 4, 30
NP256, WIDE, NO_B = "np256", "np256, sides multiples of 16", "no B-frames"


@dataclass(frozen=True)
class ClipShape:
    """What is stored: so many frames, of (width, height); in ``WIDE`` both are rounded up to multiples of 16."""

    codec: str
    frames: int
    sides: tuple[int, int]


def store(work: Path, clips: int, shape: ClipShape) -> dict[str, list[Sample]]:
    """Encode ``clips`` clips in each way and write a tar of each; their samples by name of the way."""
    width, height = (-(-side // 16) * 16 for side in shape.sides)
    encoded: dict[str, list[bytes]] = {NP256: [], WIDE: [], NO_B: []}
    for number in range(clips):
        pictures = list(_pictures(number, shape.frames, *shape.sides))
        encoded[NP256].append(_encode(pictures, shape.codec, {}))
        encoded[NO_B].append(_encode(pictures, shape.codec, {"bf": "0"}))
        encoded[WIDE].append(_encode(list(_pictures(number, shape.frames, width, height)), shape.codec, {}))
    return {way: _shard(work / f"{number}.tar", clips) for number, (way, clips) in enumerate(encoded.items())}


def _pictures(seed: int, frames: int, width: int, height: int) -> Iterator[av.VideoFrame]:
    """In yuv420p of BT.601, as ``np256`` stores it."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(0, 256, (24, 24, 3), np.uint8), (1024, 1024), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.integers(0, 256, (1024, 1024, 3), np.uint8), (0, 0), 1.5)
    texture = cv2.addWeighted(coarse, 0.7, fine, 0.6, -40)
    turn, zoom, drift = rng.uniform(-0.4, 0.4), rng.uniform(0.002, 0.006), rng.uniform(-1.5, 1.5, 2)
    colours = VideoReformatter()
    for number in range(frames):
        matrix = cv2.getRotationMatrix2D((512, 512), turn * number, 1 + zoom * (number % 150))
        matrix[:, 2] += drift * number + (width / 2 - 512, height / 2 - 512)
        shown = cv2.warpAffine(texture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
        frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
        yield colours.reformat(
            frame, format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG, threads=1
        )


def _encode(pictures: Sequence[av.VideoFrame], codec: str, options: dict[str, str]) -> bytes:
    contract = CONTRACTS["np256" if codec == "h264" else "mjpeg-strided"]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        settings = encoder_options(contract, STRIDE) | (options if codec == "h264" else {"strict": "unofficial"})
        stream = output.add_stream("libx264" if codec == "h264" else codec, rate=FPS, options=settings)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(pictures):
            picture.pts, picture.time_base, picture.pict_type = number, Fraction(1, FPS), 0
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def _shard(path: Path, clips: Sequence[bytes]) -> list[Sample]:
    digests = [hashlib.sha256(data).hexdigest() for data in clips]
    with writing(path) as tar:
        members = [tar.add(f"{number:032x}.mp4", data) for number, data in enumerate(clips)]
        tar.finish(digests)
    samples = []
    for member, data, digest in zip(members, clips, digests, strict=True):
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            samples.append(
                Sample(
                    clip_id=member.name.partition(".")[0], source="benchmark", split="train", class_id=None, weight=1.0,
                    stride=STRIDE, shard=path.absolute(), offset=member.offset, size=member.size, sha256=digest,
                    codec=stream.codec.canonical_name, fps=float(FPS), frames=stream.frames, width=stream.width,
                    height=stream.height,
                )
            )  # fmt: skip
    return samples
