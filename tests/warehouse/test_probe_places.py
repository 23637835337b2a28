"""Where a clip's video may lie: a tar's member, an interval of a longer video, a folder of frames; and turned ones."""

import io
import tarfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from rendered_clips import drifting, read, write
from shard_plans import member

from warehouse.curation.probe import ProbeResult, probe_and_hash
from warehouse.media_file import MediaFile
from warehouse.shards.encoding import encode
from warehouse.shards.errors import RenditionError
from warehouse.shards.shard_plan import ShardPlan
from warehouse.shards.writer import write_shards

FRAMES = 150


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds; x264's preset puts keyframes at the start alone."""
    return write(tmp_path_factory.mktemp("movie") / "movie.mp4", drifting(1, count=FRAMES), sound=True)


def hashes(result: ProbeResult, variant: str = "full") -> np.ndarray:
    """uint64 (frames, 4) in order of time."""
    rows = sorted((row for row in result.hashes if row["variant"] == variant), key=lambda row: row["t_ms"])
    return np.array([[row[f"h{i}"] for i in range(4)] for row in rows], np.uint64)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.bitwise_count(a ^ b).sum(-1, dtype=int).mean())


def frames_of(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_member_of_a_tar_is_read_in_place(movie: Path, tmp_path: Path) -> None:
    archive, plain = tmp_path / "clips.tar", probe_and_hash(MediaFile(str(movie)))
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("train/first.mp4", "../../" + "é" * 120 + ".mp4"):
            tar.add(movie, name)
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("empty.mp4"))
    before = sorted(tmp_path.iterdir())
    for name in ("train/first.mp4", "../../" + "é" * 120 + ".mp4"):
        assert probe_and_hash(MediaFile(str(archive), member=name)) == plain
    errors = {name: probe_and_hash(MediaFile(str(archive), member=name)).media["error_class"]
              for name in ("absent.mp4", "link.mp4", "empty.mp4")}  # fmt: skip
    assert errors == {"absent.mp4": "missing_file", "link.mp4": "missing_file", "empty.mp4": "empty_file"}
    cut = tmp_path / "cut.tar"
    cut.write_bytes(archive.read_bytes()[: movie.stat().st_size])
    assert probe_and_hash(MediaFile(str(cut), member="train/first.mp4")).media["error_class"] == "truncated"
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(b"no archive" * 1000)
    assert probe_and_hash(MediaFile(str(damaged), member="a.mp4")).media["error_class"] == "unreadable_container"
    assert sorted(tmp_path.iterdir()) == sorted([*before, cut, damaged])


@pytest.mark.parametrize("name", ["movie.mp4", "movie.ts", "movie.mkv"])
def test_an_interval_is_the_frames_between_its_ends(movie: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with av.open(str(movie)) as before, av.open(str(path), "w") as after:
        stream = before.streams.video[0]
        copy = after.add_stream_from_template(stream)
        for packet in before.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                after.mux(packet)
    interval = probe_and_hash(MediaFile(str(path), from_ms=2200, to_ms=4000))
    media = interval.media
    assert (media["error_class"], media["frames"], media["duration_ms"]) == (None, 45, 1800)
    assert media["sha256"] is None
    # The frames themselves: those of a lossless cut, in the order of the whole video.
    wanted = write(tmp_path / "cut.mp4", read(movie)[0][55:100], crf=0)
    assert distance(hashes(interval), hashes(probe_and_hash(MediaFile(str(wanted))))) < 25
    encoded = encode(MediaFile(str(path), from_ms=2200, to_ms=4000), "np256", 4, 25.0)
    assert encoded.packet_hash == media["packet_hash"]
    assert cv2.PSNR(frames_of(encoded.data), np.stack(read(movie)[0][55:100])) > 32
    # Other packets, another hash; the whole is not the part.
    other = probe_and_hash(MediaFile(str(path), from_ms=2240, to_ms=4000)).media
    assert other["packet_hash"] != media["packet_hash"] and other["frames"] == 44
    past = {to: probe_and_hash(MediaFile(str(path), from_ms=5000, to_ms=to)).media["error_class"]
            for to in (6000, 6300, 9000)}  # fmt: skip
    assert past == {6000: None, 6300: None, 9000: "interval_missing"}
    gone = probe_and_hash(MediaFile(str(path), from_ms=60_000, to_ms=70_000))
    assert gone.media["error_class"] == "interval_missing"


def test_a_long_movie_is_not_read_for_a_clip_of_it(movie: Path, tmp_path: Path) -> None:
    long = write(tmp_path / "long.mkv", drifting(2, count=3000, height=48, width=64))
    read_before = int(Path("/proc/self/io").read_text().split()[1]) if Path("/proc/self/io").exists() else None
    if read_before is None:
        pytest.skip("no /proc/self/io to count the bytes read")
    result = probe_and_hash(MediaFile(str(long), from_ms=110_000, to_ms=111_000))
    taken = int(Path("/proc/self/io").read_text().split()[1]) - read_before
    assert result.media["frames"] == 25
    assert taken < long.stat().st_size / 2


def test_a_folder_of_frames_is_a_video_at_the_rate_that_the_listing_gives(tmp_path: Path) -> None:
    frames = drifting(3, count=30)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames, 1):
        suffix = "png" if number % 5 == 0 else "jpg"  # mixed, and numbers that sort wrongly as text
        cv2.imwrite(str(tmp_path / "frames" / f"img_{number}.{suffix}"), frame[:, :, ::-1])
    (tmp_path / "frames" / "notes.txt").write_text("not a frame")
    folder = MediaFile(str(tmp_path / "frames"), frame_rate=12.0, first_frame=6, frame_count=24)
    result = probe_and_hash(folder)
    media = result.media
    facts = ("ok", "images", "mjpeg", 96, 72, 12.0, 24, 24, 2000, False, False)
    names = ("status", "container", "codec", "width", "height", "fps", "frames", "declared_frames", "duration_ms",
             "variable_rate", "has_audio")  # fmt: skip
    assert tuple(media[name] for name in names) == facts
    film = probe_and_hash(MediaFile(str(write(tmp_path / "film.mp4", frames[5:29], fps=12, crf=5))))
    assert distance(hashes(result), hashes(film)) < 25
    encoded = encode(folder, "np256", 4, media["fps"])
    with av.open(io.BytesIO(encoded.data)) as container:
        assert container.streams.video[0].average_rate == 12
    # In the range of brightness of video, where JPEG has another.
    assert cv2.PSNR(frames_of(encoded.data), np.stack(frames[5:29])) > 26

    def found(**part: int) -> str | None:
        return probe_and_hash(MediaFile(str(tmp_path / "frames"), frame_rate=12.0, **part)).media["error_class"]

    assert found() is None
    assert found(first_frame=10, frame_count=40) == "truncated"
    assert found(first_frame=100, frame_count=5) == "no_frames"
    (tmp_path / "frames" / "img_7.jpg").write_bytes(b"\xff\xd8 no picture")
    assert found() == "decode_error"
    (tmp_path / "frames" / "flow_8.jpg").write_bytes(b"")
    assert found() == "unreadable_container"
    assert probe_and_hash(MediaFile(str(tmp_path / "none"), frame_rate=12.0)).media["error_class"] == "missing_file"


def test_a_turned_video_is_hashed_and_encoded_as_a_player_shows_it(tmp_path: Path) -> None:
    upright = drifting(4, count=30, height=96, width=64)
    plain = probe_and_hash(MediaFile(str(write(tmp_path / "plain.mp4", upright))))
    for turns in (1, 2, 3):
        lying = write(tmp_path / f"lying{turns}.mp4", [np.rot90(frame, -turns) for frame in upright])
        turned = tmp_path / f"turned{turns}.mp4"
        with av.open(str(lying)) as before, av.open(str(turned), "w") as after:
            copy = after.add_stream_from_template(before.streams.video[0])
            copy.set_display_rotation(90 * turns)
            for packet in before.demux(video=0):
                if packet.dts is not None:
                    packet.stream = copy
                    after.mux(packet)
        result = probe_and_hash(MediaFile(str(turned)))
        assert (result.media["rotation"], result.media["width"], result.media["height"]) == (90 * turns, 64, 96)
        assert distance(hashes(result), hashes(plain)) < 25
        encoded = encode(MediaFile(str(turned)), "np256", 4, 25.0)
        assert cv2.PSNR(frames_of(encoded.data), np.stack(upright)) > 26


def test_the_picture_facts_are_those_of_the_pictures(tmp_path: Path) -> None:
    def facts(name: str, frames: list[np.ndarray]) -> tuple[float, float, float]:
        media = probe_and_hash(MediaFile(str(write(tmp_path / name, frames)))).media
        return media["motion"], media["brightness"], media["picture_share"]

    grey = np.full((72, 96, 3), 128, np.uint8)
    motion, brightness, share = facts("still.mp4", [grey] * 20)
    assert motion < 0.005 and abs(brightness - 0.5) < 0.02 and share == 1
    assert facts("black.mp4", [grey * 0] * 20)[1] < 0.01 and facts("white.mp4", [grey * 0 + 255] * 20)[1] > 0.99
    blinking = [grey * 0 + 255 * (i // 4 % 2) for i in range(40)]
    assert facts("blinking.mp4", [f.astype(np.uint8) for f in blinking])[0] > 0.6
    barred = [cv2.copyMakeBorder(f, 18, 18, 0, 0, cv2.BORDER_CONSTANT) for f in drifting(5, count=20)]
    assert abs(facts("barred.mp4", barred)[2] - 72 / 108) < 0.03


def test_a_frame_that_is_too_large_is_refused_by_its_header(tmp_path: Path) -> None:
    # Up to 900 million pixels in a few bytes: the key frame of a VP8 video, a PNG and a JPEG with edited headers.
    clip = bytearray(write(tmp_path / "bomb.webm", drifting(1, count=3, height=256, width=320)).read_bytes())
    for element, value in ((b"\xb0\x82", 320), (b"\xba\x82", 256)):
        place = clip.index(element + value.to_bytes(2))
        clip[place + 2 : place + 4] = (16_000).to_bytes(2)
    start = clip.index(b"\x9d\x01\x2a" + (320).to_bytes(2, "little"))
    clip[start + 3 : start + 7] = (16_000).to_bytes(2, "little") * 2
    (tmp_path / "bomb.webm").write_bytes(clip)
    media = probe_and_hash(MediaFile(str(tmp_path / "bomb.webm"))).media
    assert media["error_class"] == "too_large" and "16000 x 16000" in media["detail"]
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (30_000).to_bytes(4) * 2 + b"\x08\0\0\0\0"
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_bytes(header)
    (tmp_path / "jpegs").mkdir()
    (tmp_path / "jpegs" / "1.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08" + (30_000).to_bytes(2) * 2)
    for folder in ("frames", "jpegs"):
        media = probe_and_hash(MediaFile(str(tmp_path / folder), frame_rate=12.0)).media
        assert media["error_class"] == "too_large" and "30000 x 30000" in media["detail"]


def test_original_keeps_a_members_bytes_and_np256_needs_the_packets_that_were_probed(
    movie: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "clips.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(movie, "a/clip.mp4")
    places = {"original": MediaFile(str(archive), member="a/clip.mp4"),
              "np256": MediaFile(str(movie), from_ms=1000, to_ms=2000)}  # fmt: skip
    for rendition, media in places.items():
        clip = member("0" * 32, media)
        [sidecar] = write_shards([ShardPlan(str(tmp_path / rendition), "shard-0", "src", rendition, 4, (clip,))])
        [stored] = sidecar.members
        assert stored.frames == (25 if rendition == "np256" else FRAMES)
        if rendition == "original":
            assert stored.size == movie.stat().st_size and stored.sha256 == clip.sha256
    with pytest.raises(RenditionError, match=r"movie\.mp4 from 90000 ms to 91000 ms"):
        encode(MediaFile(str(movie), from_ms=90_000, to_ms=91_000), "np256", 4, 25.0)
