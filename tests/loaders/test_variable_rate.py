"""Video with a variable frame rate: frames are counted, never timed, in the original and in the default rendition."""

import dataclasses
import hashlib
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from loaders.decode import decode_frames
from warehouse.catalog.samples import Sample
from warehouse.media_file import MediaFile
from warehouse.shards.encoding import encode

MakeSamples = Callable[[list[bytes]], list[Sample]]
FRAMES, STRIDE = 60, 4


def level(number: int) -> int:
    return 40 + 3 * number


def variable_rate() -> bytes:
    """Frames of one grey each, at 1 to 9 hundredths of a second from each other."""
    gaps = np.random.default_rng(0).integers(1, 10, FRAMES)
    times = np.cumsum(gaps) - gaps[0]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=100, options={"crf": "10", "x264-params": "keyint=24:bframes=2"})
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for number, time in enumerate(times.tolist()):
            frame = av.VideoFrame.from_ndarray(np.full((72, 96, 3), level(number), np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def gaps_of(data: bytes) -> set[int]:
    with av.open(io.BytesIO(data)) as container:
        times = sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)
    return set(np.diff(times).tolist())


def test_frames_are_found_by_their_number_whatever_their_time(make_samples: MakeSamples, tmp_path: Path) -> None:
    original = variable_rate()
    assert len(gaps_of(original)) > 5
    (tmp_path / "variable.mp4").write_bytes(original)
    stored = encode(MediaFile(str(tmp_path / "variable.mp4")), "np256", STRIDE, fps=20.0).data
    assert len(gaps_of(stored)) == 1  # a constant rate, and every frame
    wanted = [0, 7, 8, 29, 44, FRAMES - 1]
    for data in (original, stored):
        (sample,) = make_samples([data])
        sample = dataclasses.replace(sample, sha256=hashlib.sha256(data).hexdigest(), frames=FRAMES)
        found = dict(decode_frames(sample, data, wanted))
        means = [float(found[number].mean()) for number in wanted]
        np.testing.assert_allclose(means, [level(number) for number in wanted], atol=1.4)  # the next is 3 away
