"""Encoding a clip to a rendition's contract: one thread and fixed settings, so equal input gives equal bytes."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from warehouse.error_classes import MediaError
from warehouse.media_file import MediaFile
from warehouse.shards.errors import RenditionError
from warehouse.shards.rendition import CONTRACTS, Contract, fit_sides
from warehouse.video import open_video, packet_digest, quarter_turns

FRAME_RATE = 25.0
"""Frames per second of a clip that has none: a single frame."""
SUFFIX = ".mp4"
_ENCODERS = {"h264": "libx264", "mjpeg": "mjpeg"}
_SMPTE170M = 6  # AVColorSpace of BT.601


@dataclass(frozen=True)
class Encoded:
    """An encoded video: its bytes, and ``packet_hash``, that of the packets it was made from, as in ``media``."""

    data: bytes
    packet_hash: str


def encode(media: MediaFile, rendition: str, stride: int, fps: float | None) -> Encoded:
    """Encode a clip for a rendition other than ``original``.

    Args:
        media: the clip; of an interval or a folder of frames, its frames alone.
        stride: frames from one sampled frame to the next.
        fps: frames per second, as probed (what a container declares may be far off).

    Raises:
        RenditionError: the file cannot be decoded; names it.
    """
    contract = CONTRACTS[rendition]
    target = io.BytesIO()
    step = stride if contract.strided else 1
    rate = (Fraction(fps or FRAME_RATE) / step).limit_denominator(1001)
    try:
        with (
            open_video(media) as source,
            av.open(target, "w", format="mp4", options={"fflags": "+bitexact"}) as sink,
        ):
            digest = packet_digest()
            encoder = None
            for number, picture in enumerate(contract_pictures(source.frames(digest), contract, step)):
                if encoder is None:
                    encoder = _encoder(sink, contract, stride, rate, picture)
                picture.pts, picture.time_base, picture.pict_type = number, 1 / rate, 0
                sink.mux(encoder.encode(picture))
            if encoder is None:
                raise RenditionError(f"{media.name}: no frame could be decoded. Materialise `media` again.")
            sink.mux(encoder.encode(None))
    except MediaError as error:
        raise RenditionError(f"{media.name}: cannot be read any more ({error}). Materialise `media` again.") from error
    except (av.FFmpegError, OSError) as error:
        raise RenditionError(f"{media.name}: cannot be encoded ({error}). Materialise `media` again.") from error
    return Encoded(target.getvalue(), digest.hexdigest())


def contract_pictures(frames: Iterator[av.VideoFrame], contract: Contract, step: int) -> Iterator[av.VideoFrame]:
    """Every ``step``-th frame, upright, in the size and the colours of the contract."""
    scaler, colours = VideoReformatter(), VideoReformatter()
    coded = None
    for number, frame in enumerate(frames):
        if number % step:
            continue
        coded = coded or fit_sides(frame.width, frame.height, contract.short_side)
        # The matrix is changed at the small size: swscale goes through RGB for that.
        picture = scaler.reformat(
            frame, *coded, "yuv420p", interpolation="AREA", dst_color_range=_range(contract), threads=1
        )
        picture = colours.reformat(picture, dst_colorspace=Colorspace.ITU601, threads=1)
        turns = quarter_turns(frame)
        yield _turn(picture, turns) if turns else picture


def _range(contract: Contract) -> ColorRange:
    return ColorRange.JPEG if contract.full_range else ColorRange.MPEG


def _turn(picture: av.VideoFrame, turns: int) -> av.VideoFrame:
    """A yuv420p picture of even sides after quarter turns counter-clockwise."""
    height, width = picture.height, picture.width
    planes = picture.to_ndarray()  # (height × 3 / 2, width): Y, then U and V, each of half the sides
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    turned = [np.rot90(plane, turns) for plane in (planes[:height], *chroma)]
    stacked = np.concatenate([plane.ravel() for plane in turned]).reshape(-1, turned[0].shape[1])
    return av.VideoFrame.from_ndarray(stacked, format="yuv420p")


def _encoder(
    sink: OutputContainer, contract: Contract, stride: int, rate: Fraction, picture: av.VideoFrame
) -> VideoStream:
    encoder = sink.add_stream(_ENCODERS[contract.codec], rate=rate, options=encoder_options(contract, stride))
    assert isinstance(encoder, VideoStream)
    encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuv420p"
    encoder.codec_context.thread_count = 1
    encoder.codec_context.color_range, encoder.codec_context.colorspace = _range(contract), _SMPTE170M
    encoder.time_base = 1 / rate
    return encoder


def encoder_options(contract: Contract, stride: int) -> dict[str, str]:
    """What FFmpeg's encoder is given: quality, and for H.264 the structure of a contract for a source's stride.

    CRF 20 and quantiser 4 are set so that little is lost: PSNR of 44 dB or more against the scaled source on real clips
    (docs/renditions.md). ``fastdecode`` leaves out what costs a decoder most (CABAC and the deblocking filter).
    """
    if contract.codec == "mjpeg":
        return {"qmin": "4", "qmax": "4"}
    gop, between = contract.gop_length(stride), contract.reference_step(stride) - 1
    # mbtree: with it, equal input gave other bytes in each of 12 runs (libx264 of PyAV 18.1); without, always the same.
    parameters = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:b-adapt=0:b-pyramid=none:mbtree=0:threads=1"
    return {"preset": "fast", "crf": "20", "tune": "fastdecode", "bf": str(between), "x264-params": parameters}
