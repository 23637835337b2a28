"""Damaged annotation files and archives of every layout: a clear error, or every row accounted for."""

import io
import json
import random
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from source_layouts import ID, fits_tables, source, video

from warehouse.sources import Listing, SourceError, read_source

MUTANTS = 300
# kind → the annotation that is damaged (role, text), and the others by role
LAYOUTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "kinetics": ("train", "label,youtube_id,time_start,time_end,split\n"
                 + "".join(f'"a, {i}",{ID(i % 10)},{i},{i + 10},train\n' for i in range(12)), {}),
    "something_something_v1": ("train", "".join(f"{i};Holding something\n" for i in range(12)),
                               {"labels": "Holding something\n"}),
    "ava": ("train", "".join(f"{ID(i % 3)},{902 + i:04d},0.1,0.2,0.3,0.4,{i + 1},{i}\n" for i in range(12)),
            {"train_excluded": f"{ID(0)},0905\n"}),
    "webvid": ("train", "videoid,contentUrl,duration,page_dir,name\n"
               + "".join(f'{i},https://a,PT00H00M1{i % 10}S,1_50,"a ""b"", c"\n' for i in range(12)), {}),
    "ucf101": ("train", "".join(f"Archery/v_Archery_g{i:02d}_c01.avi 1\n" for i in range(12)),
               {"classes": "1 Archery\n"}),
    "hmdb51": ("splits", "".join(f"clip_{i}.avi {1 + i % 2} \n" for i in range(12)), {}),
    "something_something_v2": ("train", json.dumps([{"id": str(i), "template": "Moving [it]"} for i in range(12)]),
                               {"labels": '{"Moving it": "0"}'}),
    "list": ("train", "".join(f"a b/{i}.mp4 {i}\nc/{i}.mp4 0 -1\nframes/{i} 1 3 5\n" for i in range(4)), {}),
}  # fmt: skip
HEADED = ("kinetics", "webvid")


def damage(random_: random.Random, text: bytes) -> bytes:
    """One to three of: bytes replaced, a part cut out, doubled or turned into noise, the end cut off."""
    data = bytearray(text)
    for _ in range(random_.randint(1, 3)):
        start = random_.randrange(len(data)) if data else 0
        stop = min(len(data), start + random_.randint(1, 20))
        kind = random_.randrange(6)
        if kind == 0:
            data[start:stop] = random_.randbytes(stop - start)
        elif kind == 1:
            del data[start:stop]
        elif kind == 2:
            data[start:start] = data[start:stop] * random_.choice((1, 2, 500))
        elif kind == 3:
            del data[start:]
        elif kind == 4:
            data[start:stop] = random_.choice((b"../", b"/", b'"', b"\n", b"\r", b"\0", b" -1", b"9" * 12, b".mp4"))
        else:
            data[start:stop] = "².٣\u2028\ud800".encode("utf-8", "surrogatepass")
    return bytes(data)


def lines_of(data: bytes) -> int:
    return sum(bool(line.strip()) for line in data.removeprefix(b"\xef\xbb\xbf").splitlines())


@pytest.mark.parametrize("kind", LAYOUTS)
def test_damaged_annotations_are_errors_or_accounted_for(kind: str, tmp_path: Path) -> None:
    random_ = random.Random(kind)
    role, text, others = LAYOUTS[kind]
    root = tmp_path / "videos"
    video(root, "a b/0.mp4")
    for number in range(1, 4):
        video(root, f"frames/1/img_{number:05d}.jpg")
    annotations = {other: video(tmp_path, f"{other}.txt", content.encode()) for other, content in others.items()}
    file = tmp_path / ("climb_test_split1.txt" if kind == "hmdb51" else "damaged.txt")
    made = source(kind, root, annotations | {role: file}, frame_rate=10.0)
    outcomes: Counter[str] = Counter()
    is_json = kind == "something_something_v2"  # most damage to it is an error of the whole file
    for _ in range(MUTANTS):
        damaged = damage(random_, text.encode())
        file.write_bytes(damaged)
        try:
            listing = read_source(made)
        except SourceError as error:
            assert str(file) in str(error)
            outcomes["error"] += 1
            continue
        fits_tables(listing)
        assert all(not Path(row["path"]).is_absolute() and ".." not in Path(row["path"]).parts for row in listing.files)
        outcomes["rejects" if listing.rejects else "clean"] += 1
        rows = len(json.loads(damaged)) if is_json else lines_of(damaged) - (kind in HEADED)
        assert_accounted(kind, listing, file, rows)
    assert outcomes["rejects"] > (5 if is_json else MUTANTS / 4), outcomes


WRONG = {"missing": None, "a folder": None, "empty": b"", "binary": bytes(range(256)) * 20,
         "an image": b"\x89PNG\r\n\x1a\n"}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", LAYOUTS)
def test_each_file_of_a_kind_that_is_not_what_it_should_be_is_named_with_a_remedy(
    kind: str, wrong: str, tmp_path: Path
) -> None:
    role, text, others = LAYOUTS[kind]
    names = {role: "climb_test_split1.txt" if kind == "hmdb51" else f"{role}.txt"}
    names |= {other: f"{other}.txt" for other in others}
    for spoilt in names:
        annotations = {each: video(tmp_path, names[each], (others | {role: text})[each].encode()) for each in names}
        file = annotations[spoilt]
        file.unlink()
        if wrong == "a folder":
            file.mkdir()
        elif (content := WRONG[wrong]) is not None:
            file.write_bytes(content)
        with pytest.raises(SourceError, match=r"\. (Correct|Fetch|Save|Name) .*") as caught:
            read_source(source(kind, tmp_path / "videos", annotations, frame_rate=10.0))
        assert str(caught.value).startswith(str(file))
        file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)


def assert_accounted(kind: str, listing: Listing, file: Path, rows: int) -> None:
    rejects = sum(reject["file"] == str(file) for reject in listing.rejects)
    if kind == "ava":  # a movie's clips come from its first line, and its other lines are only checked
        assert rejects <= rows and len(listing.memberships) <= 90 * (rows - rejects)
    elif kind == "hmdb51":  # a line with 0 is not mentioned
        assert rejects + len(listing.memberships) <= rows
    else:
        assert rejects + len(listing.memberships) == rows


def test_damaged_archives_give_the_clips_before_the_damage_and_never_a_crash(tmp_path: Path) -> None:
    random_ = random.Random(1)
    rows = "".join(f"a,{ID(i)},0,10\n" for i in range(10))
    csv = video(tmp_path, "train.csv", f"label,youtube_id,time_start,time_end\n{rows}".encode())
    made = source("kinetics", tmp_path / "videos", {"train": csv})
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for i in range(10):
            entry = tarfile.TarInfo(f"{'long/' * 30 * (i % 2)}{ID(i)}_000000_000010.mp4")
            entry.size = 700
            archive.addfile(entry, io.BytesIO(bytes(700)))
    present: Counter[int] = Counter()
    for _ in range(MUTANTS):
        video(made.media_root, "part_0.tar", damage(random_, whole.getvalue()))
        listing = read_source(made)
        fits_tables(listing)
        found = sum(file["bytes"] is not None for file in listing.files)
        assert len(listing.memberships) == 10 and (found == 10 or listing.rejects)
        present[found] += 1
    assert len(present) > 3, present
