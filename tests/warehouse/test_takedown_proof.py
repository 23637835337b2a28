"""The proof that clips are gone: what is found wherever it lies, and what is not taken for it."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from curated_houses import quiet
from PIL import Image
from rendered_clips import drifting
from small_shards import COLLECTION, House, two_of_one_shard

from warehouse.catalog.build import connect
from warehouse.catalog.contact_sheet import KEYWORD, draw_sheet
from warehouse.catalog.snapshots import Sample
from warehouse.schema import BY_NAME
from warehouse.shards.executing import execute_plans
from warehouse.shards.reader import read_sample
from warehouse.takedown.compact import compact
from warehouse.takedown.prints import STRETCH, Search
from warehouse.takedown.proof import prove
from warehouse.takedown.stretches import prints_of
from warehouse.takedown.takedowns import take_down, taken_down


def encoded(codec: str, container: str, frames: list[np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


FORMATS = [("libx264", "mp4"), ("libx264", "mpegts"), ("libvpx-vp9", "webm"), ("mjpeg", "avi"), ("mpeg4", "avi")]


@pytest.mark.parametrize(("codec", "container"), FORMATS)
def test_prints_find_the_parts_of_a_video_and_no_other_video_of_its_make(codec: str, container: str) -> None:
    random = np.random.default_rng(3)
    videos = [encoded(codec, container, drifting(seed, count=12)) for seed in range(8)]
    clips = {random.bytes(16).hex(): data for data in videos[:6]}
    rows = [{"clip_id": clip, "rendition": "-"} | row for clip, data in clips.items() for row in prints_of(data)]
    search = Search(pa.Table.from_pylist(rows, BY_NAME["content_prints"].schema), clips)
    for clip, data in clips.items():
        places = [row["place"] for row in rows if row["clip_id"] == clip]
        assert len(places) > 5
        # Any one stretch is enough, also across the blocks that are read (of 2 ** 18 bytes).
        for number, place in enumerate(places):
            around = random.bytes(2**18 - 8 * number)
            part = data[place : place + STRETCH] + clip[:31].encode() + b"g"
            found = search.traces(io.BytesIO(around + part + around))
            assert (found.bytes_of, found.names) == ({clip}, set())
        assert search.traces(io.BytesIO(data)).bytes_of == {clip}
        assert search.traces(io.BytesIO(around + clip.encode() + b"0")).names == {clip}
    for other in (*videos[6:], random.bytes(2_000_000) + bytes(100_000), b"", b"short"):
        assert not search.traces(io.BytesIO(other))
    # Nothing of these is theirs alone.
    assert prints_of(encoded(codec, container, [np.full((72, 96, 3), 90, np.uint8)] * 12)) == []
    assert prints_of(random.bytes(20_000)) == []


def leftovers(house: House, clip: str, data: bytes) -> Iterator[tuple[str, bytes, str]]:
    """What may lie about under a data root: path, content, and what there is of the clip in it."""
    exported = io.BytesIO()
    with tarfile.open(fileobj=exported, mode="w") as tar:
        info = tarfile.TarInfo(f"{clip}.mp4")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    yield "exports/mine/00000.tar", exported.getvalue(), "bytes"
    yield "shards/kinetics400/x.123.tmp", b"?" * 999 + data[len(data) // 2 :], "bytes"
    yield f"clips/{clip}.mp4", b"renamed or cut", "name"
    yield "exports/mine/index.txt", f"v1.2 1\nmp4 512 99 {clip}.mp4\n".encode(), "name"


def test_compact_fails_and_names_what_is_left(house_of_mine: House, capsys: pytest.CaptureFixture[str]) -> None:
    house, store = house_of_mine, house_of_mine.store
    assert house.run("compact") == 0 and "nothing to do" in capsys.readouterr().out
    clip, other = two_of_one_shard(house)
    [sample] = [s for s in house.train() if s.clip_id == clip]
    assert isinstance(sample, Sample)
    planted = list(leftovers(house, clip, read_sample(sample)))
    assert house.run("takedown", clip, "--reason", "asked") == 0
    for name, content, _ in planted:
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    # What shows its pictures goes; what shows others stays.
    shown = {"report.html": clip, "leaks.html": other, "runs/a/pictures/clips.json": clip,
             "runs/a/tensorboard/events.out": clip, "runs/b/pictures/clips.json": other}  # fmt: skip
    for name, of in shown.items():
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (store.root / name).write_text(json.dumps([of]))
    (store.root / "runs/a/pictures/step-1.png").write_bytes(b"a picture")
    (store.root / "runs/a/metrics.jsonl").write_text("{}")
    (store.root / "runs/a/failures.jsonl").write_text(json.dumps({"clip_id": clip}))  # could not be read: a fact

    assert house.run("compact") == 1
    told = capsys.readouterr()
    for name, _, what in planted:
        verb = "names" if what == "name" else "bytes of"
        assert f"{store.root / name}: {verb} clip {clip}" in told.err, name
    assert "named as facts, which stay" in told.out and "nothing of them is left" not in told.out
    assert {name for name in shown if (store.root / name).exists()} == {"leaks.html", "runs/b/pictures/clips.json"}
    assert (store.root / "runs/a/metrics.jsonl").exists() and not (store.root / "runs/a/pictures").exists()

    for name, _, _ in planted:
        (store.root / name).unlink()
    assert house.run("compact") == 0 and "nothing of them is left" in capsys.readouterr().out
    # Long after, the prints still find what somebody has put back.
    (store.root / "back.bin").write_bytes(planted[0][1])
    assert house.run("compact") == 1 and "back.bin" in capsys.readouterr().err


def test_compact_names_a_contact_sheet_that_shows_the_clip(
    house_of_mine: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house, folder = house_of_mine, house_of_mine.store.root / "sheets"
    sheets = {folder / f"{seed}.png": seed for seed in range(3)}
    shown = {
        path: {sample.clip_id for sample in draw_sheet(house.store, house.snapshots[COLLECTION], 5, seed, path)}
        for path, seed in sheets.items()
    }
    for path, clips in shown.items():
        Image.open(path).verify()  # closes the file
        with Image.open(path) as picture:
            assert set(picture.text[KEYWORD].split()) == clips  # type: ignore[attr-defined]
    clip = min(set.union(*shown.values()) - set.intersection(*shown.values()))
    assert house.run("takedown", clip, "--reason", "asked") == 0 and house.run("compact") == 1
    named = capsys.readouterr().err
    assert {path for path in shown if f"{path}: names clip {clip}" in named} == {p for p in shown if clip in shown[p]}
    for path in shown:
        path.unlink()
    assert house.run("compact") == 0


def test_bytes_that_a_copy_shares_are_left_until_it_is_taken_down_too(
    house_of_mine: House, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two clips whose videos are one file, in one shard: as a source lists them twice."""
    house, store = house_of_mine, house_of_mine.store
    with connect(store) as connection:
        row = connection.execute(
            "SELECT clip_a, clip_b FROM duplicate_edges e JOIN samples s ON s.clip_id = clip_a WHERE kind = 'bytes' "
            "AND EXISTS (SELECT 1 FROM media m WHERE m.clip_id = clip_b AND status = 'ok') LIMIT 1"
        ).fetchone()
    assert row is not None
    clip, copy = row
    source = next(r["source"] for r in store.rows("media") if r["clip_id"] == copy and r["status"] == "ok")
    place = {"shard": f"{source}-np256-more-00000", "position": 0, "clip_id": copy, "source": source,
             "rendition": "np256"}  # fmt: skip
    if copy not in {r["clip_id"] for r in store.rows("samples")}:
        store.write("packing", [*store.rows("packing", source), place], source)
        execute_plans(store, house.config, house.config.sources, quiet)
    assert house.run("takedown", clip, "--reason", "asked") == 0 and house.run("compact") == 1
    told = capsys.readouterr().err
    assert f"{house.shard_of(copy)}: bytes of clip {clip}" in told and f"reelhouse takedown {copy}" in told
    assert house.run("takedown", copy, "--reason", "asked") == 0 and house.run("compact") == 0


def test_a_file_that_cannot_be_read_is_no_proof(house_of_mine: House, monkeypatch: pytest.MonkeyPatch) -> None:
    store = house_of_mine.store
    take_down(store, two_of_one_shard(house_of_mine), "asked", "me")
    compact(store)
    locked = store.root / "locked.bin"
    locked.write_bytes(b"x")
    opened: Callable[..., object] = Path.open

    def refuse(path: Path, *arguments: object, **named: object) -> object:
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)
    proof = prove(store, taken_down(store), 2)
    assert proof.unread == ((locked, "Permission denied"),) and not proof.holds and proof.left == ()
