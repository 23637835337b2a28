"""Renditions: named contracts for the encoded bytes that shards hold.

``np256`` is made for sampling every ``stride``-th frame: H.264 in which each frame between two that the stride
wants is a B-frame nobody refers to (no pyramid, hence the name), so a training clip decodes a fraction of the frames.
``original`` keeps a file's bytes untouched.
"""

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

SHORT_SIDE = 256
GOP = 32
# Part of a shard's fingerprint: raise it when the same input would give other bytes.
VERSION = 1


class RenditionError(RuntimeError):
    """A file that was readable when it was probed cannot be read now."""


@dataclass(frozen=True)
class Encoded:
    """An encoded video: its bytes, file suffix (with the dot) and stream facts (``fps`` in frames per second)."""

    data: bytes
    suffix: str
    codec: str
    width: int
    height: int
    fps: float
    frames: int


def encode_np256(path: Path, stride: int) -> Encoded:
    """Encode a file as ``np256``: short side at most 256, even sides, constant frame rate, no audio.

    One thread and fixed settings: the same file, stride and libx264 give the same bytes.

    Raises:
        RenditionError: the file cannot be decoded; names it.
    """
    target = io.BytesIO()
    try:
        with av.open(str(path), metadata_errors="replace") as source:
            stream = source.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            rate = Fraction(rate).limit_denominator(1001)
            frames = 0
            with av.open(target, "w", format="mp4", options={"fflags": "+bitexact"}) as sink:
                encoder = None
                reformatter = VideoReformatter()
                for frame in source.decode(stream):
                    if encoder is None:
                        width, height = fit_short_side(frame.width, frame.height)
                        encoder = sink.add_stream("libx264", rate=rate, options=x264_options(stride))
                        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
                        encoder.codec_context.thread_count = 1
                        encoder.time_base = 1 / rate
                    picture = reformatter.reformat(frame, width, height, "yuv420p", interpolation="AREA")
                    picture.pts, picture.time_base, picture.pict_type = frames, 1 / rate, 0
                    sink.mux(encoder.encode(picture))
                    frames += 1
                if encoder is None:
                    raise RenditionError(f"{path}: no frame could be decoded. Materialise `media` again.")
                sink.mux(encoder.encode(None))
    except (av.FFmpegError, OSError) as error:
        raise RenditionError(f"{path}: cannot be decoded any more ({error}). Materialise `media` again.") from error
    return Encoded(target.getvalue(), ".mp4", "h264", width, height, float(rate), frames)


def fit_short_side(width: int, height: int) -> tuple[int, int]:
    """The size with the short side at most 256 (never enlarged), sides rounded to even numbers of at least 2."""
    scale = min(1.0, SHORT_SIDE / min(width, height))
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def x264_options(stride: int) -> dict[str, str]:
    """Encoder options: ``stride - 1`` disposable B-frames between references, closed GOPs a multiple of the stride."""
    gop = max(stride, GOP // stride * stride)
    # mbtree: with it, equal input gave other bytes in each of 12 runs (libx264 of PyAV 18.1); without, always the same.
    parameters = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:b-adapt=0:b-pyramid=none:mbtree=0:threads=1"
    return {
        "preset": "fast",
        "crf": "20",
        "tune": "fastdecode",
        "bf": str(min(stride - 1, 16)),
        "x264-params": parameters,
    }
