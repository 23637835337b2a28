"""Damaged and hostile input through the whole intake: listing and probing in two processes.

Two thousand mutants, made from a seed: none may crash or hang us, and each must be accounted for by a row. And files
made to reach beyond what they are: nothing outside the data root is written, nothing is run, no other file is read.
"""

import csv
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from rendered_clips import drifting, write

from warehouse import steps
from warehouse.config import Config, Source, load
from warehouse.curation.probe import probe_and_hash, probe_unit
from warehouse.engine import Failure, map_unordered
from warehouse.error_classes import CRASHED, HUNG, MISSING, QUARANTINED
from warehouse.media_file import MediaFile
from warehouse.probing import probe_sources
from warehouse.sources.listing import SourceError
from warehouse.store import Store

MUTANTS_OF_MEDIA, MUTANTS_OF_ANNOTATIONS = 1600, 400

KINETICS = "label,youtube_id,time_start,time_end,split\n" + "".join(
    f"class {i % 3},{'abcdefghijk'[i:] + 'abcdefghijk'[:i]},{i},{i + 10},train\n" for i in range(10)
)
FOLDER = "path,label,split\n" + "".join(
    f'"clip {i}.mp4",class {i % 3},{"val" if i % 2 else "train"}\n' for i in range(10)
)
LABELS = json.dumps({f"Moving thing {i}": str(i) for i in range(3)})
SOMETHING = json.dumps([{"id": str(i), "label": f"moving a thing {i % 3}", "template": f"Moving [thing] {i % 3}",
                         "placeholders": ["a"]} for i in range(10)])  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Sources of three kinds on one folder of media, and a data root beside it."""
    (tmp_path / "media").mkdir()
    files = {"kinetics.csv": KINETICS, "folder.csv": FOLDER, "labels.json": LABELS, "something.json": SOMETHING}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    shared = 'media_root = "media"\ncollections = ["all"]\nstride = 4\nlicence = "none"\n'
    (tmp_path / "sources.toml").write_text(
        '[reelhouse]\ndata_root = "data"\nworkers = 2\n'
        '[training]\npreset = "smoke"\npretrain = "all"\npost_pretrain = "all"\nfinetune = "all"\n'
        '[collections.all]\nsplits = ["train", "val"]\ntaxonomy = "classes"\n[taxonomies.classes]\n'
        f'[sources.plain]\nkind = "folder"\n{shared}'
        f'[sources.folder]\nkind = "folder"\nannotations = "folder.csv"\n{shared}'
        f'[sources.kinetics]\nkind = "kinetics"\n{shared}[sources.kinetics.annotations]\ntrain = "kinetics.csv"\n'
        f'[sources.something]\nkind = "something_something_v2"\n{shared}'
        '[sources.something.annotations]\nlabels = "labels.json"\ntrain = "something.json"\n'
    )
    return load(tmp_path / "sources.toml")


def seeds_of_media(folder: Path) -> list[bytes]:
    """Small clips in five containers and codecs, one with sound."""
    frames = drifting(1, count=10, height=32, width=48)
    seeds = [write(folder / "a.mp4", frames, sound=True)]
    seeds += [write(folder / name, frames) for name in ("a.webm", "a.mkv")]
    for name, codec in (("a.avi", "mpeg4"), ("a.ts", "mpeg2video")):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode())
        seeds.append(folder / name)
    return [path.read_bytes() for path in seeds]


def mutate(rng: np.random.Generator, content: bytes, others: list[bytes]) -> bytes:
    """One to three of: flipped bits, a cut, a hole, a number turned extreme, a piece moved, or one of another file."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        if not data:
            break
        place = int(rng.integers(len(data)))
        head = int(rng.integers(min(len(data), 600)))
        match rng.integers(6):
            case 0:
                for spot in rng.integers(len(data), size=rng.integers(1, 30)):
                    data[spot] ^= 1 << int(rng.integers(8))
            case 1:
                del data[place:]
            case 2:
                data[place : place + 200] = bytes(min(200, len(data) - place))
            case 3:
                extreme = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, int(rng.integers(2**32)))[rng.integers(6)]
                data[head : head + 4] = extreme.to_bytes(4)
            case 4:
                piece = data[place : place + int(rng.integers(1, 400))]
                data[head:head] = piece
            case _:
                other = others[rng.integers(len(others))]
                start = int(rng.integers(len(other)))
                data[place : place + 500] = other[start : start + 500]
    return bytes(data)


def test_mutated_media_are_all_accounted_for(config: Config, tmp_path: Path) -> None:
    rng = np.random.default_rng(20261123)
    (tmp_path / "seeds").mkdir()
    seeds, names = seeds_of_media(tmp_path / "seeds"), ("mp4", "webm", "mkv", "avi", "ts")
    for number in range(MUTANTS_OF_MEDIA):
        kind = number % len(seeds)
        content = mutate(rng, seeds[kind], seeds)
        (tmp_path / "media" / f"{number:04}.{names[kind]}").write_bytes(content)
    store, plain = Store(config.data_root), config.sources[0]
    steps.list_source(store, plain)
    result = probe_sources(store, config, [plain], lambda progress: None)["plain"]
    media = store.rows("media", "plain")
    assert {row["clip_id"] for row in media} == {row["clip_id"] for row in store.rows("files", "plain")}
    assert len(media) == MUTANTS_OF_MEDIA == result.figures["ok"] + result.figures["quarantined"]
    classes = [row["error_class"] for row in media]
    assert set(classes) <= {None, *QUARANTINED}
    # The mutants are worth something: many are read, and many fail, in several ways; no process had to die for it.
    assert CRASHED not in classes and HUNG not in classes
    assert classes.count(None) > 100 and len(set(classes)) >= 6
    hashed = set(store.read("frame_hashes", "plain")["clip_id"].to_pylist())
    assert hashed == {row["clip_id"] for row in media if row["status"] == "ok"}


def test_mutated_archives_and_images_are_all_accounted_for(tmp_path: Path) -> None:
    rng, frames = np.random.default_rng(11), drifting(1, count=6, height=32, width=48)
    clip = write(tmp_path / "clip.mp4", frames)
    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for number in range(4):
            tar.add(clip, f"{number}.mp4")
    archive = (tmp_path / "clips.tar").read_bytes()
    images = [cv2.imencode(suffix, frames[0])[1].tobytes() for suffix in (".jpg", ".png")]
    items = []
    for number in range(100):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(mutate(rng, archive, [archive]))
        items += [(f"{number}/{i}", "tar", MediaFile(str(path), member=f"{i}.mp4")) for i in range(4)]
        folder = tmp_path / str(number)
        folder.mkdir()
        for place in range(4):
            (folder / f"{place}.jpg").write_bytes(mutate(rng, images[place % 2], images))
        items.append((str(number), "images", MediaFile(str(folder), frame_rate=12.0, first_frame=0, frame_count=4)))
    found = {}
    for unit, results in map_unordered(probe_unit, [items[i::20] for i in range(20)], workers=2, timeout_s=30):
        for item, result in zip(unit, results, strict=True):
            assert not isinstance(result, Failure), result
            found[item[0]] = result[0]["error_class"]
    assert found.keys() == {item[0] for item in items}
    assert set(found.values()) <= {None, MISSING, *QUARANTINED} and len(set(found.values())) >= 6


def test_mutated_annotations_are_read_or_refused_by_name(config: Config, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    write(tmp_path / "media" / "clip 0.mp4", drifting(1, count=10, height=32, width=48))
    roles = {"kinetics": "train", "folder": "csv", "something": "train"}
    by_name, listed, refused = {source.name: source for source in config.sources}, 0, 0
    for number in range(MUTANTS_OF_ANNOTATIONS):
        name, role = list(roles.items())[number % 3]
        source = by_name[name]
        text = source.annotations[role].read_bytes()
        mutant = tmp_path / f"mutant{number}{source.annotations[role].suffix}"
        mutant.write_bytes(mutate(rng, text, [text]))
        changed = replace(source, annotations=dict(source.annotations) | {role: mutant})
        try:
            rows = intake(config, changed)
        except SourceError as error:
            assert mutant.name in str(error)
            refused += 1
            continue
        listed += 1
        if mutant.suffix == ".csv":
            assert rows >= csv_rows(mutant), mutant
    assert listed > 100 and refused > 10


def intake(config: Config, source: Source) -> int:
    """List a source into its tables; the number of annotation rows that became a clip, or a reject."""
    store = Store(config.data_root)
    steps.list_source(store, source)
    rows = [(r["annotation_file"], r["annotation_row"]) for r in store.rows("memberships", source.name)]
    rejects = [(r["file"], r["row"]) for r in store.rows("rejects", source.name)]
    files = [row["clip_id"] for row in store.rows("files", source.name)]
    clips = [row["clip_id"] for row in store.rows("clips", source.name)]
    assert sorted(files) == sorted(clips) and set(rows).isdisjoint(rejects)
    assert all(".." not in row["path"].split("/") for row in store.rows("files", source.name))
    return len(set(rows)) + len(set(rejects))


def csv_rows(path: Path) -> int:
    """Rows of a CSV below its header, counted in another way."""
    text = path.read_bytes().decode("utf-8-sig", "replace").replace("\0", "?")
    return sum(1 for row in csv.reader(io.StringIO(text)) if any(field.strip() for field in row)) - 1


def tree(folder: Path, but: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder but what is below ``but``: size and time by path."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if but not in (path, *path.parents) and not path.is_dir()
    }


def test_hostile_names_links_archives_and_playlists_reach_nothing(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = write(tmp_path / "secret.mp4", drifting(9, count=10, height=32, width=48)).read_bytes()
    os.mkfifo(tmp_path / "pipe.mp4")  # whoever opens it hangs
    media = tmp_path / "media"
    names = ("new\nline.mp4", "$(touch pwned).mp4", "`touch pwned`.mp4", "; touch pwned;.mp4", "'\"--help.mp4",
             "-rf.mp4", "%d%s%n.mp4", "concat:secret.mp4", "http:.mp4", "pipe:0.mp4", "tab\t\x1b[31m.mp4")  # fmt: skip
    for name in names:
        (media / name).write_bytes(secret)
    (media / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (media / "outside").symlink_to(tmp_path)
    (media / "fifo.mp4").symlink_to(tmp_path / "pipe.mp4")
    os.mkfifo(media / "pipe.mp4")
    targets = ("../secret.mp4", str(tmp_path / "secret.mp4"), "../pipe.mp4", f"file:{tmp_path}/secret.mp4")
    for number, target in enumerate(targets):
        playlists = {
            f"hls{number}.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
            f"concat{number}.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
            f"dash{number}.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
            f'bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>',
            f"sdp{number}.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
            f"list{number}.mkv": f"file '{target}'\n",
        }
        for name, text in playlists.items():
            (media / name).write_text(text)
    playlists_made = 5 * len(targets)
    before = tree(tmp_path, config.data_root)
    store, plain = Store(config.data_root), config.sources[0]
    steps.list_source(store, plain)
    probe_sources(store, config, [plain], lambda progress: None)
    paths = {row["clip_id"]: row["path"] for row in store.rows("files", "plain")}
    found = {paths[row["clip_id"]]: row["error_class"] for row in store.rows("media", "plain")}
    assert {name: found.pop(name) for name in names} == dict.fromkeys(names)
    assert len(found) == playlists_made and set(found.values()) == {"unreadable_container"}
    rejects = store.rows("rejects", "plain")
    refused = {row["detail"].split("'")[1] for row in rejects if row["error_class"] == "bad_path"}
    assert {"out.mp4", "outside", "fifo.mp4"} <= refused
    assert tree(tmp_path, config.data_root) == before

    archive = tmp_path / "hostile.tar"
    with tarfile.open(archive, "w") as tar:
        members = ("../escaped.mp4", "/escaped.mp4", "$(touch pwned)", "a\nb.mp4")
        for member in members:
            entry = tarfile.TarInfo(member)
            entry.size = len(secret)
            tar.addfile(entry, io.BytesIO(secret))
        no_files = {"sym.mp4": tarfile.SYMTYPE, "hard.mp4": tarfile.LNKTYPE, "fifo.mp4": tarfile.FIFOTYPE}
        for member, kind in no_files.items():
            entry = tarfile.TarInfo(member)
            entry.type, entry.linkname = kind, str(tmp_path / "secret.mp4")
            tar.addfile(entry)
    before = tree(tmp_path, config.data_root)
    for member in members:
        assert probe_and_hash(MediaFile(str(archive), member=member)).media["status"] == "ok"
    for member in no_files:
        assert probe_and_hash(MediaFile(str(archive), member=member)).media["error_class"] == MISSING
    assert tree(tmp_path, config.data_root) == before
