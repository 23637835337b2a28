"""Kinetics on real files: what is listed, what is refused and why."""

import gzip
import io
import os
import tarfile
from dataclasses import asdict
from pathlib import Path

import pytest
from source_layouts import ID, WHOLE, files_of, rejected, source, store_and_compare, video

from warehouse import media_bytes
from warehouse.config import Source
from warehouse.error_classes import MediaError
from warehouse.media_bytes import open_bytes
from warehouse.media_file import media_file
from warehouse.sources import SourceError, clip_id, read_source
from warehouse.sources.listing import Media


def kinetics(tmp_path: Path, **texts: str | bytes) -> Source:
    """A Kinetics source with a CSV for each split; its videos lie in ``tmp_path / "videos"``."""
    files = {}
    for split, text in texts.items():
        files[split] = tmp_path / f"{split}.csv"
        files[split].write_bytes(text.encode() if isinstance(text, str) else text)
    return source("kinetics", tmp_path / "videos", files)


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


def archive(file: Path, members: list[tarfile.TarInfo | str], size: int = 5) -> Path:
    """A tar with regular members of ``size`` bytes for names, and whatever else is described."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as made:
        for member in members:
            entry = tarfile.TarInfo(member) if isinstance(member, str) else member
            if isinstance(member, str):
                entry.size = size
            made.addfile(entry, io.BytesIO(b"v" * entry.size))
    return file


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def test_kinetics_clips_are_found_inside_tars_as_they_are_downloaded(tmp_path: Path) -> None:
    made = kinetics(tmp_path, train=HEADER + "".join(f"abseiling,{ID(i)},5,15,train\n" for i in range(6)))
    root, name = made.media_root, "{}_000005_000015{}".format
    part = archive(root / "train/part_0.tar", [
        entry("abseiling", tarfile.DIRTYPE), f"abseiling/{name(ID(0), '.mp4')}", f"./{name(ID(1), '.webm')}",
        "abseiling/notes.txt", f"abseiling/._{name(ID(5), '.mp4')}", f"{'deep/' * 40}{name(ID(2), '.mp4')}",
    ])  # fmt: skip
    archive(root / "val/part_0.tar", [name(ID(3), ".mp4"), name(ID(0), ".mp4")])
    archive(root / "part_9.tar", [name(ID(4), ".mp4")])
    video(root, name(ID(4), ".mp4"), b"1234567")  # outside an archive goes first
    listing = read_source(made)
    assert files_of(listing) == [
        (ID(0), "train/part_0.tar", 5, f"abseiling/{name(ID(0), '.mp4')}", *[None] * 5),
        (ID(1), "train/part_0.tar", 5, f"./{name(ID(1), '.webm')}", *[None] * 5),
        (ID(2), "train/part_0.tar", 5, f"{'deep/' * 40}{name(ID(2), '.mp4')}", *[None] * 5),
        (ID(3), "val/part_0.tar", 5, name(ID(3), ".mp4"), *[None] * 5),
        (ID(4), name(ID(4), ".mp4"), 7, *WHOLE),
        (ID(5), name(ID(5), ".mp4"), None, *WHOLE),
    ]
    assert listing.files[0]["modified_ns"] == part.stat().st_mtime_ns
    assert listing.rejects == []
    store_and_compare(tmp_path, listing)


def test_a_listed_member_is_read_without_a_search_unless_its_archive_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kinetics(tmp_path, train=HEADER + "".join(f"abseiling,{ID(i)},5,15,train\n" for i in range(4)))
    names = [f"{'é/' * i * 20}{'deep/' * 40 * (i % 2)}{ID(i)}_000005_000015.mp4" for i in range(4)]
    file = made.media_root / "part_0.tar"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(file, "w", format=form) as made_tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 40
                made_tar.addfile(member, io.BytesIO(name.encode()[-40:].ljust(40)))
        files = {row["member"]: media_file(made.media_root, row) for row in read_source(made).files}
        assert list(files) == names
        for name, media in files.items():
            with open_bytes(media) as opened:
                assert opened.read() == name.encode()[-40:].ljust(40)
    with monkeypatch.context() as patched:
        patched.delattr(media_bytes, "_members")
        open_bytes(files[names[0]]).close()
    archive(file, [names[3], names[0]], size=9)
    with open_bytes(files[names[0]]) as opened:  # at another place, with other bytes
        assert opened.read() == b"v" * 9
    with pytest.raises(MediaError, match="no such member"):
        open_bytes(files[names[1]])


def test_nothing_hostile_in_an_archive_is_listed(tmp_path: Path) -> None:
    made = kinetics(tmp_path, train=HEADER + "".join(f"a,{ID(i)},5,15,train\n" for i in range(9)))
    root = made.media_root
    names = [f"{ID(i)}_000005_000015.mp4" for i in range(9)]
    secret = video(tmp_path, "secret.mp4")
    hostile: list[tarfile.TarInfo | str] = [
        f"/{names[0]}", f"../{names[1]}", f"a/../../{names[2]}", entry(names[3], tarfile.SYMTYPE, str(secret)),
        entry(names[4], tarfile.LNKTYPE, "../secret.mp4"), entry(names[5], tarfile.FIFOTYPE),
        entry(names[6], tarfile.CHRTYPE), os.fsdecode(b"\xe4/" + names[7].encode()), names[8],
    ]  # fmt: skip
    file = archive(root / "a.tar", hostile)
    cut = archive(root / "cut.tar", [names[0], names[1]], size=2000)
    cut.write_bytes(cut.read_bytes()[: 512 + 2048 + 512 + 1000])
    for name, content in {"empty.tar": b"", "text.tar": b"no tar\n" * 200, "noise.tar": bytes(range(256)) * 8}.items():
        video(root, name, content)
    with gzip.open(root / "part_1.tar.gz", "wb") as packed:
        packed.write(file.read_bytes())
    (root / "part_2.tar").write_bytes((root / "part_1.tar.gz").read_bytes())  # compressed whatever its name says
    archive(root / ".trash/b.tar", [names[7]])
    (root / "away.tar").symlink_to(archive(tmp_path / "away.tar", [names[7]]))
    (root / names[8]).symlink_to(secret)  # the copy in a.tar is taken
    listing = read_source(made)
    present = [(native, path) for native, path, size, *_ in files_of(listing) if size]
    assert present == [(ID(0), "cut.tar"), (ID(8), "a.tar")]
    of_file: dict[str, list[int]] = {}
    for reject in listing.rejects:
        assert reject["error_class"] == "bad_path"
        of_file.setdefault(Path(reject["file"]).name, []).append(reject["row"])
    assert of_file == {
        "a.tar": [1, 2, 3, 4, 5, 6, 7, 8], "cut.tar": [2, 3], "empty.tar": [1], "text.tar": [1], "noise.tar": [1],
        "part_2.tar": [1], "videos": [1, 2],
    }  # fmt: skip
    details = " ".join(reject["detail"] for reject in listing.rejects)
    assert "'part_1.tar.gz' is a compressed tar, whose members cannot be read in place. Decompress it" in details
    assert "'away.tar' is a link that leaves media_root" in details and "links in archives are not followed" in details
    store_and_compare(tmp_path, listing)


def test_many_rows_are_listed_with_one_walk_and_no_look_for_each_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, present = 100_000, 300
    ids = [f"{i:011d}" for i in range(rows)]
    made = kinetics(tmp_path, train=HEADER + "".join(f"a,{native},0,10,train\n" for native in ids))
    for native in ids[:present]:
        video(made.media_root, f"a/{native}_000000_000010.mp4")
    looked: list[object] = []
    for name in ("scandir", "stat", "lstat"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, **k: looked.append(a) or real(*a, **k))
    listing = read_source(made)
    monkeypatch.undo()
    assert len(listing.memberships) + len(listing.rejects) == rows and len(listing.rejects) == 0
    assert sum(file["bytes"] is not None for file in listing.files) == present
    assert len(looked) < 20
