"""Shards: plans that never move a clip, tars that are the same bytes each time, clips read back by range."""

import hashlib
import io
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import webdataset
from rendered_clips import drifting, read, write

from warehouse.catalog.snapshots import Sample
from warehouse.curation.probe import probe_and_hash
from warehouse.media_file import MediaFile
from warehouse.shards.packing import plan_packing
from warehouse.shards.reader import ShardError, read_sample
from warehouse.shards.rendition import RenditionError, encode_np256, fit_short_side
from warehouse.shards.writer import Member, ShardPlan, write_shards


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files: two mp4 and a webm."""
    folder = tmp_path_factory.mktemp("clips")
    return [write(folder / name, drifting(seed)) for seed, name in enumerate(("a.mp4", "b.mp4", "c.webm"))]


def member(clip_id: str, media: MediaFile) -> Member:
    found = probe_and_hash(media).media
    keys = ("sha256", "packet_hash", "codec", "width", "height", "rotation", "fps", "frames")
    return Member(clip_id, media, **{key: found[key] for key in keys})


def plan(folder: Path, clips: list[Path], rendition: str) -> ShardPlan:
    members = tuple(
        member(f"{i:032x}", MediaFile(str(clip))) for i, clip in enumerate(clips)
    )
    return ShardPlan(str(folder), "shard-0", "src", rendition, 4, members)


def sample_of(shard: ShardPlan, row: dict) -> Sample:
    return Sample(
        row["clip_id"], "src", "train", None, 1.0, 4, shard.tar, row["offset"], row["size"], row["sha256"],
        row["codec"], row["fps"], row["frames"], row["width"], row["height"],
    )  # fmt: skip


def test_a_plan_keeps_every_place_and_adds_new_clips_in_new_shards() -> None:
    first = plan_packing("s", "np256", {f"clip{i}": 40 for i in range(5)}, [], shard_bytes=100)
    assert [(row["shard"][-5:], row["position"]) for row in first] == [
        ("00000", 0), ("00000", 1), ("00001", 0), ("00001", 1), ("00002", 0),
    ]  # fmt: skip
    wanted = {f"clip{i}": 40 for i in (0, 1, 7, 8)}  # 2, 3 and 4 are wanted no more: their bytes stay where they are
    second = plan_packing("s", "np256", wanted, first, shard_bytes=100)
    assert second[:5] == first
    assert {row["clip_id"] for row in second[5:]} == {"clip7", "clip8"}
    assert not {row["shard"] for row in second[5:]} & {row["shard"] for row in first}
    assert plan_packing("s", "np256", wanted, second, shard_bytes=100) == second
    other = plan_packing("s", "original", {"clip0": 40}, second)
    assert other[:7] == second and other[7]["rendition"] == "original"


def test_a_clip_larger_than_a_shard_gets_one_of_its_own() -> None:
    rows = plan_packing("s", "np256", {"a": 10, "b": 500, "c": 10}, [], shard_bytes=100)
    assert len({row["shard"] for row in rows}) == 3


def test_np256_holds_its_contract(clips: list[Path]) -> None:
    source, _ = read(clips[0])
    encoded = encode_np256(MediaFile(str(clips[0])), 4, 25.0)
    assert (encoded.codec, encoded.frames, encoded.fps, encoded.width, encoded.height) == ("h264", 50, 25.0, 96, 72)
    with av.open(io.BytesIO(encoded.data)) as container:
        assert not container.streams.audio
        frames = list(container.decode(video=0))
    decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    assert cv2.PSNR(decoded, np.stack(source)) > 34
    # Frames between two of the stride's grid are B-frames, and so disposable (b-pyramid is off), but for the last
    # of each closed GOP.
    bidirectional = [i for i, frame in enumerate(frames) if frame.pict_type == av.video.frame.PictureType.B]
    assert bidirectional == [i for i in range(50) if i % 4 and i not in (31, 49)]
    steps = np.diff([frame.pts * frame.time_base for frame in frames])
    assert (steps == steps[0]).all()


def test_np256_gives_the_same_bytes_each_time(clips: list[Path]) -> None:
    # libx264's macroblock tree made other bytes in most of such runs; see x264_options.
    assert len({encode_np256(MediaFile(str(clips[1])), 2, 25.0).data for _ in range(12)}) == 1


def test_sides_become_even_and_are_never_enlarged() -> None:
    assert fit_short_side(340, 256) == (340, 256)
    assert fit_short_side(1920, 1080) == (456, 256)
    assert fit_short_side(1080, 1921) == (256, 456)
    assert fit_short_side(95, 71) == (96, 72) or fit_short_side(95, 71) == (94, 70)
    assert fit_short_side(1, 1) == (2, 2)


def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    with pytest.raises(RenditionError, match=r"broken\.mp4"):
        encode_np256(MediaFile(str(broken)), 4, 25.0)
    # A playlist that names a good clip is none itself, here as when it is probed.
    write(tmp_path / "good.mp4", drifting(1, count=10))
    broken.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ngood.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(RenditionError, match=r"broken\.mp4.*unreadable_container"):
        encode_np256(MediaFile(str(broken)), 4, 25.0)


@pytest.mark.parametrize("rendition", ["np256", "original"])
def test_a_shard_is_the_same_bytes_wherever_it_is_written_and_any_tool_reads_it(
    tmp_path: Path, clips: list[Path], rendition: str
) -> None:
    here, there = (plan(tmp_path / name, clips, rendition) for name in ("here", "there"))
    [content] = write_shards([here])
    [again] = write_shards([there])
    assert here.tar.read_bytes() == there.tar.read_bytes()
    assert content == again and content["sha256"] == hashlib.sha256(here.tar.read_bytes()).hexdigest()
    listed = subprocess.run(["tar", "tf", here.tar], capture_output=True, text=True, check=True).stdout.split()
    assert len(listed) == 2 * len(clips)
    videos = {}
    for item in webdataset.WebDataset(str(here.tar), shardshuffle=False):
        videos[item["__key__"]] = next(item[key] for key in ("mp4", "webm") if key in item)
    assert len(videos) == len(clips)
    for row, clip in zip(content["samples"], clips, strict=True):
        data = read_sample(sample_of(here, row))
        assert data == videos[row["clip_id"]]
        assert rendition == "np256" or data == clip.read_bytes()


def test_a_finished_shard_is_not_written_again_and_a_changed_plan_is(tmp_path: Path, clips: list[Path]) -> None:
    shard = plan(tmp_path, clips, "original")
    write_shards([shard])
    written = shard.tar.stat().st_mtime_ns
    write_shards([shard])
    assert shard.tar.stat().st_mtime_ns == written
    shard.tar.write_bytes(shard.tar.read_bytes()[:-512])  # cut short behind our back
    assert shard.finished() is None
    write_shards([shard])
    shorter = replace(shard, members=shard.members[:2])
    assert shorter.finished() is None
    [content] = write_shards([shorter])
    assert len(content["samples"]) == 2


def test_a_source_file_that_has_changed_since_it_was_probed_stops_the_shard(tmp_path: Path, clips: list[Path]) -> None:
    shard = plan(tmp_path / "shards", clips, "original")
    changed = replace(shard.members[0], sha256="0" * 64)
    with pytest.raises(ShardError, match=r"a\.mp4"):
        write_shards([replace(shard, members=(changed, *shard.members[1:]))])
    assert not shard.tar.exists() and not shard.sidecar.exists()


def test_other_bytes_than_promised_are_an_error_that_names_shard_and_clip(tmp_path: Path, clips: list[Path]) -> None:
    shard = plan(tmp_path, clips, "original")
    [content] = write_shards([shard])
    sample = sample_of(shard, content["samples"][1])
    with shard.tar.open("r+b") as file:
        file.seek(sample.offset + 100)
        file.write(b"\0\1\2\3\4")
    with pytest.raises(ShardError, match=rf"shard-0\.tar.*{sample.clip_id}"):
        read_sample(sample)
    with pytest.raises(ShardError, match=r"gone\.tar"):
        read_sample(replace(sample, shard=tmp_path / "gone.tar"))
    assert tarfile.is_tarfile(shard.tar)
