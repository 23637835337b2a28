"""Renditions: what is stored meets its contract, what meets it already is stored untouched, what breaks it is named."""

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from rendered_clips import drifting, read, write
from shard_plans import member, plan

from warehouse import steps
from warehouse.catalog.snapshots import Sample, open_snapshot, take_snapshot
from warehouse.config import load
from warehouse.media_file import MediaFile
from warehouse.probing import probe_sources
from warehouse.shards import encoding, writer
from warehouse.shards.conformance import Conformity, examine
from warehouse.shards.encoding import encode
from warehouse.shards.errors import RenditionError
from warehouse.shards.executing import execute_plans
from warehouse.shards.h264 import is_disposable, nal_length_bytes
from warehouse.shards.reader import read_sample
from warehouse.shards.rendition import CONTRACTS, RENDITIONS, fit_sides, stored_stride
from warehouse.shards.writer import write_shards
from warehouse.store import Store

NP = CONTRACTS["np256"]
FRAMES = 70


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 frames, so that the last group of pictures is a short one."""
    return write(tmp_path_factory.mktemp("clips") / "a.mp4", drifting(0, count=FRAMES), crf=15)


def decoded(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7, 20, 40])
@pytest.mark.parametrize("rendition", CONTRACTS)
def test_what_is_encoded_meets_the_contract_and_shows_the_frames(clip: Path, rendition: str, stride: int) -> None:
    encoded = encode(MediaFile(str(clip)), rendition, stride, 25.0)
    contract = CONTRACTS[rendition]
    step = stride if contract.strided else 1
    found = examine(io.BytesIO(encoded.data), contract, stride, FRAMES)
    assert found == Conformity(96, 72, float(Fraction(25, step)), len(range(0, FRAMES, step)))
    assert stored_stride(rendition, stride) == stride // step
    assert cv2.PSNR(decoded(encoded.data), np.stack(read(clip)[0][::step])) > 33


@pytest.mark.parametrize("stride", [2, 4, 20])
def test_frames_between_those_of_the_stride_can_be_left_out_of_decoding(clip: Path, stride: int) -> None:
    data = encode(MediaFile(str(clip)), "np256", stride, 25.0).data
    whole = decoded(data)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        length_bytes = nal_length_bytes(stream.codec_context)
        packets = [packet for packet in container.demux(stream) if packet.size]
        frame_at = {time: i for i, time in enumerate(sorted(p.pts for p in packets))}
        needed = [p for p in packets if not is_disposable(p, length_bytes)]
        shown = {f.pts: f.to_ndarray(format="rgb24") for p in (*needed, None) for f in stream.decode(p)}
    places = sorted(frame_at[time] for time in shown)
    assert set(range(0, FRAMES, stride)) <= set(places)
    assert len(places) <= FRAMES // min(stride, 10) + 1 + FRAMES // NP.gop_length(stride) + 1
    for time, picture in shown.items():
        np.testing.assert_array_equal(picture, whole[frame_at[time]])


@pytest.mark.parametrize("rendition", CONTRACTS)
def test_equal_input_gives_equal_bytes(clip: Path, rendition: str) -> None:
    # libx264's macroblock tree made other bytes in most of such runs; see encoder_options.
    assert len({encode(MediaFile(str(clip)), rendition, 2, 25.0).data for _ in range(12)}) == 1


def test_sides_are_even_and_of_whole_macroblocks_where_the_picture_is_scaled_anyway() -> None:
    assert fit_sides(340, 256, 256) == (340, 256) and fit_sides(320, 240, 256) == (320, 240)
    assert fit_sides(1920, 1080, 256) == (448, 256) and fit_sides(1080, 1920, 256) == (256, 448)
    assert fit_sides(640, 480, 256) == (336, 256) and fit_sides(257, 257, 256) == (256, 256)
    assert fit_sides(95, 71, 256) in {(96, 72), (94, 70), (96, 70), (94, 72)} and fit_sides(1, 1, 256) == (2, 2)


def test_colours_of_high_definition_become_those_that_every_decoder_assumes(tmp_path: Path) -> None:
    # Saturated stripes, coded by the matrix of high definition (BT.709) and marked so.
    stripes = np.repeat(np.array([[220, 30, 30], [30, 200, 40], [40, 50, 210]], np.uint8), 32, axis=0)
    pictures = [np.roll(np.tile(stripes, (72, 1, 1)), 4 * t, axis=1) for t in range(12)]
    path = tmp_path / "hd.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, ColorRange.MPEG
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv444p", dst_colorspace="ITU709")))
        container.mux(stream.encode(None))
    data = encode(MediaFile(str(path)), "np256", 4, 25.0).data
    with av.open(io.BytesIO(data)) as container:
        planes = np.stack([frame.to_ndarray() for frame in container.decode(video=0)])
    # As a decoder does it that looks at no mark: BT.601, limited range (as OpenCV has it).
    shown = np.stack([cv2.cvtColor(picture, cv2.COLOR_YUV2RGB_I420) for picture in planes])
    inside = (np.arange(96)[None] - 4 * np.arange(12)[:, None]) % 32
    keep = np.broadcast_to(((inside > 4) & (inside < 28))[:, None], (12, 72, 96))
    assert np.abs(shown.astype(int) - np.stack(pictures))[keep].mean() < 4


def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    with pytest.raises(RenditionError, match=r"broken\.mp4"):
        encode(MediaFile(str(broken)), "np256", 4, 25.0)
    # A playlist that names a good clip is none itself, here as when it is probed.
    write(tmp_path / "good.mp4", drifting(1, count=10))
    broken.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ngood.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(RenditionError, match=r"broken\.mp4.*unreadable_container"):
        encode(MediaFile(str(broken)), "np256", 4, 25.0)


def structure(**changes: str) -> str:
    settings = {"keyint": "32", "min-keyint": "32", "scenecut": "0", "open-gop": "0", "bframes": "3", "b-adapt": "0",
                "b-pyramid": "none"}  # fmt: skip
    return ":".join(f"{name}={value}" for name, value in (settings | changes).items())


def video(
    path: Path,
    parameters: str = "",
    *,
    width: int = 96,
    height: int = 72,
    pixel_format: str = "yuv420p",
    full_range: bool = False,
    matrix: int = 2,
    sound: bool = False,
    gap: int = FRAMES,
) -> Path:
    """Not made by our encoder: FRAMES frames of H.264 in MP4; one is missing before frame ``gap``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": parameters or structure()})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
        stream.codec_context.colorspace = matrix
        audio = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for number, picture in enumerate(drifting(3, count=FRAMES, height=height, width=width)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = number + (number >= gap), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16000
            container.mux(audio.encode(silence))
            container.mux(audio.encode(None))
    return path


BREACHES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "another container": ("container: matroska", lambda path: video(path.with_suffix(".mkv"))),
    "another codec": ("codec: vp9", lambda path: _vp9(path)),
    "sound": ("streams: ", lambda path: video(path, sound=True)),
    "too large": ("short side: 270", lambda path: video(path, width=288, height=270)),
    "pixels": ("pixel format: yuv444p", lambda path: video(path, pixel_format="yuv444p")),
    "range": ("pixel format: yuvj420p", lambda path: video(path, full_range=True)),
    "matrix": ("colour matrix: 1", lambda path: video(path, matrix=1)),
    "variable rate": ("frame rate: not constant", lambda path: video(path, gap=10)),
    "long groups": ("group of pictures: 40 frames", lambda path: video(path, structure(keyint="40"))),
    "groups off the stride": (
        "group of pictures: key frame 30 is no multiple",
        lambda path: video(path, structure(**{"keyint": "30", "min-keyint": "30"})),
    ),
    "open groups": ("group of pictures: that of", lambda path: video(path, structure(**{"open-gop": "1"}))),
    "pyramid": ("disposable frames: ", lambda path: video(path, structure(**{"b-pyramid": "normal"}))),
    "no B-frames": ("disposable frames: ", lambda path: video(path, structure(bframes="0"))),
    "other stride": ("disposable frames: ", lambda path: video(path, structure(bframes="2"))),
}


def _vp9(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for picture in drifting(3, count=FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("case", BREACHES)
def test_a_file_that_breaks_the_contract_in_one_field_is_encoded(tmp_path: Path, case: str) -> None:
    words, make = BREACHES[case]
    path = make(tmp_path / "clip.mp4")
    with path.open("rb") as file:
        assert (examine(file, NP, 4, FRAMES).breach or "").startswith(words)
    shard = plan(tmp_path / "shards", [path], "np256")
    [sidecar] = write_shards([shard])
    [stored] = sidecar.members
    assert stored.encoded and stored.codec == "h264" and stored.frames == FRAMES
    with shard.tar.open("rb") as file:
        file.seek(stored.offset)
        assert examine(io.BytesIO(file.read(stored.size)), NP, 4, FRAMES).breach is None


def test_a_file_that_meets_the_contract_is_stored_untouched(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4")
    by_stride = {stride: write_shards([plan(tmp_path / str(stride), [path], "np256", stride)])[0].members[0]
                 for stride in (1, 2, 4, 8)}  # fmt: skip
    # Made for stride 4, which serves its divisors too; stride 8 wants nothing to refer to frames 4, 12, 20, …
    assert {stride: stored.encoded for stride, stored in by_stride.items()} == {1: False, 2: False, 4: False, 8: True}
    shard = plan(tmp_path / "4", [path], "np256")
    assert by_stride[4].sha256 == shard.members[0].sha256 and path.read_bytes() in shard.tar.read_bytes()
    assert (by_stride[4].width, by_stride[4].height, by_stride[4].fps, by_stride[4].frames) == (96, 72, 25.0, FRAMES)
    # What a rendition has stored it would store again, also of a tar, and not of an interval.
    again = tmp_path / "again.mp4"
    again.write_bytes(encode(MediaFile(str(path)), "mjpeg-strided", 1, 25.0).data)
    [stored] = write_shards([plan(tmp_path / "mjpeg", [again], "mjpeg-strided", 1)])[0].members
    assert not stored.encoded
    part = replace(plan(tmp_path / "part", [path], "np256"), members=(
        member("0" * 32, MediaFile(str(path), from_ms=0, to_ms=1000)),))  # fmt: skip
    assert write_shards([part])[0].members[0].encoded


def test_a_clip_that_breaks_the_contract_after_encoding_is_named(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = encoding.encoder_options(NP, 4)
    unsound = sound | {"x264-params": sound["x264-params"].replace("b-pyramid=none", "b-pyramid=normal")}
    monkeypatch.setattr(encoding, "encoder_options", lambda contract, stride: unsound)
    shard = plan(tmp_path, [clip], "np256")
    with pytest.raises(RenditionError, match=rf"a\.mp4.*{shard.members[0].clip_id}.*np256 \(disposable frames"):
        write_shards([shard])
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(writer, "encode", lambda media, *_: replace(encode(media, "np256", 4, 25.0), data=b"nothing"))
    with pytest.raises(RenditionError, match=r"np256 \(container: "):
        write_shards([shard])


def test_a_snapshot_of_strided_clips_counts_stored_frames(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for number in range(3):
        write(tmp_path / "videos" / f"{number}.mp4", drifting(number, count=50 + number))
    (tmp_path / "labels.csv").write_text("path,label,split\n0.mp4,a,train\n1.mp4,b,train\n2.mp4,a,val\n")
    (tmp_path / "sources.toml").write_text(
        '[reelhouse]\ndata_root = "data"\nworkers = 1\nrendition = "strided"\n'
        '[training]\npreset = "smoke"\npretrain = "all"\npost_pretrain = "all"\nfinetune = "all"\n'
        '[collections.all]\nsplits = ["train", "val"]\ntaxonomy = "kinds"\n[taxonomies.kinds]\n'
        '[sources.rendered]\nkind = "folder"\nmedia_root = "videos"\nannotations = "labels.csv"\n'
        'collections = ["all"]\nstride = 4\nlicence = "none"\n'
    )
    config = load(tmp_path / "sources.toml")
    store, [source] = Store(config.data_root), config.sources
    steps.list_source(store, source)
    probe_sources(store, config, [source], lambda progress: None)
    steps.search_duplicates(store, config)
    steps.decide(store, config)
    steps.label(store, config)
    steps.plan_source(store, config, source)
    execute_plans(store, config, [source], lambda progress: None)
    snapshot = take_snapshot(store, config, config.collections[0])
    [sample] = open_snapshot(store, snapshot["snapshot_id"], "val")
    assert isinstance(sample, Sample)
    assert (sample.stride, sample.frames, sample.fps) == (1, 13, 25 / 4)
    frames = read(tmp_path / "videos" / "2.mp4")[0]
    assert cv2.PSNR(decoded(read_sample(sample)), np.stack(frames[::4])) > 33
    assert {row["stride"] for row in store.rows("snapshot_clips")} == {1} and "strided" in RENDITIONS
