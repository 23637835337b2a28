"""Adapters on real files: what is listed, what is refused and why, and that all of it fits the tables."""

import json
import os
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from warehouse.config import Source, load
from warehouse.sources import Listing, SourceError, clip_id, read_source
from warehouse.sources.listing import Media
from warehouse.store import Store

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
ID = "abcdefghij{}".format  # 11 characters with one more


def video(root: Path, path: str, content: bytes = b"video") -> Path:
    """A file that no adapter opens: they list, and probing looks inside."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def source(kind: str, root: Path, annotations: dict[str, Path], **changes: Any) -> Source:
    root.mkdir(exist_ok=True)
    basic = Source("one", kind, root, annotations, (), 4, "CC BY 4.0", "youtube", 0, {}, {}, {})
    return replace(basic, **changes)


def kinetics(tmp_path: Path, **texts: str | bytes) -> Source:
    """A Kinetics source with a CSV for each split; its videos lie in ``tmp_path / "videos"``."""
    files = {}
    for split, text in texts.items():
        files[split] = tmp_path / f"{split}.csv"
        files[split].write_bytes(text.encode() if isinstance(text, str) else text)
    return source("kinetics", tmp_path / "videos", files)


def rejected(listing: Listing) -> list[tuple[int, str]]:
    return [(reject["row"], reject["error_class"]) for reject in listing.rejects]


def store_and_compare(tmp_path: Path, listing: Listing) -> None:
    """The listing survives Parquet unchanged, and its keys are unique."""
    store = Store(tmp_path / "store")
    keys = {"clips": ["clip_id"], "memberships": ["clip_id", "source", "split"], "files": ["clip_id", "source"],
            "rejects": ["source", "file", "row"]}  # fmt: skip
    for table, key in keys.items():
        rows = getattr(listing, table)
        store.write(table, rows, part="one")
        assert store.rows(table, part="one") == rows
        assert len({tuple(row[name] for name in key) for row in rows}) == len(rows), table


HEADER = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics_lists_clips_of_all_splits_in_the_order_of_the_files(tmp_path: Path) -> None:
    made = kinetics(
        tmp_path,
        # Another order of columns, one more column, CRLF, a byte order mark, a quoted comma, an empty line, `validate`.
        train=f"label,youtube_id,time_start,time_end,split\nzooming,{ID(1)},5,15,train\nturning,{ID(0)},0,10,train\n",
        val=f'\ufeffsplit,time_end,time_start,youtube_id,label,is_cc\r\n\r\nvalidate,15,5,{ID(1)},"a, b",0\r\n',
        test=f"youtube_id,time_start,time_end,split\n{ID(2)},100,110.0,test\n",
    )
    file = video(made.media_root, f"{ID(1)}_000005_000015.mp4", b"12345")
    listing = read_source(made)
    assert [(m["split"], m["label"], m["annotation_row"]) for m in listing.memberships] == [
        ("train", "zooming", 2), ("train", "turning", 3), ("val", "a, b", 3), ("test", None, 2),
    ]  # fmt: skip
    # The clip that stands in two splits is one clip with one file.
    assert [(c["native_id"], c["start_ms"], c["end_ms"]) for c in listing.clips] == [
        (ID(1), 5000, 15000), (ID(0), 0, 10000), (ID(2), 100000, 110000),
    ]  # fmt: skip
    media = Media(f"{ID(1)}_000005_000015.mp4", 5, file.stat().st_mtime_ns)
    identity = {"clip_id": clip_id("youtube", ID(1), 5000, 15000), "source": "one"}
    assert listing.files[0] == identity | asdict(media)
    # A file that is absent is a row all the same.
    assert (listing.files[1]["path"], listing.files[1]["bytes"]) == (f"{ID(0)}_000000_000010.mp4", None)
    assert listing.rejects == []
    assert listing.memberships[0]["annotation_file"] == str(tmp_path / "train.csv")
    store_and_compare(tmp_path, listing)


HOSTILE = {  # a line of train.csv → the class of its reject
    f"a,{ID(1)},0,10,train": None,
    f"a,{ID(1)},0,10,train ": "duplicate_row",
    f"a,{ID(1)},0": "malformed_row",
    f"a,{ID(1)},0,10,train,": "malformed_row",
    f'"a,{ID(2)},0,10,train': "malformed_row",
    f'"a"b,{ID(2)},0,10,train': "malformed_row",
    f"a\0,{ID(2)},0,10,train": "malformed_row",
    f",{ID(2)},0,10,train": "malformed_row",
    "a,#NAME?,0,10,train": "malformed_row",
    "a,,0,10,train": "malformed_row",
    "a,../../secret,0,10,train": "bad_path",
    "a,/etc/passwd,0,10,train": "bad_path",
    r"a,C:\secret,0,10,train": "bad_path",
    f"a,{ID(2)},soon,10,train": "bad_time",
    f"a,{ID(2)},10,10,train": "bad_time",
    f"a,{ID(2)},-1,10,train": "bad_time",
    f"a,{ID(2)},0,1e9,train": "bad_time",
    f"a,{ID(2)},0,9{'9' * 5000},train": "bad_time",
    f"a,{ID(2)},1.5,10,train": "bad_time",
    f"a,{ID(2)},１,10,train": "bad_time",
    f"a,{ID(2)},0,10,val": "unknown_split",
    f"a,{ID(2)},0,10,train": None,
}


def test_each_hostile_row_is_rejected_alone_and_says_what_was_read(tmp_path: Path) -> None:
    lines = [line.encode() for line in (HEADER.strip(), *HOSTILE)]
    lines.append(f"b\xe4,{ID(3)},0,10,train".encode("latin-1"))
    listing = read_source(kinetics(tmp_path, train=b"\n".join(lines)))
    expected = [(row, error) for row, error in enumerate([*HOSTILE.values(), "malformed_row"], 2) if error]
    assert rejected(listing) == expected
    assert len(listing.clips) == len(listing.memberships) == 2
    details = {reject["row"]: reject["detail"] for reject in listing.rejects}
    assert details[3] == f"'{ID(1)}' is already in train: train.csv, row 2"
    assert "has 3 fields, expected 5" in details[4] and f"a,{ID(1)},0" in details[4]
    assert "'soon'" in details[15] and "\\xe4" in details[len(lines)] and "not UTF-8 at byte 2" in details[len(lines)]
    assert all(reject["file"] == str(tmp_path / "train.csv") for reject in listing.rejects)
    store_and_compare(tmp_path, listing)


def test_kinetics_media_are_found_in_every_layout_and_the_choice_is_deterministic(tmp_path: Path) -> None:
    rows = [f"drifting left,{ID(i)},5,15,train\n" for i in range(6)]
    made = kinetics(tmp_path, train=HEADER + "".join(rows))
    name = "{}_000005_000015{}".format
    video(made.media_root, name(ID(0), ".mp4"))
    video(made.media_root, f"drifting left/{name(ID(1), '.mp4')}")
    video(made.media_root, f"train/drifting_left/{name(ID(2), '.mkv')}")
    for path in ("b/{}", "a/{}", "val/{}", "train/deep/down/{}"):
        video(made.media_root, path.format(name(ID(3), ".mp4")))
    for path in ("b/{}.mp4", "a/{}.mp4", "{}.webm", "a/deep/{}.mp4"):
        video(made.media_root, path.format(name(ID(4), "")))
    for path in (f"{ID(5)}_000005_000015.txt", f".trash/{ID(5)}_000005_000015.mp4", f"{ID(5)}_000005_000016.mp4"):
        video(made.media_root, path)
    listing = read_source(made)
    assert [(file["path"], file["bytes"]) for file in listing.files] == [
        (name(ID(0), ".mp4"), 5),
        (f"drifting left/{name(ID(1), '.mp4')}", 5),
        (f"train/drifting_left/{name(ID(2), '.mkv')}", 5),
        (f"train/deep/down/{name(ID(3), '.mp4')}", 5),  # in a folder of its split
        (f"a/{name(ID(4), '.mp4')}", 5),  # mp4, few folders, first by name
        (name(ID(5), ".mp4"), None),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"train\.csv: is empty; expected a header with label, youtube_id"),
        (b"youtube_id,time_start,time_end\n", r"train\.csv:1: no column 'label'; the columns are 'youtube_id'"),
        (b"\nlabel;youtube_id;time_start;time_end\n", r"train\.csv:2: no column 'label'"),
        (HEADER.encode("utf-16"), r"train\.csv:1: the header .* Save the file as UTF-8"),
        (b"label,label,youtube_id,time_start,time_end\n", r"train\.csv:1: two columns are named 'label'"),
    ],
)
def test_a_file_that_is_no_kinetics_csv_is_an_error(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        read_source(kinetics(tmp_path, train=content))


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


def folder(tmp_path: Path, csv: str | None = None, **changes: Any) -> Source:
    files = {}
    if csv is not None:
        files["csv"] = tmp_path / "labels.csv"
        files["csv"].write_text(csv, encoding="utf-8")
    return source("folder", tmp_path / "videos", files, namespace="one", **changes)


def test_a_folder_is_listed_by_path_and_keeps_inside_its_root(tmp_path: Path) -> None:
    made = folder(tmp_path)
    root = made.media_root
    for path in ("b.mp4", "a/z.MKV", "a/ü $(x).webm", "notes.txt", ".hidden.mp4", "a/.cache/x.mp4"):
        video(root, path)
    outside = video(tmp_path, "outside/secret.mp4")
    (root / "inside.mp4").symlink_to(root / "b.mp4")
    (root / "again").symlink_to(root / "a")  # its files are listed by their real path
    (root / "loop").symlink_to(root)
    (root / "away.mp4").symlink_to(outside)
    (root / "away").symlink_to(outside.parent)
    (root / "dangling.mp4").symlink_to(root / "gone.mp4")
    (root / "self.mp4").symlink_to(root / "self.mp4")
    os.mkfifo(root / "pipe.mp4")
    video(root, os.fsdecode(b"latin-\xe4.mp4"))
    listing = read_source(made)
    assert [(f["path"], f["bytes"]) for f in listing.files] == [
        ("a/z.MKV", 5), ("a/ü $(x).webm", 5), ("b.mp4", 5), ("dangling.mp4", None), ("inside.mp4", 5),
    ]  # fmt: skip
    assert [r["detail"].split("'")[1] for r in listing.rejects] == [
        "away", "away.mp4", "latin-\\udce4.mp4", "pipe.mp4", "self.mp4",
    ]  # fmt: skip
    assert {r["error_class"] for r in listing.rejects} == {"bad_path"}
    rows = sorted([m["annotation_row"] for m in listing.memberships] + [r["row"] for r in listing.rejects])
    assert rows == list(range(1, 11))
    assert {(m["split"], m["label"], m["annotation_file"]) for m in listing.memberships} == {("train", None, str(root))}
    store_and_compare(tmp_path, listing)


def test_kinetics_clips_behind_links_that_leave_the_root_are_rejected(tmp_path: Path) -> None:
    made = kinetics(tmp_path, train=HEADER + f"a,{ID(1)},0,10,train\na,{ID(2)},0,10,train\na,{ID(3)},0,10,train\n")
    outside = video(tmp_path, "outside/x.mp4")
    (made.media_root / f"{ID(1)}_000000_000010.mp4").symlink_to(outside)
    (made.media_root / f"{ID(2)}_000000_000010.mp4").symlink_to(outside)
    video(made.media_root, f"real/{ID(2)}_000000_000010.mp4")  # taken although it is in more folders
    (made.media_root / "away").symlink_to(outside.parent)
    listing = read_source(made)
    assert [(r["file"], r["row"], r["error_class"]) for r in listing.rejects] == [
        (str(tmp_path / "train.csv"), 2, "bad_path"), (str(made.media_root), 1, "bad_path"),
    ]  # fmt: skip
    assert "leaves media_root" in listing.rejects[0]["detail"] and "'away'" in listing.rejects[1]["detail"]
    assert [(f["path"].split("/")[0], f["bytes"]) for f in listing.files] == [
        ("real", 5), (f"{ID(3)}_000000_000010.mp4", None),
    ]  # fmt: skip


def test_a_csv_picks_rows_maps_splits_and_refuses_paths(tmp_path: Path) -> None:
    csv = """file,action,sequence,official
a/1.mp4,punch,1,1
a//2.mp4, ,9,1
./.own/3.mp4,kick,1,1
a/1.mp4,punch,9,1
a/1.mp4,kick,9,1
a/4.mp4,hug,4,1
a/5.mp4,hug,1,0
../a/6.mp4,hug,1,1
/a/7.mp4,hug,1,1
a/8,hug,1,1
,hug,1,1
away/9.mp4,hug,1,1
linked/1.mp4,hug,1,1
broken row of another source
"""
    made = folder(
        tmp_path, csv, columns={"path": "file", "label": "action", "split": "sequence"},
        splits={"train": ("1", "2"), "val": ("9",)}, where={"official": ("1",)},
    )  # fmt: skip
    for path in ("a/1.mp4", "a/2.mp4", ".own/3.mp4", "unlisted.mp4"):
        video(made.media_root, path)
    (made.media_root / "away").symlink_to(video(tmp_path, "outside/9.mp4").parent)
    (made.media_root / "linked").symlink_to(made.media_root / "a")
    listing = read_source(made)
    paths = {file["clip_id"]: (file["path"], file["bytes"]) for file in listing.files}
    assert [(m["annotation_row"], *paths[m["clip_id"]], m["split"], m["label"]) for m in listing.memberships] == [
        (2, "a/1.mp4", 5, "train", "punch"),
        (3, "a/2.mp4", 5, "val", None),
        (4, ".own/3.mp4", 5, "train", "kick"),
        (5, "a/1.mp4", 5, "val", "punch"),
        (14, "linked/1.mp4", 5, "train", "hug"),
    ]
    assert rejected(listing) == [
        (6, "duplicate_row"), (7, "unknown_split"), (9, "bad_path"), (10, "bad_path"), (11, "malformed_row"),
        (12, "malformed_row"), (13, "bad_path"), (15, "malformed_row"), (1, "bad_path"),
    ]  # fmt: skip
    assert listing.rejects[1]["detail"] == "sequence is '4', expected 1, 2, 9"
    store_and_compare(tmp_path, listing)


def test_label_and_split_columns_are_optional_but_not_when_named(tmp_path: Path) -> None:
    assert [(m["split"], m["label"]) for m in read_source(folder(tmp_path, "path\n1.mp4\n")).memberships] == [
        ("train", None)
    ]
    csv = "path,label,split\n1.mp4,a,val\n2.mp4,b,holdout\n"
    listing = read_source(folder(tmp_path, csv))
    assert [(m["split"], m["label"]) for m in listing.memberships] == [("val", "a")]
    assert rejected(listing) == [(3, "unknown_split")]
    unread = read_source(folder(tmp_path, csv, columns={"label": "", "split": ""}))
    assert [(m["split"], m["label"]) for m in unread.memberships] == [("train", None), ("train", None)]
    for changes, column in (
        ({"columns": {"label": "class"}}, "class"),
        ({"where": {"official": ("1",)}}, "official"),
        ({"columns": {"path": "file"}}, "file"),
    ):
        with pytest.raises(SourceError, match=rf"labels\.csv:1: no column '{column}'"):
            read_source(folder(tmp_path, csv, **changes))
    with pytest.raises(SourceError, match=r"labels\.csv:1: no column 'split'"):
        read_source(folder(tmp_path, "path\n1.mp4\n", splits={"train": ("1",)}))


def test_a_media_root_that_is_gone_is_an_error(tmp_path: Path) -> None:
    made = folder(tmp_path)
    made.media_root.rmdir()
    with pytest.raises(SourceError, match="videos: cannot be read"):
        read_source(made)


def test_clip_ids_differ_in_each_part_and_are_shared_by_sources_of_a_namespace() -> None:
    parts = [("youtube", "a", 0, 10), ("other", "a", 0, 10), ("youtube", "b", 0, 10), ("youtube", "a", 1, 10),
             ("youtube", "a", 0, 11), ("youtube", "a", None, None), ("youtube", "a", None, 0),
             ("youtube", "a0", None, 10), ("youtubea", "", 0, 10)]  # fmt: skip
    assert len({clip_id(*part) for part in parts}) == len(parts)
    # Kept for ever: ids are keys in shards and snapshots.
    assert clip_id("youtube", "a", 0, 10) == "c7883aafa08c89ad619d92a4355f9ea7"


@pytest.mark.skipif(not (SHARED / "ut_interaction").is_dir(), reason="the real clips of ../shared/data are not here")
def test_the_example_lists_the_real_clips_with_sequences_apart() -> None:
    config = load(ROOT / "examples" / "ut_interaction.toml")
    listings = {made.name: read_source(made) for made in config.sources}
    counts = {name: Counter(m["split"] for m in listing.memberships) for name, listing in listings.items()}
    assert counts == {
        "ut_set1": {"train": 48, "val": 12}, "ut_set2": {"train": 60}, "ut_negatives": {"train": 91, "val": 7},
        "asl_words": {"train": 23},
    }  # fmt: skip
    for listing in listings.values():
        assert listing.rejects == [] and all(file["bytes"] for file in listing.files)
    labels = Counter((m["label"], m["split"]) for m in listings["ut_set1"].memberships)
    assert labels == {
        (label, split): n
        for label in ("handshake", "hug", "kick", "point", "punch", "push")
        for split, n in (("train", 8), ("val", 2))
    }
    unlabelled = ("ut_set2", "ut_negatives", "asl_words")
    assert {m["label"] for name in unlabelled for m in listings[name].memberships} == {None}
    # File names are set/segment_sequence_class: none of sequence 9 or 10 of set 1 is in training.
    native = {c["clip_id"]: c["native_id"] for listing in listings.values() for c in listing.clips}
    training = [native[m["clip_id"]] for listing in listings.values() for m in listing.memberships
                if m["split"] == "train" and native[m["clip_id"]].startswith("set1/")]  # fmt: skip
    assert {int(path.split("_")[1]) for path in training} == set(range(1, 9))
