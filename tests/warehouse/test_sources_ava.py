"""AVA on real files: movies become clips by time, and wrong lines become rejects."""

from pathlib import Path

import pytest
from source_layouts import ID, files_of, members_of, rejected, source, store_and_compare, video

from warehouse.config import Source
from warehouse.sources import SourceError, clip_id, read_source


def action(video_id: str, time: str = "0902", box: str = "0.077,0.151,0.283,0.811", ids: str = "80,1") -> str:
    return f"{video_id},{time},{box},{ids}"


def ava(tmp_path: Path, **lines: list[str]) -> Source:
    files = {}
    for role, texts in lines.items():
        files[role] = tmp_path / f"ava_{role}.csv"
        files[role].write_text("".join(f"{text}\n" for text in texts))
    return source("ava", tmp_path / "movies", files)


def test_the_annotated_minutes_are_cut_by_time_without_excluded_timestamps(tmp_path: Path) -> None:
    made = ava(
        tmp_path,
        train=[action(ID(0)), action(ID(0), "1798", ids="12,0"), action(ID(1)), action(ID(0))],
        train_excluded=[f"{ID(0)},0902", f"{ID(0)},0909", f"{ID(0)},1798", f"{ID(7)},1000"],
        val=[action(ID(2))], val_excluded=[f"{ID(1)},1000"],
    )  # fmt: skip
    for path in (f"{ID(0)}.mkv", f"{ID(0)}.mp4", f"trainval/{ID(1)}.webm"):
        video(made.media_root, path)
    listing = read_source(made)
    clips = [(c["native_id"], c["start_ms"], c["end_ms"]) for c in listing.clips]
    assert [clip for clip in clips if clip[0] == ID(0)] == [
        (ID(0), 1000 * start, 1000 * (start + 10)) for start in range(910, 1790, 10)
    ]
    # As many as VideoMAE V2 has of a movie: its 21k clips are 90 of each of the 235 movies.
    assert [clip for clip in clips if clip[0] == ID(1)] == [
        (ID(1), 1000 * start, 1000 * (start + 10)) for start in range(900, 1800, 10)
    ]
    assert len(clips) == 88 + 90 + 90 == len(listing.memberships)
    assert listing.clips[0]["clip_id"] == clip_id("youtube", ID(0), 910_000, 920_000)
    assert files_of(listing)[0] == (ID(0), f"{ID(0)}.mkv", 5, None, 910_000, 920_000, None, None, None)
    assert files_of(listing)[88] == (ID(1), f"trainval/{ID(1)}.webm", 5, None, 900_000, 910_000, None, None, None)
    assert files_of(listing)[-1] == (ID(2), f"{ID(2)}.mkv", None, None, 1_790_000, 1_800_000, None, None, None)
    assert set(members_of(listing)) == {
        (1, ID(0), "train", None), (3, ID(1), "train", None), (1, ID(2), "val", None),
    }  # fmt: skip
    assert listing.rejects == []
    store_and_compare(tmp_path, listing)


HOSTILE = {  # a line of the actions → the class of its reject
    action(ID(0), box="0,0,1,1"): None,
    action(ID(0), box="0.000,0.151,.283,1.0"): None,
    action(ID(1), time="901"): "bad_time",
    action(ID(1), time="1799"): "bad_time",
    action(ID(1), time="902.5"): "bad_time",
    action(ID(1), time="-902"): "bad_time",
    action(ID(1), time=""): "bad_time",
    action(ID(1), box="0.3,0.1,0.2,0.8"): "malformed_row",
    action(ID(1), box="0.1,0.1,0.2,1.1"): "malformed_row",
    action(ID(1), box="nan,0.1,0.2,0.8"): "malformed_row",
    action(ID(1), box="-0.1,0.1,0.2,0.8"): "malformed_row",
    action(ID(1), box=".,.,1,1"): "malformed_row",
    action(ID(1), box="0.1,0.1,0.2,"): "malformed_row",
    action(ID(1), box="1e-3,0.1,0.2,0.8"): "malformed_row",
    action(ID(1), ids="0,1"): "malformed_row",
    action(ID(1), ids="81,1"): "malformed_row",
    action(ID(1), ids="8,"): "malformed_row",
    action(ID(1), ids="8,-1"): "malformed_row",
    action(ID(1), ids="8"): "malformed_row",
    action(ID(1), ids="8,1,2"): "malformed_row",
    action("short"): "malformed_row",
    action("../../secret"): "bad_path",
    action("/etc/passwd"): "bad_path",
    "video_id,middle_frame_timestamp,x1,y1,x2,y2,action_id,person_id": "malformed_row",
    action(ID(2)): "bad_path",
}


def test_each_hostile_line_is_rejected_alone_and_a_movie_without_a_right_one_has_no_clips(tmp_path: Path) -> None:
    made = ava(tmp_path, train=list(HOSTILE), train_excluded=[f"{ID(0)},0905", f"{ID(0)},99", "x,y,z", "../a,0905"])
    (made.media_root / f"{ID(2)}.mp4").symlink_to(video(tmp_path, "secret.mp4"))
    listing = read_source(made)
    assert {clip["native_id"] for clip in listing.clips} == {ID(0)} and len(listing.clips) == 89
    of_excluded = [(2, "bad_time"), (3, "malformed_row"), (4, "bad_path")]
    of_actions = [(row, error) for row, error in enumerate(HOSTILE.values(), 1) if error]
    assert sorted(rejected(listing)) == sorted(of_excluded + of_actions)
    assert {reject["split"] for reject in listing.rejects} == {"train"}
    store_and_compare(tmp_path, listing)


def test_the_two_files_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"ava_train\.csv:1: no line has the form video_id,middle_frame_timestamp"):
        read_source(ava(tmp_path, train=[f"{ID(0)},0902"]))
    with pytest.raises(SourceError, match=r"ava_train_excluded\.csv:1: no line has the form video_id,timestamp"):
        read_source(ava(tmp_path, train=[action(ID(0))], train_excluded=[action(ID(0))]))
