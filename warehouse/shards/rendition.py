"""Renditions: named contracts for the encoded bytes that shards hold.

``np256`` is made for sampling every ``stride``-th frame: H.264 in which each frame between two that the stride
wants is a B-frame nobody refers to (no pyramid, hence the name), so a training clip decodes a fraction of the frames.
``original`` keeps a file's bytes untouched.
"""

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from warehouse.error_classes import MediaError
from warehouse.media_file import MediaFile
from warehouse.video import open_video, packet_digest, quarter_turns

SHORT_SIDE = 256
GOP = 32
# Part of a shard's fingerprint: raise it when the same input would give other bytes.
VERSION = 2
FRAME_RATE = 25.0
"""Frames per second of a clip that has none: a single frame."""


class RenditionError(RuntimeError):
    """A file that was readable when it was probed cannot be read now."""


@dataclass(frozen=True)
class Encoded:
    """An encoded video: its bytes, file suffix (with the dot) and stream facts (``fps`` in frames per second).

    ``packet_hash`` is that of the packets it was made from, as in ``media``.
    """

    data: bytes
    suffix: str
    codec: str
    width: int
    height: int
    fps: float
    frames: int
    packet_hash: str


def encode_np256(media: MediaFile, stride: int, fps: float | None) -> Encoded:
    """Encode a clip as ``np256``: upright, short side at most 256, even sides, constant frame rate, no audio.

    One thread and fixed settings: the same clip, stride, rate and libx264 give the same bytes.

    Args:
        media: the clip; of an interval or a folder of frames, its frames alone.
        stride: frames from one sampled frame to the next.
        fps: frames per second, as probed (what a container declares may be far off).

    Raises:
        RenditionError: the file cannot be decoded; names it.
    """
    target = io.BytesIO()
    rate = Fraction(fps or FRAME_RATE).limit_denominator(1001)
    try:
        with (
            open_video(media) as source,
            av.open(target, "w", format="mp4", options={"fflags": "+bitexact"}) as sink,
        ):
            frames, encoder, reformatter, digest = 0, None, VideoReformatter(), packet_digest()
            for frame in source.frames(digest):
                if encoder is None:
                    turns = quarter_turns(frame)
                    coded = fit_short_side(frame.width, frame.height)
                    encoder = sink.add_stream("libx264", rate=rate, options=x264_options(stride))
                    encoder.width, encoder.height = coded[::-1] if turns % 2 else coded
                    encoder.pix_fmt = "yuv420p"
                    encoder.codec_context.thread_count = 1
                    encoder.time_base = 1 / rate
                picture = reformatter.reformat(
                    frame, *coded, "yuv420p", interpolation="AREA", dst_color_range=ColorRange.MPEG
                )
                if turns:
                    picture = _turn(picture, turns)
                picture.pts, picture.time_base, picture.pict_type = frames, 1 / rate, 0
                sink.mux(encoder.encode(picture))
                frames += 1
            if encoder is None:
                raise RenditionError(f"{media.name}: no frame could be decoded. Materialise `media` again.")
            sink.mux(encoder.encode(None))
            width, height = encoder.width, encoder.height
    except MediaError as error:
        raise RenditionError(f"{media.name}: cannot be read any more ({error}). Materialise `media` again.") from error
    except (av.FFmpegError, OSError) as error:
        raise RenditionError(f"{media.name}: cannot be encoded ({error}). Materialise `media` again.") from error
    return Encoded(target.getvalue(), ".mp4", "h264", width, height, float(rate), frames, digest.hexdigest())


def _turn(picture: av.VideoFrame, turns: int) -> av.VideoFrame:
    """A yuv420p picture of even sides after quarter turns counter-clockwise."""
    height, width = picture.height, picture.width
    planes = picture.to_ndarray()  # (height × 3 / 2, width): Y, then U and V, each of half the sides
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    turned = [np.rot90(plane, turns) for plane in (planes[:height], *chroma)]
    stacked = np.concatenate([plane.ravel() for plane in turned]).reshape(-1, turned[0].shape[1])
    return av.VideoFrame.from_ndarray(stacked, format="yuv420p")


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
