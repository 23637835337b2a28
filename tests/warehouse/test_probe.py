"""Every file gets a row: the good with its facts, the bad with the reason."""

import csv
import re
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from rendered_clips import drifting, write

from warehouse.curation.frame_hashes import FRAMES_AT_MOST
from warehouse.curation.probe import ProbeResult, failed_row, probe_unit
from warehouse.curation.probe import probe_and_hash as probe_media
from warehouse.engine import Failure, map_unordered
from warehouse.error_classes import MISSING, QUARANTINED
from warehouse.media_file import MediaFile
from warehouse.schema import BY_NAME

PROJECT = Path(__file__).parents[2]
ODD = PROJECT.parent / "shared" / "data" / "odd"
# Of the files that give no frame or do not open, those that say why. The index's reader knows neither encryption nor
# metadata that is not UTF-8 (the last one, which is whole).
ODD_ERRORS = {
    "exoplayer/mkv/subsample_encrypted_altref.webm": "encrypted",
    "go-mp4/testdata/sample_init.encv.mp4": "encrypted",
    "mp4parse/mp4parse/tests/bipbop_480wp_1001kbps-cenc-video-key1-init.mp4": "encrypted",
    "mp4parse/mp4parse_capi/tests/av1-clearkey-cbcs-video.mp4": "encrypted",
    "mp4parse/mp4parse_capi/tests/bipbop_cbcs_video_init.mp4": "encrypted",
    "mp4parse/mp4parse_capi/tests/short-cenc.mp4": "encrypted",
    "mp4parse/mp4parse_capi/tests/chunk_out_of_range.mp4": "unreadable_container",
    "libwebm/invalid/projection_float_overflow.webm": "unreadable_container",
    "libwebm/invalid/invalid_vp9_bitstream-bug_1416.webm": "too_large",
    "moviepy/doc_medias/result.webm": "empty_file",
    "exoplayer/extensions/media2/src/androidTest/res/raw/video_desks.3gp": None,
}
# Size and fingerprint are those of the listing (`files`), which the step adds.
MEDIA_COLUMNS = {column.name for column in BY_NAME["media"].columns} - {"bytes", "listed"}


def probe_and_hash(path: Path) -> ProbeResult:
    return probe_media(MediaFile(str(path)))


def error_class(path: Path) -> str | None:
    result = probe_and_hash(path)
    assert (result.media["status"] == "ok") == (result.media["error_class"] is None) == bool(result.hashes)
    return result.media["error_class"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("probe") / "clip.mp4", drifting(1), sound=True)


def remux(source: Path, target: Path, *, video: bool = True) -> Path:
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        stream = before.streams.video[0] if video else before.streams.audio[0]
        copy = after.add_stream_from_template(stream)
        for packet in before.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                after.mux(packet)
    return target


def test_facts_of_a_good_file_fit_the_tables(clip: Path) -> None:
    ((media, hashes),) = probe_unit([("clip", "source", MediaFile(str(clip)))])
    pa.Table.from_pylist([media], schema=BY_NAME["media"].schema)
    assert set(media) == MEDIA_COLUMNS
    facts = ("ok", None, "mov", "h264", "yuv420p", 96, 72, 25.0, 50, 2000, True)
    names = ("status", "error_class", "container", "codec", "pixel_format", "width", "height", "fps", "frames",
             "duration_ms", "has_audio")  # fmt: skip
    assert tuple(media[name] for name in names) == facts
    rows = pa.Table.from_pylist(hashes, schema=BY_NAME["frame_hashes"].schema)
    assert rows.column_names == list(hashes[0])
    # Eight a second: the first frame at or after each multiple of 125 ms (frames are 40 ms apart).
    full = [row["t_ms"] for row in hashes if row["variant"] == "full"]
    assert full == [0, 160, 280, 400, 520, 640, 760, 880, 1000, 1160, 1280, 1400, 1520, 1640, 1760, 1880]


def test_a_remuxed_copy_has_other_bytes_and_the_same_packets(clip: Path, tmp_path: Path) -> None:
    ours, copy = probe_and_hash(clip).media, probe_and_hash(remux(clip, tmp_path / "copy.mkv")).media
    assert ours["sha256"] != copy["sha256"]
    assert ours["packet_hash"] == copy["packet_hash"]
    other = probe_and_hash(write(tmp_path / "other.mp4", drifting(1), crf=30)).media
    assert ours["packet_hash"] != other["packet_hash"]


def test_hashes_are_limited_and_frames_are_not(tmp_path: Path) -> None:
    slow = write(tmp_path / "slow.mp4", drifting(2, count=FRAMES_AT_MOST + 10, height=16, width=16), fps=8)
    result = probe_and_hash(slow)
    assert result.media["frames"] == FRAMES_AT_MOST + 10
    assert sum(row["variant"] == "full" for row in result.hashes) == FRAMES_AT_MOST


def test_bad_files_are_told_apart(clip: Path, tmp_path: Path) -> None:
    def spoilt(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    whole = clip.read_bytes()
    assert error_class(tmp_path / "nowhere.mp4") == "missing_file"
    assert error_class(tmp_path) == "unreadable_file"
    assert error_class(spoilt("empty.mp4", b"")) == "empty_file"
    assert error_class(spoilt("text.mp4", b"no video at all\n" * 99)) == "unreadable_container"
    assert error_class(spoilt("cut.mp4", whole[: len(whole) // 2])) == "truncated"
    webm = write(tmp_path / "clip.webm", drifting(1, count=100)).read_bytes()
    assert error_class(tmp_path / "clip.webm") is None
    assert error_class(spoilt("cut.webm", webm[: len(webm) // 2])) == "truncated"
    assert error_class(remux(clip, tmp_path / "sound.mp4", video=False)) == "no_video_stream"
    noise = np.random.default_rng(0)
    damaged = bytearray(whole)
    for place in noise.integers(len(whole) // 4, len(whole) // 2, 30):
        damaged[place] ^= 0xFF
    assert error_class(spoilt("damaged.mp4", bytes(damaged))) in ("decode_error", "no_frames")


def test_a_playlist_does_not_make_us_open_other_files(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    hls = tmp_path / "list.m3u8"
    hls.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nclip.mp4\n#EXT-X-ENDLIST\n")
    concat = tmp_path / "list.ffconcat"
    concat.write_text("ffconcat version 1.0\nfile clip.mp4\n")
    assert error_class(hls) == error_class(concat) == "unreadable_container"


def test_the_page_of_error_classes_is_the_code() -> None:
    page = (PROJECT / "docs" / "error_classes.md").read_text()
    media, rejects = page.split("## Annotation rows")
    assert re.findall(r"^\| `(\w+)` \|", media, re.MULTILINE) == [MISSING, *QUARANTINED]
    column = next(c for c in BY_NAME["rejects"].columns if c.name == "error_class")
    assert re.findall(r"^\| `(\w+)` \|", rejects, re.MULTILINE) == re.findall(r"\w+", column.doc.replace(" or ", " "))


def test_a_failure_makes_a_row() -> None:
    row = failed_row(("clip", "source", MediaFile("a.mp4")), "decoder_hung", "killed")
    assert (row["status"], row["error_class"]) == ("quarantined", "decoder_hung")
    assert set(row) == MEDIA_COLUMNS


@pytest.mark.skipif(not ODD.is_dir(), reason=f"no test videos at {ODD}")
def test_every_odd_file_gets_a_row() -> None:
    index = {row["path"]: row for row in csv.DictReader((ODD / "index.csv").open())}
    items = [(path, "odd", MediaFile(str(ODD / path))) for path in index]
    found = {}
    for unit, results in map_unordered(probe_unit, [items[i::12] for i in range(12)], workers=2, timeout_s=30):
        for item, result in zip(unit, results, strict=True):
            assert not isinstance(result, Failure), result
            found[item[0]] = result[0]
    assert set(found) == set(index)
    pa.Table.from_pylist(list(found.values()), schema=BY_NAME["media"].schema)
    for path, expected in index.items():
        media, tags = found[path], expected["tags"].split()
        if path in ODD_ERRORS:
            assert media["error_class"] == ODD_ERRORS[path], path
        elif expected["error"].startswith("no video"):
            assert media["error_class"] == "no_video_stream", path
        elif expected["error"]:
            assert media["error_class"] == "no_frames", path
        else:
            assert (media["error_class"], media["frames"]) == (None, int(expected["frames"])), path
            turned = media["rotation"] in (90, 270)
            size = (media["height"], media["width"]) if turned else (media["width"], media["height"])
            assert size == (int(expected["width"]), int(expected["height"])), path
            assert media["rotation"] == int(expected["rotation"]), path
            assert media["variable_rate"] == ("vfr_or_gap" in tags), path
            assert media["has_audio"] == (expected["n_audio"] != "0"), path
            assert all(0 <= media[fact] <= 1 for fact in ("motion", "brightness", "picture_share")), path
    slow_motion = found["exoplayer/mp4/sample_android_slow_motion.mp4"]
    assert (slow_motion["declared_frames"], slow_motion["size_changes"]) == (7, False)
    assert found["opencv-doc/box.mp4"]["declared_frames"] == 456 != found["opencv-doc/box.mp4"]["frames"]
