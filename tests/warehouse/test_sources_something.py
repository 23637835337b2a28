"""Something-Something V1 and V2 on real files: what is listed, what is refused and why."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from source_layouts import WHOLE, files_of, members_of, rejected, source, store_and_compare, video

from warehouse.config import Source
from warehouse.sources import SourceError, clip_id, read_source


def something(tmp_path: Path, labels: object, **splits: object) -> Source:
    files = {}
    for role, value in {"labels": labels, **splits}.items():
        files[role] = tmp_path / f"{role}.json"
        files[role].write_text(value if isinstance(value, str) else json.dumps(value))
    return source("something_something_v2", tmp_path / "videos", files, namespace="something_something_v2")


LABELS = {"Moving something up": "0", "Holding something next to something": "1"}


def item(native_id: object, template: object = "Moving [something] up") -> dict[str, object]:
    return {"id": native_id, "template": template, "label": "moving a mug up", "placeholders": ["a mug"]}


def test_something_something_lists_the_four_files(tmp_path: Path) -> None:
    made = something(
        tmp_path, LABELS,
        train=[item("8"), item("7", "Holding [something] next to [something]")], val=[item("9")], test=[{"id": "10"}],
    )  # fmt: skip
    video(made.media_root, "8.webm")
    video(made.media_root, "part/7.mp4")
    video(made.media_root, "part/7.webm")
    listing = read_source(made)
    assert [(m["split"], m["label"], m["annotation_row"]) for m in listing.memberships] == [
        ("train", "Moving something up", 1), ("train", "Holding something next to something", 2),
        ("val", "Moving something up", 1), ("test", None, 1),
    ]  # fmt: skip
    assert [(f["path"], f["bytes"]) for f in listing.files] == [
        ("8.webm", 5), ("part/7.webm", 5), ("9.webm", None), ("10.webm", None),
    ]  # fmt: skip
    assert listing.clips[0] == {
        "clip_id": clip_id("something_something_v2", "8", None, None), "namespace": "something_something_v2",
        "native_id": "8", "start_ms": None, "end_ms": None,
    }  # fmt: skip
    store_and_compare(tmp_path, listing)


def test_hostile_items_are_rejected_alone(tmp_path: Path) -> None:
    deep: object = "end"
    for _ in range(300):
        deep = [deep]
    items = [
        item("1"), item("1"), item("../1"), item("/1"), item(2), item(""), item("1\n"), item("²"), 5, None, [], deep,
        item("3", None), item("3", "Eating [something]"), item("3", ["Moving"]), item("3", "\ud800"), {"id": "3"},
        item("3"),
    ]  # fmt: skip
    listing = read_source(something(tmp_path, LABELS, train=items))
    bad = ["duplicate_row", "bad_path", "bad_path", *["malformed_row"] * 13]
    assert rejected(listing) == list(enumerate(bad, 2))
    assert [clip["native_id"] for clip in listing.clips] == ["1", "3"]
    store_and_compare(tmp_path, listing)


@pytest.mark.parametrize(
    ("role", "text", "says"),
    [
        ("train", '[{"id": "1"},\n {"id": ]', r"train\.json:2:9: is not JSON"),
        ("train", '{"id": "1"}', r"train\.json: expected an array of items, found an object"),
        ("labels", '["a"]', r"labels\.json: expected an object of class → number, found an array"),
        ("train", "[" * 100_000, r"train\.json: is not an annotation file \(.*recursion"),
        ("train", "", r"train\.json:1:1: is not JSON"),
    ],
)
def test_a_json_file_that_does_not_parse_is_an_error_with_its_place(
    tmp_path: Path, role: str, text: str, says: str
) -> None:
    made = something(tmp_path, **{"labels": LABELS, "train": [], role: text})
    with pytest.raises(SourceError, match=says):
        read_source(made)


def test_answers_label_the_test_set_and_folders_of_frames_stand_in_for_videos(tmp_path: Path) -> None:
    train = [item(str(i)) for i in (1, 2, 3, 4)]
    made = something(tmp_path, LABELS, train=train, test=[{"id": "10"}, {"id": "11"}, {"id": "12"}])
    answers = tmp_path / "test-answers.csv"
    answers.write_text(
        "10;Holding something next to something\n11;Eating something\n99;Moving [something] up\n\n12\n"
        "10;Moving something up\n"
    )
    made = replace(made, annotations={**made.annotations, "test_answers": answers}, frame_rate=30.0)
    root = made.media_root
    for path in ("1.webm", "1/img_00001.jpg", "rgb/2/img_00001.jpg", "rgb/2/img_00002.jpg", "rgb/2/flow.txt"):
        video(root, path)
    (root / "3").mkdir()
    (root / "3/img_00001.jpg").symlink_to(video(tmp_path, "secret.jpg"))
    video(tmp_path, "outside/4/img_00001.jpg")
    (root / "4").symlink_to(tmp_path / "outside/4")
    listing = read_source(made)
    assert members_of(listing)[4:] == [
        (1, "10", "test", "Holding something next to something"), (2, "11", "test", None), (3, "12", "test", None),
    ]  # fmt: skip
    assert files_of(listing)[:5] == [
        ("1", "1.webm", 5, *WHOLE),
        ("2", "rgb/2", 10, None, None, None, 30.0, None, None),
        ("3", "3", None, None, None, None, 30.0, None, None),  # a link is no frame
        ("4", "4.webm", None, *WHOLE),
        ("10", "10.webm", None, *WHOLE),
    ]
    assert [(Path(r["file"]).name, r["row"], r["error_class"], r["split"]) for r in listing.rejects] == [
        ("test-answers.csv", 2, "malformed_row", "test"), ("test-answers.csv", 5, "malformed_row", "test"),
        ("test-answers.csv", 6, "duplicate_row", "test"), ("videos", 1, "bad_path", None),
    ]  # fmt: skip
    store_and_compare(tmp_path, listing)
    with pytest.raises(SourceError, match=r"do not say their rate. Add `frame_rate = ...`, .*\[sources.one\]"):
        read_source(replace(made, frame_rate=None))


V1_LABELS = "Holding something\nTurning something upside down\nThrowing something, then [something]\n"
V1_HOSTILE = {  # a line of train.csv → the class of its reject
    "100218;Holding something": None,
    "100218;Turning something upside down": "duplicate_row",
    "24413;Throwing something, then [something]": None,
    "24413": "malformed_row",
    ";Holding something": "malformed_row",
    "24414;Eating something": "malformed_row",
    "24414;": "malformed_row",
    "x24414;Holding something": "malformed_row",
    "../24414;Holding something": "bad_path",
    "/etc;Holding something": "bad_path",
    "24414\0;Holding something": "malformed_row",
    "24\ud800;Holding something": "malformed_row",
    "5;Holding something": None,
    "6;Holding something": "bad_path",
}


def something_v1(tmp_path: Path, train: bytes, labels: str = V1_LABELS) -> Source:
    files = {role: tmp_path / f"something-something-v1-{role}.csv" for role in ("labels", "train", "val", "test")}
    files["labels"].write_text(labels)
    files["train"].write_bytes(train)
    files["val"].write_text("7;Holding something\r\n")
    files["test"].write_text("8\n9\n")
    return source("something_something_v1", tmp_path / "videos", files, namespace="something_something_v1")


def test_v1_lists_folders_of_frames_and_rejects_hostile_lines_alone(tmp_path: Path) -> None:
    made = something_v1(tmp_path, "\n".join(V1_HOSTILE).encode("utf-8", "surrogatepass"))
    root = made.media_root
    for path in ("100218/00001.jpg", "100218/00002.jpg", "20bn/24413/00001.jpg", "8/00001.jpg"):
        video(root, path)
    video(tmp_path, "outside/00001.jpg")
    (root / "6").symlink_to(tmp_path / "outside")
    listing = read_source(made)
    train = [(row, error) for row, error in enumerate(V1_HOSTILE.values(), 1) if error]
    assert rejected(listing) == [*train, (1, "bad_path")]
    assert members_of(listing) == [
        (1, "100218", "train", "Holding something"), (3, "24413", "train", "Throwing something, then [something]"),
        (13, "5", "train", "Holding something"), (1, "7", "val", "Holding something"),
        (1, "8", "test", None), (2, "9", "test", None),
    ]  # fmt: skip
    assert [(path, size, rate) for _, path, size, _, _, _, rate, *_ in files_of(listing)] == [
        ("100218", 10, 12.0), ("20bn/24413", 5, 12.0), ("5", None, 12.0), ("7", None, 12.0), ("8", 5, 12.0),
        ("9", None, 12.0),
    ]  # fmt: skip
    store_and_compare(tmp_path, listing)


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (b"", r"v1-train\.csv: is empty; expected lines of the form id;class. Fetch the file again"),
        (b"id,label\n1,Holding something\n", r"v1-train\.csv:1: no line has .* id;class; this one reads id,label"),
        ("1;Holding something\n".encode("utf-16"), r"v1-train\.csv:1: no line has the form"),
        (b"\x1f\x8b\x08\0" * 50 + b"\n", r"v1-train\.csv:1: no line has the form"),
    ],
)
def test_a_file_of_another_form_is_an_error(tmp_path: Path, train: bytes, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        read_source(something_v1(tmp_path, train))
