"""The embedded corpus: the same bytes whoever makes it, labels that are true, and plants where truth.csv says."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from warehouse.corpus.build import MARKER, UNFINISHED, build
from warehouse.corpus.derive import CUT_AFTER, CUT_BEFORE
from warehouse.corpus.encoding import read_video
from warehouse.corpus.layout import ALIASES, CLASS_NAMES, KINETICS, SSV2, first_entries
from warehouse.corpus.motions import MOTIONS, Scene, render
from warehouse.corpus.plants import plan

CLIPS = 64
MOTION_OF = {(source, name): motion for source, names in CLASS_NAMES.items() for motion, name in names.items()}
OPPOSITE = dict(zip(MOTIONS[0::2], MOTIONS[1::2], strict=True))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus made by one process."""
    root = tmp_path_factory.mktemp("corpus") / "one"
    assert build(root, CLIPS, workers=1)
    return root


@pytest.fixture(scope="module")
def truth(corpus: Path) -> list[dict[str, str]]:
    with (corpus / "truth.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def digests(root: Path) -> dict[str, str]:
    """Path -> SHA-256 of every file."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def seen_motion(frames: NDArray[np.uint8]) -> str:
    """The motion that optical flow sees in the middle of a video (T, H, W, 3)."""
    middle = len(frames) // 2
    before, after = (cv2.cvtColor(frames[i], cv2.COLOR_RGB2GRAY) for i in (middle, middle + 1))
    flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 5, 7, 1.5, 0)
    height, width = before.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - width / 2, y - height / 2
    size = float(np.sqrt(width * height))
    right, down = flow[..., 0].mean(), flow[..., 1].mean()
    # Slopes of a fit to a zoom and to a turn, times the mean distance from the middle: pixels as well.
    spread = float((x**2 + y**2).sum())
    nearer = (x * flow[..., 0] + y * flow[..., 1]).sum() / spread * size * 0.4
    clockwise = (x * flow[..., 1] - y * flow[..., 0]).sum() / spread * size * 0.4
    strength = np.array([-right, right, -down, down, nearer, -nearer, clockwise, -clockwise])
    return MOTIONS[int(strength.argmax())]


def listings(root: Path) -> list[tuple[str, str, str, str, Path]]:
    """(source, split, id, motion, file) of every good annotation row, read with csv and json alone."""
    rows = []
    for source in KINETICS:
        for split in ("train", "val"):
            with (root / source / "annotations" / f"{split}.csv").open(newline="") as file:
                for row in csv.DictReader(file):
                    try:
                        start, end = int(row["time_start"]), int(row["time_end"])
                    except (ValueError, TypeError):
                        continue
                    if end > start:
                        assert row["split"] == split
                        name = f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
                        folder = {"kinetics400": row["label"], "kinetics600": "", "kinetics700": split}[source]
                        path = root / source / "videos" / folder / name
                        rows.append((source, split, row["youtube_id"], MOTION_OF[source, row["label"]], path))
    labels = json.loads((root / SSV2 / "labels.json").read_text())
    for split, name in (("train", "train"), ("val", "validation")):
        for item in json.loads((root / SSV2 / f"{name}.json").read_text()):
            if "template" in item:
                assert item["template"].replace("[", "").replace("]", "") in labels
                motion, path = MOTION_OF[SSV2, item["template"]], root / SSV2 / "videos" / f"{item['id']}.webm"
                rows.append((SSV2, split, item["id"], motion, path))
    return rows


def test_two_processes_make_the_same_bytes_as_one(corpus: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "two", CLIPS, workers=2)
    assert digests(tmp_path / "two") == digests(corpus)


def test_a_complete_corpus_is_left_alone(corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    assert not build(corpus, CLIPS)
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before
    with pytest.raises(FileExistsError, match="another folder"):
        build(corpus, CLIPS, seed=1)


def test_a_killed_run_is_completed_to_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    command = [sys.executable, "-m", "warehouse.corpus", str(root), "--clips", str(CLIPS), "--workers", "2"]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and len(list(root.rglob("*.mp4"))) < 15:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (root / UNFINISHED).exists() and not (root / MARKER).exists()
    time.sleep(1.0)  # the workers end with their parent
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("videos/**/*.*") if path.is_file()}
    time.sleep(0.5)
    assert kept.keys() == {path for path in root.rglob("videos/**/*.*") if path.is_file()}, "a worker goes on"

    assert build(root, CLIPS, workers=1)
    assert digests(root) == digests(corpus)
    assert all(path.stat().st_mtime_ns == modified for path, modified in kept.items())


def test_every_listed_file_is_there_unless_it_is_planted_as_missing(
    corpus: Path, truth: list[dict[str, str]]
) -> None:
    rows = listings(corpus)
    missing = {line["path"] for line in truth if line["kind"] == "missing"}
    assert missing and {row[4].relative_to(corpus).as_posix() for row in rows if not row[4].exists()} == missing
    media = {p for s in (*KINETICS, SSV2) for p in (corpus / s / "videos").rglob("*") if p.is_file()}
    assert media <= {row[4] for row in rows}

    # Kinetics shares ids between versions, in other splits too; the merged taxonomy has a name for each motion.
    listed: dict[str, set[tuple[str, str]]] = {}
    for source, split, video, _, _ in rows:
        listed.setdefault(video, set()).add((source, split))
    assert sum(len(places) > 1 for places in listed.values()) > CLIPS // 5
    assert any({split for _, split in places} == {"train", "val"} for places in listed.values())
    merged = {(ALIASES.get(name, name)) for source in KINETICS for name in CLASS_NAMES[source].values()}
    assert len(merged) == len(MOTIONS)


@pytest.mark.parametrize("clips", [CLIPS, 400])
def test_classes_are_balanced_in_every_split(clips: int) -> None:
    rendered = plan(clips, seed=3).rendered
    assert len({e.clip for e in rendered}) == len(rendered) == clips
    for source in (*KINETICS, SSV2):
        splits = Counter(e.split for e in rendered if e.source == source)
        assert 0.15 <= splits["val"] / splits.total() <= 0.3
        for split in splits:
            motions = Counter(e.clip.scene.motion for e in rendered if (e.source, e.split) == (source, split))
            counts = [motions[motion] for motion in MOTIONS]
            assert max(counts) - min(counts) <= 2


def test_too_few_clips_are_refused_and_the_least_number_has_all_plants(truth: list[dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="too few"):
        plan(CLIPS - 1, seed=0)
    kinds = Counter(line["kind"] for line in truth)
    copies = ("byte_copy", "re_encode", "resize", "trim", "letterbox", "mirror")
    leaks = ("val_byte_copy_in_train", "val_re_encode_in_train")
    assert all(kinds[kind] >= 2 for kind in (*copies, *leaks, "missing", "malformed_row", "bad_time"))
    once = ("split_conflict", "overlap", "empty", "truncated", "no_moov", "no_video", "duplicate_row")
    assert all(kinds[kind] >= 1 for kind in once)


def test_a_picture_tells_nothing_of_its_class() -> None:
    for motion, opposite in OPPOSITE.items():
        there, back = Scene("any", motion, 96, 72), Scene("any", opposite, 96, 72)
        np.testing.assert_array_equal(render(there, 0, 1), render(Scene("any", MOTIONS[0], 96, 72), 0, 1))
        np.testing.assert_array_equal(render(there, 0, 9)[::-1], render(back, -8, 9))

    # Last frames too: the nearest neighbour by colours and by a small picture knows no more than chance, 1/8.
    entries = first_entries(320, seed=0)
    motions = np.array([MOTIONS.index(e.clip.scene.motion) for e in entries])
    last = [render(e.clip.scene, e.clip.frames - 1, 1)[0].astype(np.float32) for e in entries]
    colours = np.stack([np.concatenate([f.mean((0, 1)), f.std((0, 1))]) for f in last])
    small = np.stack([cv2.resize(f, (8, 8), interpolation=cv2.INTER_AREA).ravel() for f in last])
    sharp = np.stack([[np.abs(np.diff(f, axis=a)).mean() / f.std() for a in (0, 1)] for f in last])
    for features in (colours, small, sharp):
        distances = ((features[:, None] - features) ** 2).sum(2)
        np.fill_diagonal(distances, np.inf)
        assert (motions[distances.argmin(1)] == motions).mean() < 0.2


def test_labels_are_what_the_files_show(corpus: Path, truth: list[dict[str, str]]) -> None:
    """Also of planted copies: a copy has its origin's label in the words of the source that it is planted in."""
    unreadable = {line["path"] for line in truth if line["kind"] in ("empty", "truncated", "no_moov", "no_video")}
    wrong = []
    for _, _, _, motion, path in listings(corpus):
        if path.exists() and path.relative_to(corpus).as_posix() not in unreadable:
            seen = seen_motion(read_video(path)[0])
            if seen != motion:
                wrong.append((path.name, motion, seen))
    assert not wrong


def test_plants_are_what_truth_says(corpus: Path, truth: list[dict[str, str]]) -> None:
    for line in truth:
        path, of, kind = corpus / line["path"], corpus / line["of"], line["kind"]
        if kind in ("shared", "split_conflict", "byte_copy", "val_byte_copy_in_train"):
            assert path.read_bytes() == of.read_bytes()
        elif kind in ("re_encode", "val_re_encode_in_train", "resize", "trim", "letterbox", "mirror", "overlap"):
            copy, origin = read_video(path)[0], read_video(of)[0]
            if kind == "mirror":
                copy = copy[:, :, ::-1]
            elif kind == "trim":
                origin = origin[CUT_BEFORE:-CUT_AFTER]
            elif kind == "letterbox":
                bar = (copy.shape[1] - origin.shape[1]) // 2
                assert bar >= 8 and copy[:, : bar - 2].mean() < 4
                copy = copy[:, bar:-bar]
            elif kind == "resize":
                assert copy.shape[2] < origin.shape[2]
                copy = np.stack([cv2.resize(frame, origin.shape[2:0:-1]) for frame in copy])
            elif kind == "overlap":
                origin = origin[25:]
                copy = copy[: len(origin)]
            assert copy.shape == origin.shape
            assert path.read_bytes() != of.read_bytes()
            assert np.abs(copy.astype(float) - origin).mean() < 8, kind
        elif kind == "empty":
            assert path.stat().st_size == 0
        elif kind == "no_moov":
            with pytest.raises(av.error.InvalidDataError):
                av.open(str(path))
        elif kind == "no_video":
            with av.open(str(path)) as container:
                assert [stream.type for stream in container.streams] == ["audio"]
        elif kind == "truncated":
            with av.open(str(path)) as container, pytest.raises(av.error.InvalidDataError):
                list(container.decode(video=0))
        elif kind == "missing":
            assert not path.exists() and (not line["of"] or of.exists())
