"""Clips of ten seconds for ``benchmarks.decode``, each stored in three ways, in tars with the catalog's rows of them.

Real clips where there are any: ten scenes of the folder that ``--videos`` names. Seven are ten seconds of one video
(two are clips of Kinetics, one is animated), three are short clips of one set, one after the other. What is shorter is
played forward and back until ten seconds are full, as are the rendered ones that are made where there is no real video.
Everything is first brought to a short side of at most 256, and that picture is the source: what each way of storing it
loses is measured against it.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from tqdm import tqdm

from warehouse.catalog.sample import Sample
from warehouse.corpus.build import build
from warehouse.media_file import MediaFile
from warehouse.shards.encoding import encode
from warehouse.shards.quality import luma, psnr
from warehouse.shards.rendition import CONTRACTS, fit_sides
from warehouse.shards.tar_file import writing

SECONDS, STRIDE = 10, 4
GOP32, GOP250, NP256 = "GOP 32", "GOP 250", "np256"
_LONGEST, _CRF = {GOP32: "32", GOP250: "250"}, "22"
_CORPUS_CLIPS, _CORPUS_SEED, _RENDERED = 24, 2, 8


@dataclass(frozen=True)
class Scene:
    """Ten seconds of one or several videos: frames from the ``first`` of each on, every ``step``-th."""

    name: str
    paths: tuple[Path, ...]
    fps: int
    first: int = 0
    step: int = 1
    sides: tuple[int, int] | None = None


@dataclass(frozen=True)
class Stored:
    """All clips stored in one way: rows of the catalog, bytes in all, and the mean luma PSNR against the source, dB."""

    samples: tuple[Sample, ...]
    bytes: int
    psnr: float


def scenes(videos: Path) -> tuple[list[Scene], bool]:
    """The scenes, and whether they are real. A scene with a video that is absent is an error if any is there."""
    odd, signs, fights = videos / "odd", videos / "asl_words", videos / "ut_interaction"
    if not odd.is_dir():
        return [], False
    bunny = "exoplayer/extensions/media2/src/androidTest/res/raw/video_big_buck_bunny.mp4"
    skyline = "exoplayer/mp4/sample_with_increasing_timestamps_320w_240h.mp4"
    found = [
        Scene("pool (Kinetics)", (odd / "mmaction2/tests/data/test.mp4",), 30),
        Scene("pancake (Kinetics)", (odd / "decord/examples/flipping_a_pancake.mkv",), 30),
        Scene("skyline, panned", (odd / skyline,), 30, step=2),
        Scene("box in hands", (odd / "opencv-doc/box.mp4",), 30),
        Scene("bottles", (signs / "bottle-detection.mp4",), 30, first=150),
        Scene("aeroplane, airfield", (odd / "moviepy/video_with_failing_audio.mp4",), 25),
        Scene("animation", (odd / bunny,), 24),
        Scene("signs", tuple(sorted((signs / "asl_gestures").glob("*.mkv"))), 30),
        Scene("interactions 1", tuple(sorted((fights / "set1").glob("1_*.avi"))), 30, sides=(340, 256)),
        Scene("interactions 2", tuple(sorted((fights / "set2").glob("*.avi"))), 30, sides=(340, 256)),
    ]
    for scene in found:
        if not scene.paths or not all(path.is_file() for path in scene.paths):
            raise FileNotFoundError(f"scene {scene.name!r} is incomplete in {videos}: give another folder by --videos")
    return found, True


def rendered(work: Path) -> list[Scene]:
    """Scenes of an embedded corpus, for where there is no real video."""
    build(work, _CORPUS_CLIPS, _CORPUS_SEED)
    paths = sorted(path for path in work.rglob("*") if path.suffix in (".mp4", ".webm"))[:_RENDERED]
    return [Scene(path.stem, (path,), 25, sides=(340, 256)) for path in paths]


def store(scenes: Sequence[Scene], work: Path) -> dict[str, Stored]:
    """Encode the scenes in the three ways and write a tar of each; by name of the way.

    GOP 32 and GOP 250 are x264's preset ``medium`` with no other settings than the longest group, as re-encoded and
    downloaded collections are, at the CRF that gives them the PSNR of ``np256`` on the real scenes.
    """
    ways = (GOP32, GOP250, NP256)
    encoded: dict[str, list[bytes]] = {way: [] for way in ways}
    noise: dict[str, list[float]] = {way: [] for way in ways}
    for scene in tqdm(scenes, desc="scenes stored in three ways"):
        source_pictures = list(islice(pictures(scene), scene.fps * SECONDS))
        source = work / "source.mp4"
        source.write_bytes(x264(source_pictures, scene.fps, {"preset": "ultrafast", "qp": "0"}))
        for way in ways:
            if way == NP256:
                data = encode(MediaFile(str(source)), "np256", STRIDE, scene.fps).data
            else:
                data = x264(source_pictures, scene.fps, {"preset": "medium", "crf": _CRF, "g": _LONGEST[way]})
            encoded[way].append(data)
            noise[way].append(_psnr(source_pictures, data))
        source.unlink()
    return {
        way: Stored(_shard(work / f"{way.replace(' ', '')}.tar", encoded[way]), sum(map(len, encoded[way])),
                    float(np.mean(noise[way])))
        for way in ways
    }  # fmt: skip


def pictures(scene: Scene) -> Iterator[av.VideoFrame]:
    """The scene in yuv420p of BT.601, endless: forward and back."""
    forward = list(islice(_frames(scene), scene.fps * SECONDS))
    yield from cycle(forward + forward[-2:0:-1])


def _frames(scene: Scene) -> Iterator[av.VideoFrame]:
    scaler, colours = VideoReformatter(), VideoReformatter()
    sides = scene.sides
    for path in scene.paths:
        with av.open(path, metadata_errors="replace") as container:
            for frame in islice(container.decode(video=0), scene.first, None, scene.step):
                sides = sides or fit_sides(frame.width, frame.height, CONTRACTS[NP256].short_side)
                small = scaler.reformat(
                    frame, *sides, "yuv420p", interpolation="AREA", dst_color_range=ColorRange.MPEG, threads=1
                )
                yield colours.reformat(small, dst_colorspace=Colorspace.ITU601, threads=1)


def x264(frames: Sequence[av.VideoFrame], fps: int, options: dict[str, str]) -> bytes:
    """An MP4 of the frames by x264 on one thread."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(frames):
            picture.pts, picture.time_base, picture.pict_type = number, Fraction(1, fps), 0
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def _psnr(source: Sequence[av.VideoFrame], data: bytes) -> float:
    with av.open(io.BytesIO(data)) as container:
        stored = container.decode(video=0)
        return float(np.mean([psnr(luma(a), luma(b)) for a, b in zip(source, stored, strict=True)]))


def _shard(path: Path, clips: Sequence[bytes]) -> tuple[Sample, ...]:
    digests = [hashlib.sha256(data).hexdigest() for data in clips]
    with writing(path) as tar:
        members = [tar.add(f"{number:032x}.mp4", data) for number, data in enumerate(clips)]
        tar.finish(digests)
    samples = []
    for number, (member, data, digest) in enumerate(zip(members, clips, digests, strict=True)):
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            samples.append(
                Sample(
                    f"{number:032x}", "benchmark", "train", 0, 1.0, STRIDE, path.absolute(), member.offset, member.size,
                    digest, stream.codec.canonical_name, float(stream.average_rate or 0), stream.frames, stream.width,
                    stream.height,
                )
            )  # fmt: skip
    return tuple(samples)
