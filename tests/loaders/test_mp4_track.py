import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from loaders.decode import decode_frames
from loaders.mp4_track import read_track
from warehouse.catalog.sample import Sample

FRAMES = 60  # of each of the videos
PLAIN = ["np", "pyramid", "mjpeg"]
MakeSamples = Callable[[list[bytes]], list[Sample]]


def remuxed(
    data: bytes, path: Path, movflags: str = "negative_cts_offsets", tracks: int = 1, gaps: bool = False
) -> bytes:
    """The packets of a video in another MP4, as so many tracks; with gaps, the time between frames varies."""
    with av.open(io.BytesIO(data)) as source, av.open(path, "w", options={"movflags": movflags}) as output:
        stream = source.streams.video[0]
        targets = [output.add_stream_from_template(stream) for _ in range(tracks)]
        for packet in list(source.demux(stream)):
            if packet.size:
                assert packet.pts is not None and packet.dts is not None
                for target in targets:
                    copy = av.Packet(bytes(packet))
                    copy.stream, copy.time_base, copy.is_keyframe = target, packet.time_base, packet.is_keyframe
                    copy.pts, copy.dts = (time + gaps * 7 * (time // 2048) for time in (packet.pts, packet.dts))
                    output.mux(copy)
    return path.read_bytes()


def with_colours(data: bytes, matrix: int, full_range: bool) -> bytes:
    """An MP4 that ends with its tables, and states colours in the sample entry."""
    stated = b"nclx" + (2).to_bytes(2, "big") * 2 + matrix.to_bytes(2, "big") + bytes([full_range << 7])
    box = (8 + len(stated)).to_bytes(4, "big") + b"colr" + stated
    entry = data.index(b"avc1", data.index(b"stsd")) - 4
    end = entry + int.from_bytes(data[entry : entry + 4], "big")
    grown = bytearray(data[:end] + box + data[end:])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(kind, data.index(b"moov") if kind != b"avc1" else entry) - 4
        grown[at : at + 4] = (int.from_bytes(grown[at : at + 4], "big") + len(box)).to_bytes(4, "big")
    return bytes(grown)


def assert_as_demuxed(data: bytes) -> None:
    track = read_track(data, FRAMES)
    assert track is not None
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert track.codec == stream.codec_context.codec.canonical_name
        assert track.extradata == stream.codec_context.extradata
    spans = zip(track.starts, track.sizes, strict=True)
    assert [data[start : start + size] for start, size in spans] == [bytes(packet) for packet in packets]
    assert list(track.keyframes) == [place for place, packet in enumerate(packets) if packet.is_keyframe]
    offset = packets[0].pts - track.times[0]  # type: ignore[operator]
    assert [time + offset for time in track.times] == [packet.pts for packet in packets]


@pytest.mark.parametrize("kind", PLAIN)
def test_tables_say_what_the_demuxer_says(kind: str, videos: dict[str, bytes], tmp_path: Path) -> None:
    assert_as_demuxed(videos[kind])
    assert_as_demuxed(remuxed(videos[kind], tmp_path / "faststart.mp4", "faststart"))
    assert_as_demuxed(remuxed(videos[kind], tmp_path / "gaps.mp4", gaps=True))


def test_frames_at_uneven_times_are_counted_as_they_follow_each_other(
    videos: dict[str, bytes], make_samples: MakeSamples, tmp_path: Path
) -> None:
    uneven = remuxed(videos["pyramid"], tmp_path / "gaps.mp4", gaps=True)
    (sample,) = make_samples([uneven])
    wanted = [0, 3, 7, 8, 29, 30, 31, FRAMES - 1]
    even, found = (dict(decode_frames(sample, data, wanted)) for data in (videos["pyramid"], uneven))
    for index in wanted:
        np.testing.assert_array_equal(found[index], even[index])


@pytest.mark.parametrize(("matrix", "full_range"), [(1, False), (6, True)])
def test_colours_that_the_container_states_reach_the_decoder(
    matrix: int, full_range: bool, videos: dict[str, bytes], make_samples: MakeSamples
) -> None:
    data = with_colours(videos["np"], matrix, full_range)
    assert_as_demuxed(data)
    (sample,) = make_samples([data])
    with av.open(io.BytesIO(data)) as container:
        expected = next(container.decode(video=0)).to_ndarray(format="rgb24")
    shown, plain = (dict(decode_frames(sample, video, [0]))[0] for video in (data, videos["np"]))
    np.testing.assert_array_equal(shown, expected)
    assert np.abs(shown.astype(int) - plain).mean() > 2  # as the clip itself states no colours, the container's count


@pytest.mark.parametrize("kind", ["pyramid_mkv", "vp9", "mpeg4_avi"])
def test_other_formats_are_left_to_the_demuxer(kind: str, videos: dict[str, bytes]) -> None:
    assert read_track(videos[kind], FRAMES) is None


def test_what_plays_otherwise_than_it_lies_there_is_left_to_the_demuxer(
    videos: dict[str, bytes], tmp_path: Path
) -> None:
    data = videos["pyramid"]
    assert read_track(data, FRAMES - 1) is None
    assert read_track(remuxed(data, tmp_path / "fragments.mp4", "frag_keyframe+empty_moov"), FRAMES) is None
    assert read_track(remuxed(data, tmp_path / "two.mp4", tracks=2), FRAMES) is None
    assert read_track(data[: len(data) // 2], FRAMES) is None
    edit = data.index(b"elst") + 4
    length, first, rate = edit + 8, edit + 12, edit + 16
    for place, value in ((length, 500), (first, 5000), (first, 0xFFFFFFFF), (rate, 0x20000)):
        cut = data[:place] + value.to_bytes(4, "big") + data[place + 4 :]
        assert read_track(cut, FRAMES) is None
    with av.open(io.BytesIO(data[:length] + (500).to_bytes(4, "big") + data[length + 4 :])) as container:
        shown = sum(not packet.is_discard for packet in container.demux(video=0) if packet.size)
        assert shown < FRAMES  # FFmpeg plays half a second of this, as the edit list says


@pytest.mark.parametrize("kind", PLAIN)
def test_damage_is_never_more_than_no_track(kind: str, videos: dict[str, bytes]) -> None:
    data = videos[kind]
    moov = data.index(b"moov")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for place in rng.integers(moov, len(data), 3):
            damaged[place] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))])
        track = read_track(bytes(damaged), FRAMES)
        refused += track is None
        if track is not None:
            assert len(track.starts) == len(track.sizes) == len(track.times) == FRAMES
            assert min(track.starts) >= 0 and set(track.keyframes) <= set(range(FRAMES))
            assert max(start + size for start, size in zip(track.starts, track.sizes, strict=True)) <= len(data)
    assert 100 < refused < 1400
