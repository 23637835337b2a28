"""Whether encoded bytes meet a rendition's contract: by their packets, without decoding a picture."""

from dataclasses import dataclass
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import ColorRange

from warehouse.shards.h264 import is_disposable, is_idr, nal_length_bytes
from warehouse.shards.rendition import SIDE_MULTIPLE, Contract
from warehouse.video import DECODER_ERRORS

# AVColorSpace of BT.601 (470BG and SMPTE 170M are one matrix), and "unspecified", which decoders here take for it.
_BT601 = frozenset((2, 5, 6))


@dataclass(frozen=True)
class Conformity:
    """What was found: ``width`` and ``height`` in pixels, ``fps``, ``frames``, and ``breach``, the first of the fields
    that is not as the contract has it, in words; ``None`` if the bytes meet it.
    """

    width: int = 0
    height: int = 0
    fps: float = 0.0
    frames: int = 0
    breach: str | None = None


def examine(file: BinaryIO, contract: Contract, stride: int, frames: int) -> Conformity:
    """Probe a video, given as an open file, against a contract, for a source with ``stride``.

    Args:
        frames: frames that were decoded of the clip in its source. What a stream says of its packets is trusted, and a
            file that was not encoded here has to be one that was decoded whole.
    """
    try:
        with av.open(file, "r", metadata_errors="replace") as container:
            if len(container.streams) != 1 or len(container.streams.video) != 1:
                return Conformity(breach=f"streams: {[stream.type for stream in container.streams]}, not one of video")
            if not container.format.name.startswith("mov,mp4"):
                return Conformity(breach=f"container: {container.format.name}, not mp4")
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            context = stream.codec_context
            breach = _picture_breach(context, contract) or _time_breach(packets, contract, stride, frames)
            breach = breach or _structure_breach(context, packets, contract, stride)
            rate = stream.average_rate or stream.guessed_rate
            return Conformity(context.width, context.height, float(rate or 0), len(packets), breach)
    except DECODER_ERRORS as error:
        return Conformity(breach=f"container: {error}")


def _picture_breach(context: av.VideoCodecContext, contract: Contract) -> str | None:
    width, height = context.width, context.height
    if context.codec.canonical_name != contract.codec:
        return f"codec: {context.codec.canonical_name}, not {contract.codec}"
    if min(width, height) > contract.short_side:
        return f"short side: {min(width, height)}, more than {contract.short_side}"
    if width % SIDE_MULTIPLE or height % SIDE_MULTIPLE:
        return f"sides: {width}x{height}, not multiples of {SIDE_MULTIPLE}"
    if context.pix_fmt != contract.pixel_format:
        return f"pixel format: {context.pix_fmt}, not {contract.pixel_format}"
    wanted = (ColorRange.JPEG,) if contract.full_range else (ColorRange.MPEG, ColorRange.UNSPECIFIED)
    if context.color_range not in wanted:
        return f"colour range: {context.color_range}, not {'full' if contract.full_range else 'limited'}"
    if context.colorspace not in _BT601:
        return f"colour matrix: {context.colorspace}, not BT.601"
    return None


def _time_breach(packets: list[av.Packet], contract: Contract, stride: int, frames: int) -> str | None:
    wanted = contract.stored_frames(frames, stride)
    if len(packets) != wanted or any(packet.is_discard for packet in packets):
        return f"frame count: {sum(not packet.is_discard for packet in packets)}, not {wanted}"
    if any(packet.pts is None for packet in packets):
        return "frame rate: packets without a time"
    steps = np.diff(sorted(packet.pts for packet in packets if packet.pts is not None))
    if len(steps) and steps.min() != steps.max():
        return f"frame rate: not constant, steps of {steps.min()} to {steps.max()} ticks"
    if len(steps) and steps[0] == 0:
        return "frame rate: frames at one time"
    return None


def _structure_breach(
    context: av.VideoCodecContext, packets: list[av.Packet], contract: Contract, stride: int
) -> str | None:
    """Key frames where they should be, closed groups, and disposable frames between those that the stride wants."""
    times = np.array([packet.pts for packet in packets])
    shown = np.argsort(times)  # packets in the order they are shown
    keys = np.array([packets[place].is_keyframe for place in shown])
    starts = np.flatnonzero(keys)
    if not len(starts) or starts[0] != 0:
        return "group of pictures: the first frame is no key frame"
    step, longest = contract.stored_stride(stride), contract.gop_length(stride)
    if (starts % step).any():
        return f"group of pictures: key frame {starts[starts % step > 0][0]} is no multiple of the stride {step}"
    lengths = np.diff(starts, append=len(packets))
    if lengths.max() > longest:
        return f"group of pictures: {lengths.max()} frames, more than {longest}"
    if contract.codec != "h264":
        return None
    length_bytes = nal_length_bytes(context)
    # In the order of decoding: what comes after a key frame is shown after it.
    for place in (i for i, packet in enumerate(packets) if packet.is_keyframe):
        if not is_idr(packets[place], length_bytes) or (times[place:] < times[place]).any():
            return f"group of pictures: that of the frame at tick {times[place]} is not closed"
    if contract.disposable:
        frames = np.arange(len(packets))
        last = np.append(keys[1:], True)
        for frame in frames[(frames % contract.reference_step(stride) > 0) & ~last]:
            if not is_disposable(packets[shown[frame]], length_bytes):
                return f"disposable frames: others refer to frame {frame}, which stride {step} does not want"
    return None
