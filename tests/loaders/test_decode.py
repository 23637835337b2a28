import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from loaders.decode import DecodeError, decode_frames
from loaders.mp4_track import read_track
from loaders.packets import demuxed, index_packets, opened
from loaders.trim import trim
from warehouse.catalog.snapshots import Sample

KINDS = ["np", "pyramid", "pyramid_mkv", "intra_refresh", "vp9", "mjpeg", "mpeg4_avi"]
MakeSamples = Callable[[list[bytes]], list[Sample]]
PACKED = "odd/mmaction2/tests/data/test.avi"  # MPEG-4 with B-frames, two in a packet and then an empty one
REAL = Path(__file__).parents[3] / "shared" / "data"


def decode_everything(data: bytes) -> np.ndarray:
    reformatter = VideoReformatter()
    with av.open(io.BytesIO(data)) as container:
        frames = [reformatter.reformat(f, format="rgb24").to_ndarray() for f in container.decode(video=0)]
    return np.stack(frames)


def wanted_sets(frames: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    single = [[index] for index in range(0, frames, 7)] + [[frames - 1]]
    strided = [(int(rng.integers(0, frames - 8)) + np.arange(9) * stride) for stride in (1, 2, 3, 4) for _ in range(4)]
    return single + [sorted(set(np.minimum(ids, frames - 1).tolist())) for ids in strided]


@pytest.mark.parametrize("kind", KINDS)
def test_wanted_frames_are_those_of_full_decoding(
    kind: str, videos: dict[str, bytes], make_samples: MakeSamples
) -> None:
    data = videos[kind]
    (sample,) = make_samples([data])
    everything = decode_everything(data)
    assert len(everything) == sample.frames
    for wanted in wanted_sets(sample.frames):
        found = dict(decode_frames(sample, data, wanted))
        assert sorted(found) == wanted
        np.testing.assert_array_equal(np.stack([found[index] for index in wanted]), everything[wanted])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "intra_refresh"])
def test_trimmed_video_holds_the_same_frames(kind: str, videos: dict[str, bytes], make_samples: MakeSamples) -> None:
    data = videos[kind]
    (sample,) = make_samples([data])
    everything = decode_everything(data)
    for wanted in wanted_sets(sample.frames):
        clip = trim(sample, data, wanted)
        np.testing.assert_array_equal(decode_everything(clip.data)[list(clip.frame_ids)], everything[wanted])


@pytest.mark.parametrize("kind", ["np", "pyramid", "mjpeg"])
def test_trimmed_video_is_a_plain_mp4_on_an_even_clock(
    kind: str, videos: dict[str, bytes], make_samples: MakeSamples
) -> None:
    (sample,) = make_samples([videos[kind]])
    for wanted in wanted_sets(sample.frames):
        clip = trim(sample, videos[kind], wanted)
        with av.open(io.BytesIO(clip.data)) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            assert stream.time_base is not None
            ticks = round(1 / (30 * stream.time_base))
            assert sorted(packet.pts for packet in packets) == [ticks * n for n in range(len(packets))]
            assert all(packet.dts <= packet.pts and not packet.is_discard for packet in packets)
            assert packets[0].is_keyframe and container.duration == round(len(packets) / 30 * av.time_base)
        assert read_track(clip.data, len(packets)) is not None
        assert len(clip.data) < sum(packet.size for packet in packets) + 1500


def test_only_needed_packets_are_decoded(videos: dict[str, bytes], make_samples: MakeSamples) -> None:
    (sample,) = make_samples([videos["np"]])
    with opened(sample, videos["np"]) as (container, stream):
        packets = index_packets(stream, demuxed(container, stream), sample.frames)
        assert packets is not None
        # References lie at 0, 4, 8 … of a group of 32; the frames between them are disposable.
        assert len(packets.needed(range(0, 32, 4))) == 8
        assert len(packets.needed([32])) == 1
        assert len(packets.needed([33])) == 3  # keyframe, reference after it, itself


def test_of_frames_that_refer_to_none_just_the_wanted_are_decoded(
    videos: dict[str, bytes], make_samples: MakeSamples
) -> None:
    (sample,) = make_samples([videos["mjpeg"]])
    with opened(sample, videos["mjpeg"]) as (container, stream):
        packets = index_packets(stream, demuxed(container, stream), sample.frames)
        assert packets is not None and packets.needed([3, 9, 40]) == [3, 9, 40]


def test_frames_are_counted_where_packets_do_not_tell(videos: dict[str, bytes], make_samples: MakeSamples) -> None:
    (sample,) = make_samples([videos["pyramid"]])
    miscounted = dataclasses.replace(sample, frames=sample.frames - 3)
    found = dict(decode_frames(miscounted, videos["pyramid"], [5, 31]))
    np.testing.assert_array_equal(np.stack([found[5], found[31]]), decode_everything(videos["pyramid"])[[5, 31]])


def test_frames_of_a_format_without_times_are_counted(videos: dict[str, bytes], make_samples: MakeSamples) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as output:
        stream = output.add_stream("libx264", rate=30, options={"bf": "3", "g": "20"})
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for pixels in decode_everything(videos["np"]):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode(None))
    data = buffer.getvalue()
    (sample,) = make_samples([data])
    everything = decode_everything(data)
    assert len(everything) == sample.frames
    for wanted in wanted_sets(sample.frames):
        found = dict(decode_frames(sample, data, wanted))
        np.testing.assert_array_equal(np.stack([found[index] for index in wanted]), everything[wanted])
        clip = trim(sample, data, wanted)
        np.testing.assert_array_equal(decode_everything(clip.data)[list(clip.frame_ids)], everything[wanted])


def test_frames_come_in_the_stored_size(videos: dict[str, bytes], make_samples: MakeSamples) -> None:
    (sample,) = make_samples([videos["np"]])
    ((_, frame),) = decode_frames(dataclasses.replace(sample, width=48, height=36), videos["np"], [3])
    assert frame.shape == (36, 48, 3) and frame.dtype == np.uint8


@pytest.mark.parametrize("broken", ["garbage", "truncated", "sound", "too_few_frames"])
def test_errors_name_clip_and_shard(broken: str, videos: dict[str, bytes], make_samples: MakeSamples) -> None:
    data = videos["np"]
    (sample,) = make_samples([data])
    if broken == "garbage":
        data = b"not a video" * 100
    elif broken == "truncated":
        data = data[: len(data) // 2]
    elif broken == "sound":
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="wav") as output:
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
            sound.sample_rate = 8000
            output.mux(output.add_stream("pcm_s16le", rate=8000, layout="mono").encode(sound))
        data = buffer.getvalue()
    else:
        sample = dataclasses.replace(sample, frames=500)
    with pytest.raises(DecodeError, match="clip-00") as raised:
        list(decode_frames(sample, data, [4, 400]))
    assert str(sample.shard) in str(raised.value)


@pytest.mark.parametrize("name", ["ut_interaction/set1/0_1_4.avi", "asl_words/asl_gestures/milk.mkv", PACKED])
def test_real_video(name: str, make_samples: MakeSamples) -> None:
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{path} is absent: real video for tests is not part of the project")
    data = path.read_bytes()
    everything = decode_everything(data)
    frames, height, width, _ = everything.shape
    sample = dataclasses.replace(make_samples([data])[0], frames=frames, height=height, width=width)
    assert sample.sha256 == hashlib.sha256(data).hexdigest()
    for wanted in ([0, 4, 8], [17, 21, 25, 40], [frames - 1]):
        found = dict(decode_frames(sample, data, wanted))
        np.testing.assert_array_equal(np.stack([found[index] for index in wanted]), everything[wanted])
