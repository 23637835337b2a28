"""The page of leaks on real video: pairs of frames that show the same moment, and words where there is no frame."""

import base64
import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from test_report import EVIL, TOML

from assets.leak_pictures import WIDTH_PX, pictures
from assets.report_leaks import PAIRS, aligned_ms, evaluation_sets
from assets.report_page import build_report
from pipelines.presets import smoke
from warehouse import steps
from warehouse.catalog.build import build_catalog, connect
from warehouse.config import Config, load
from warehouse.media_file import MediaFile
from warehouse.store import Store

LEVELS = range(40, 240, 40)
"""Grey level of each second: a frame tells when it was."""


def write_video(path: Path, levels: list[int]) -> None:
    """One second of 10 frames for each grey level, 96 × 64."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for level in levels:
            for _ in range(10):
                picture = np.full((64, 96, 3), level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Config]:
    """Validation clip `v` in `films`; in `phone` its copies: `t` from its second 1 on, twelve whole, one missing."""
    root = tmp_path_factory.mktemp("house")
    (root / "sources.toml").write_text(TOML)
    config = load(root / "sources.toml", check_files=False)
    store = Store(config.data_root)
    levels = list(LEVELS)
    write_video(root / "films/v.mp4", levels)
    write_video(root / "phone/t.mp4", levels[1:])
    copies = [f"copy{i:02d}" for i in range(12)]
    for name in copies:
        write_video(root / f"phone/{name}.mp4", levels)
    listed = {"films": ["v"], "phone": ["t", *copies, EVIL, "quarantined"]}
    decisions = []
    for source, names in listed.items():
        split = "val" if source == "films" else "train"
        store.write("clips", [{"clip_id": n, "namespace": source, "native_id": f"{n}.mp4"} for n in names], source)
        keys = [{"clip_id": n, "source": source} for n in names]
        place = {"split": split, "label": None, "annotation_file": "a.csv", "annotation_row": 1, "licence": "-"}
        store.write("memberships", [key | place for key in keys], source)
        store.write("files", [key | {"path": f"{key['clip_id']}.mp4"} for key in keys], source)
        media = [key | {"status": "ok", "duration_ms": 4000 if key["clip_id"] == "t" else 5000} for key in keys]
        for row in media:
            row["status"] = "quarantined" if row["clip_id"] == "quarantined" else "ok"
        store.write("media", media, source)
        decided = {"collection": "everything", "split": split, "keep": False, "reason": "x", "rule_version": 2}
        decisions += [key | decided for key in keys]
    steps.write_sources(store, config)
    store.write("decisions", decisions)
    rules = {"collection": "everything", "splits": ["train"], "leakage": "protect"}
    store.write("collections", [rules])
    # Clip `t` sorts before `v`: time in v minus time in t is one second.
    edges = [{"clip_a": "t", "clip_b": "v", "kind": "contained", "offset_ms": 1000}]
    near = {"clip_b": "v", "kind": "near", "offset_ms": 0}
    edges += [{"clip_a": name} | near for name in (*copies, EVIL, "quarantined")]
    store.write("duplicate_edges", edges)
    build_catalog(store)
    return store, config


def level(address: str) -> float:
    """Mean grey level of the picture that an address holds."""
    data = np.frombuffer(base64.b64decode(address.removeprefix("data:image/jpeg;base64,")), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert picture.shape == (160, WIDTH_PX, 3)
    return float(picture.mean())


def test_pairs_show_the_same_moment_and_are_capped(house: tuple[Store, Config]) -> None:
    store, config = house
    with connect(store) as connection:
        [found] = evaluation_sets(connection, config.workers)
    assert (found.name, found.pairs, len(found.shown)) == ("films val", 15, PAIRS)
    assert [pair.found_by for pair in found.shown[:2]] == ["contained", "near"]
    contained = found.shown[0]
    assert (contained.training.at, contained.evaluation.at) == ("phone, at 2.0 s", "films, at 3.0 s")
    assert contained.outcomes == ("everything: training_out",)
    for side in (contained.training, contained.evaluation):
        assert level(side.picture or "") == pytest.approx(LEVELS[3], abs=4)


def test_the_page_stands_beside_the_report_and_says_what_is_missing(house: tuple[Store, Config]) -> None:
    store, config = house
    html = build_report(store, config, smoke()).with_name("leaks.html").read_text()
    assert f"{PAIRS} of 15 pairs" in html
    # The file that is gone and the one never readable sort first: they are among the pairs shown.
    assert "missing_file: no such file" in html
    assert EVIL not in html and "&lt;script&gt;" in html
    assert html.count("data:image/jpeg;base64,") == 2 * PAIRS - 1
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert "658,340" in html and 'href="leaks.html"' in (store.root / "report.html").read_text()


def test_a_clip_without_a_readable_file_has_words_for_a_picture(house: tuple[Store, Config]) -> None:
    store, config = house
    with connect(store) as connection:
        [found] = evaluation_sets(connection, config.workers)
    assert all(pair.evaluation.picture for pair in found.shown)
    edges = [row for row in store.rows("duplicate_edges") if row["clip_a"] == "quarantined"]
    other = Store(store.root.parent / "other")
    for table in ("clips", "memberships", "files", "media"):
        for part in store.parts(table):
            other.write(table, store.read(table, part), part)
    for table in ("sources", "decisions", "collections"):
        other.write(table, store.read(table))
    other.write("duplicate_edges", edges)
    build_catalog(other)
    with connect(other) as connection:
        [[pair]] = [found.shown for found in evaluation_sets(connection, 1)]
    assert (pair.training.picture, pair.training.problem) == (None, "no source has a readable file")


def test_no_leak_is_said_too(tmp_path: Path) -> None:
    (tmp_path / "sources.toml").write_text(TOML)
    config = load(tmp_path / "sources.toml", check_files=False)
    build_catalog(store := Store(config.data_root))
    assert "None was found" in build_report(store, config, smoke()).with_name("leaks.html").read_text()


def test_what_is_no_video_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video" * 1000)
    wanted = MediaFile(str(tmp_path / "a.mp4")), 0
    assert str(pictures([wanted, wanted], 1)[wanted]).startswith("unreadable_container")


@pytest.mark.parametrize(
    ("lengths", "offset_ms", "times"),
    [
        ((4000, 5000), 1000, (2000, 3000)),
        ((5000, 4000), -1000, (3000, 2000)),
        ((5000, 5000), 0, (2500, 2500)),
        ((5000, 3000), 9000, (2500, 1500)),  # they share no time: the middles
        ((None, 3000), 0, (0, 1500)),
    ],
)
def test_aligned_times(lengths: tuple[int | None, int], offset_ms: int, times: tuple[int, int]) -> None:
    assert aligned_ms(*lengths, offset_ms) == times
