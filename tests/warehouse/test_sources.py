"""Adapters on real files: what is listed, what is refused and why, and that all of it fits the tables."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from source_layouts import rejected, source, store_and_compare, video

from warehouse.config import Source, load
from warehouse.sources import SourceError, clip_id, read_source

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


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
