"""WebVid, UCF101, HMDB51 and VideoMAE's lists on real files: what is listed, what is refused and why."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from source_layouts import WHOLE, files_of, members_of, rejected, source, store_and_compare, video

from warehouse.config import Source
from warehouse.sources import SourceError, read_source


def annotated(tmp_path: Path, kind: str, texts: dict[str, str], **names: str) -> Source:
    """A source with a file for each role; ``names`` of files other than ``ROLE.txt``."""
    files = {role: tmp_path / names.get(role, f"{role}.txt") for role in texts}
    for role, text in texts.items():
        files[role].write_bytes(text.encode("utf-8", "surrogatepass"))
    return source(kind, tmp_path / "videos", files, namespace=kind)


def expected_rejects(lines: dict[str, str | None], first: int) -> list[tuple[int, str]]:
    return [(row, error) for row, error in enumerate(lines.values(), first) if error]


WEBVID_HEADER = "name,videoid,contentUrl,duration,page_dir\n"
WEBVID_HOSTILE = {  # a line of train.csv → the class of its reject
    "A caption,1,https://a,PT00H00M11S,000001_000050": None,
    '"Merida, mexico: ""tourists""",2,https://a,PT01H02M03S,000001_000050': None,
    "again,2,https://a,PT00H00M11S,000051_000100": "duplicate_row",
    "x,3,https://a,11,000001_000050": "bad_time",
    "x,3,https://a,PT00H00M00S,000001_000050": "bad_time",
    "x,3,https://a,PT00H61M00S,000001_000050": "bad_time",
    "x,3,https://a,,000001_000050": "bad_time",
    "x,,https://a,PT00H00M11S,000001_000050": "malformed_row",
    "x,3a,https://a,PT00H00M11S,000001_000050": "malformed_row",
    "x,../3,https://a,PT00H00M11S,000001_000050": "bad_path",
    "x,3,https://a,PT00H00M11S,../../etc": "bad_path",
    "x,3,https://a,PT00H00M11S,/etc": "bad_path",
    "x,3,https://a,PT00H00M11S": "malformed_row",
    "x,3,https://a,PT00H00M11S,": None,
    ",4,https://a,PT00H00M11S,away": "bad_path",
}


def test_webvid_is_found_by_page_or_by_id_and_captions_are_no_classes(tmp_path: Path) -> None:
    train = WEBVID_HEADER + "\n".join(WEBVID_HOSTILE)
    val = WEBVID_HEADER + "x,9,https://a,PT00H00M11S,000001_000050\n"
    made = annotated(tmp_path, "webvid", {"train": train, "val": val})
    for path in ("1.mp4", "videos/000001_000050/1.mp4", "part1/000002_000099/2.webm"):
        video(made.media_root, path)
    (made.media_root / "4.mp4").symlink_to(video(tmp_path, "secret.mp4"))
    listing = read_source(made)
    assert rejected(listing) == expected_rejects(WEBVID_HOSTILE, 2)
    assert members_of(listing) == [
        (2, "1", "train", None), (3, "2", "train", None), (15, "3", "train", None), (2, "9", "val", None),
    ]  # fmt: skip
    assert files_of(listing) == [
        ("1", "videos/000001_000050/1.mp4", 5, *WHOLE), ("2", "part1/000002_000099/2.webm", 5, *WHOLE),
        ("3", "3.mp4", None, *WHOLE), ("9", "000001_000050/9.mp4", None, *WHOLE),
    ]  # fmt: skip
    store_and_compare(tmp_path, listing)
    with pytest.raises(SourceError, match=r"train\.txt:1: no column 'videoid'"):
        read_source(annotated(tmp_path, "webvid", {"train": "path,label\n"}))


UCF_CLASSES = "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n"
UCF_HOSTILE = {  # a line of trainlist01.txt → the class of its reject
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1": None,
    "HandstandPushups/v_HandStandPushups_g08_c02.avi 2": None,
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi  1": "duplicate_row",
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c03.avi": "malformed_row",
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c03.avi 2": "malformed_row",
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c03.avi one": "malformed_row",
    "Archery/v_Archery_g08_c01.avi 3": "malformed_row",
    "v_ApplyEyeMakeup_g08_c03.avi 1": "malformed_row",
    "../v_ApplyEyeMakeup_g08_c03.avi 1": "bad_path",
    "/etc/v_ApplyEyeMakeup_g08_c03.avi 1": "bad_path",
    "ApplyEyeMakeup/\0.avi 1": "malformed_row",
    f"ApplyEyeMakeup/{'v' * 9000}.avi 1": "malformed_row",
}


def test_ucf101_lists_one_of_its_splits(tmp_path: Path) -> None:
    test = "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\nHandstandPushups/v_HandStandPushups_g01_c01.avi 2\n"
    texts = {"classes": UCF_CLASSES, "train": "\n".join(UCF_HOSTILE), "test": test}
    made = annotated(tmp_path, "ucf101", texts)
    for path in ("v_ApplyEyeMakeup_g08_c01.avi", "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.mp4",
                 "v_HandStandPushups_g01_c01.mp4"):  # fmt: skip
        video(made.media_root, path)
    listing = read_source(made)
    assert rejected(listing) == expected_rejects(UCF_HOSTILE, 1)
    assert members_of(listing) == [
        (1, "v_ApplyEyeMakeup_g08_c01", "train", "ApplyEyeMakeup"),
        (2, "v_HandStandPushups_g08_c02", "train", "HandstandPushups"),
        (1, "v_ApplyEyeMakeup_g01_c01", "test", "ApplyEyeMakeup"),
        (2, "v_HandStandPushups_g01_c01", "test", "HandstandPushups"),
    ]
    assert files_of(listing)[0][1:3] == ("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.mp4", 5)
    assert files_of(listing)[1][1:3] == ("HandstandPushups/v_HandStandPushups_g08_c02.avi", None)
    assert files_of(listing)[3][1:3] == ("v_HandStandPushups_g01_c01.mp4", 5)
    store_and_compare(tmp_path, listing)
    with pytest.raises(SourceError, match=r"classes\.txt:1: no line has the form number Class"):
        read_source(annotated(tmp_path, "ucf101", texts | {"classes": "\n".join(UCF_HOSTILE)}))
    with pytest.raises(SourceError, match=r"train\.txt:1: no line has the form Class/name.avi number"):
        read_source(annotated(tmp_path, "ucf101", texts | {"train": UCF_CLASSES}))


HMDB_HOSTILE = {  # a line of brush_hair_test_split1.txt → the class of its reject
    "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 ": None,
    "April_09_brush_hair_u_nm_np1_ba_goo_1.avi 2 ": None,
    "April_09_brush_hair_u_nm_np1_ba_goo_2.avi 0 ": None,  # not in this split
    "#20_[x];(y)&z = 1.avi 1": None,
    "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1": "duplicate_row",
    "a.avi 3": "unknown_split",
    "a.avi": "malformed_row",
    "a 1": "malformed_row",
    "../a.avi 1": "bad_path",
    "/a.avi 1": "bad_path",
    "b/a.avi 1": "malformed_row",
    "a\ud800.avi 1": "malformed_row",
}


def hmdb51(tmp_path: Path, pattern: str = "*_test_split1.txt") -> Source:
    splits = tmp_path / "testTrainMulti_7030_splits"
    for label, number, text in (
        ("brush_hair", 1, "\n".join(HMDB_HOSTILE)), ("brush_hair", 2, "x.avi 1\n"), ("climb", 1, "same.avi 1\n"),
        ("kick_ball", 1, "same.avi 2\nApril_09_brush_hair_u_nm_np1_ba_goo_2.avi 0\n"),
    ):  # fmt: skip
        video(splits, f"{label}_test_split{number}.txt", text.encode("utf-8", "surrogatepass"))
    return source("hmdb51", tmp_path / "videos", {"splits": splits / pattern}, namespace="hmdb51")


def test_hmdb51_lists_the_files_of_one_split(tmp_path: Path) -> None:
    made = hmdb51(tmp_path)
    for path in ("climb/same.avi", "kick_ball/same.avi", "#20_[x];(y)&z = 1.avi"):
        video(made.media_root, path)
    listing = read_source(made)
    assert rejected(listing) == expected_rejects(HMDB_HOSTILE, 1)
    assert members_of(listing) == [
        (1, "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0", "train", "brush_hair"),
        (2, "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_1", "test", "brush_hair"),
        (4, "brush_hair/#20_[x];(y)&z = 1", "train", "brush_hair"),
        (1, "climb/same", "train", "climb"),
        (1, "kick_ball/same", "test", "kick_ball"),
    ]
    assert [file[1:3] for file in files_of(listing)[2:]] == [
        ("#20_[x];(y)&z = 1.avi", 5), ("climb/same.avi", 5), ("kick_ball/same.avi", 5),
    ]  # fmt: skip
    store_and_compare(tmp_path, listing)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("*_test_split*.txt", "names the files of the splits 1, 2. Name the files of one split"),
     ("*_test_split3.txt", "there is no such file. Name the files of one split"),
     ("*", "readme.md: is not called CLASS_test_splitN.txt"), ("climb", "there is no such file")],
)  # fmt: skip
def test_hmdb51_files_have_to_be_those_of_one_split(tmp_path: Path, pattern: str, says: str) -> None:
    made = hmdb51(tmp_path, pattern)
    video(tmp_path / "testTrainMulti_7030_splits", "readme.md")
    with pytest.raises(SourceError, match=re.escape(says)):
        read_source(made)


LIST_HOSTILE = {  # a line of train.txt → the class of its reject
    "a b/my clip 2.mp4 3": None,
    "ROOT/abs.webm 0 -1": None,
    "c.mp4 0 -1 17": None,
    "./c.mp4 5": "duplicate_row",
    "AVA/zlVkeKC6Ha8 1 3": None,
    "AVA/zlVkeKC6Ha8 4 3": None,
    "AVA/zlVkeKC6Ha8 5 3": "bad_time",
    "AVA/zlVkeKC6Ha8 62 140": "bad_time",
    "AVA/zlVkeKC6Ha8 1 0": "bad_time",
    "AVA/zlVkeKC6Ha8 1 999999999": "bad_time",
    "SomethingV2/my frames/182040 0 2 140": None,
    "gone/182041 1 999999999": None,
    "gone/182041 1 9999999999": "malformed_row",
    "gone/182041 1 -1": "malformed_row",
    "d.mp4": "malformed_row",
    "d.mp4 1 300": "malformed_row",
    "d.mp4 0 -1 x": "malformed_row",
    "d.txt 3": "malformed_row",
    "../d.mp4 3": "bad_path",
    "/etc/d.mp4 3": "bad_path",
    "ROOT/../../d.mp4 3": "bad_path",
    "../frames 1 3": "bad_path",
    "away/e.mp4 3": "bad_path",
    "away 1 3": "bad_path",
    "d\0.mp4 3": "malformed_row",
}


def test_the_lists_of_videomae_name_videos_and_frames_and_paths_may_hold_spaces(tmp_path: Path) -> None:
    lines = {line.replace("ROOT", str(tmp_path / "videos")): error for line, error in LIST_HOSTILE.items()}
    made = annotated(tmp_path, "list", {"train": "\n".join(lines), "val": "c.mp4 4\n"})
    made = replace(made, frame_rate=30.0)
    frames = [f"AVA/zlVkeKC6Ha8/image_{number:06d}.jpg" for number in range(1, 7)]
    more = [f"SomethingV2/my frames/182040/{name}" for name in ("img_00000.JPG", "img_00001.JPG", "img_00002.JPG")]
    for path in ("a b/my clip 2.mp4", "abs.webm", *frames, *more):
        video(made.media_root, path)
    video(tmp_path, "outside/image_000001.jpg")
    (made.media_root / "away").symlink_to(tmp_path / "outside")
    listing = read_source(made)
    assert rejected(listing) == [*expected_rejects(lines, 1), (1, "bad_path")]
    assert members_of(listing) == [
        (1, "a b/my clip 2.mp4", "train", "3"), (2, "abs.webm", "train", None), (3, "c.mp4", "train", "17"),
        (5, "AVA/zlVkeKC6Ha8", "train", None), (6, "AVA/zlVkeKC6Ha8", "train", None),
        (11, "SomethingV2/my frames/182040", "train", "140"), (12, "gone/182041", "train", None),
        (1, "c.mp4", "val", "4"),
    ]  # fmt: skip
    assert [file[1:] for file in files_of(listing)] == [
        ("a b/my clip 2.mp4", 5, *WHOLE), ("abs.webm", 5, *WHOLE), ("c.mp4", None, *WHOLE),
        ("AVA/zlVkeKC6Ha8", 15, None, None, None, 30.0, 1, 3), ("AVA/zlVkeKC6Ha8", 15, None, None, None, 30.0, 4, 3),
        ("SomethingV2/my frames/182040", 10, None, None, None, 30.0, 0, 2),
        ("gone/182041", None, None, None, None, 30.0, 1, 999999999),
    ]  # fmt: skip
    assert [(c["start_ms"], c["end_ms"]) for c in listing.clips[3:6]] == [(0, 100), (100, 200), (0, 67)]
    details = {reject["row"]: reject["detail"] for reject in listing.rejects[:-1]}
    assert "the folder has 6 frames from 1 to 6, and the line names 62 to 201" in details[8]
    store_and_compare(tmp_path, listing)
    with pytest.raises(SourceError, match=r"videos: source 'one' lists folders of frames.* Add `frame_rate = ...`"):
        read_source(replace(made, frame_rate=None))
    with pytest.raises(SourceError, match=r"train\.txt:1: no line has the form `path class`"):
        read_source(annotated(tmp_path, "list", {"train": "path,label\na.mp4,3\n"}))
