"""The report on a small store: real Parquet files, catalog and snapshots, and run folders as stages leave them."""

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from assets.pictures import write_png
from assets.report_facts import Scores, interval, scores_of, stage_facts
from assets.report_page import build_report
from assets.training import run_specs
from pipelines.presets import smoke
from warehouse import steps
from warehouse.catalog.build import CatalogError, build_catalog
from warehouse.catalog.snapshots import take_snapshot
from warehouse.config import Config, load
from warehouse.store import Store

TOML = """
[reelhouse]
data_root = "data"
[training]
preset = "smoke"
pretrain = "everything"
post_pretrain = "actions"
finetune = "actions"
[collections.everything]
splits = ["train"]
[collections.actions]
splits = ["train", "val"]
taxonomy = "actions"
[taxonomies.actions]
[sources.films]
kind = "folder"
media_root = "films"
annotations = "films.csv"
collections = ["everything", "actions"]
stride = 2
licence = "ours"
[sources.phone]
kind = "folder"
media_root = "phone"
collections = ["everything"]
stride = 2
licence = "ours"
"""
EVIL = "<script>alert('$x$')</script>"
CLASSES = [EVIL, "walking & waving"]
REASONS = {3: "duplicate", 5: "duplicate_of_protected", 7: "unreadable"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Config]:
    """Forty clips of two sources, half labelled; three are dropped, one file is quarantined; all stages have run."""
    root = tmp_path_factory.mktemp("house")
    (root / "sources.toml").write_text(TOML)
    config = load(root / "sources.toml", check_files=False)
    store = Store(config.data_root)
    steps.write_sources(store, config)
    write_clips(store)
    build_catalog(store)
    for collection in config.collections:
        take_snapshot(store, config, collection)
    write_runs(store, config)
    build_catalog(store)
    return store, config


def write_clips(store: Store) -> None:
    """Even clips are of `films` (every fourth of them validation), odd ones of `phone`."""
    decisions, labels = [], []
    for part, source in enumerate(("films", "phone")):
        clips, memberships, files, media, samples = [], [], [], [], []
        for i in range(part, 40, 2):
            clip, split = f"{i:032x}", "val" if i % 8 == 0 else "train"
            key = {"clip_id": clip, "source": source}
            label = CLASSES[i // 2 % 2] if source == "films" else None
            status = "quarantined" if REASONS.get(i) == "unreadable" else "ok"
            clips.append(
                {"clip_id": clip, "namespace": source, "native_id": f"{i}.mp4", "start_ms": None, "end_ms": None}
            )
            memberships.append(
                key | {"split": split, "label": label, "annotation_file": "a.csv", "annotation_row": i, "licence": "-"}
            )
            files.append(key | {"path": f"{EVIL}{i}.mp4", "bytes": 1000 + i, "modified_ns": 1})
            found = {"width": 64, "height": 48, "fps": 25.0, "frames": 50}
            media.append(key | found | {"status": status, "duration_ms": 2000, "codec": "h264"})
            if status != "ok":
                media[-1] |= {"error_class": "truncated", "detail": "cut & dry"}
            samples.append(key | found | {"shard": f"{source}-0", "offset": 512, "size": 900, "rendition": "np256"})
            samples[-1] |= {"sha256": "0", "codec": "h264"}
            for collection in ("everything", "actions") if source == "films" else ("everything",):
                reason = REASONS.get(i, "kept")
                if collection == "everything" and split == "val":
                    reason = "split_not_taken"
                decision = {"collection": collection, "split": split, "keep": reason == "kept", "reason": reason}
                decisions.append(key | decision | {"other_clip_id": None, "rule_version": 1})
            if label:
                labels.append(key | {"taxonomy": "actions", "class_id": CLASSES.index(label), "class_name": label})
        shard = {"shard": f"{source}-0", "source": source, "rendition": "np256", "path": "x.tar", "samples": 20}
        reject = {"source": source, "file": "/a/b.csv", "row": 7, "error_class": "bad_time", "detail": EVIL}
        for table, rows in (
            ("clips", clips),
            ("memberships", memberships),
            ("files", files),
            ("media", media),
            ("samples", samples),
            ("shards", [shard | {"bytes": 18000, "sha256": "0"}]),
            ("rejects", [reject]),
        ):
            store.write(table, rows, source)
    store.write("decisions", decisions)
    store.write("labels", labels)
    store.write("classes", [{"taxonomy": "actions", "class_id": i, "class_name": n} for i, n in enumerate(CLASSES)])
    edge = {"inliers": 5, "coverage": 0.9, "mean_distance": 3.0, "offset_ms": 0}
    pairs = [(0, 5, "near"), (1, 3, "bytes")]
    edges = [{"clip_a": f"{a:032x}", "clip_b": f"{b:032x}", "kind": kind} | edge for a, b, kind in pairs]
    store.write("duplicate_edges", edges)


def write_runs(store: Store, config: Config) -> None:
    """What the stages of a run leave; pre-training was resumed once."""
    now = datetime.now(UTC)
    for stage, spec in run_specs(store, config, smoke()).items():
        folder = store.runs / spec.run_id
        spec.write(folder, store.root)
        run = {"run_id": spec.run_id, "stage": stage, "snapshot_id": spec.snapshot_id, "parent": spec.parent}
        run |= {"config": "{}", "status": "finished", "started": now, "finished": now, "seconds": 75.0}
        store.write("runs", [run | {"attempts": 2 if stage == "pretrained" else 1}], spec.run_id)
        if stage == "evaluation":
            shares = {"top1": 0.8, "top5": 1.0, "chance": 0.5, "chance_largest_class": 0.6, "top1_metadata_only": 0.4}
            key = {"run_id": spec.run_id, "checkpoint": spec.parent, "snapshot_id": spec.snapshot_id, "split": "val"}
            measured = {**shares, "clips": 5}
            store.write("scores", [key | {"metric": m, "value": v} for m, v in measured.items()], spec.run_id)
            result = {"class_names": CLASSES, "confusion": [[3, 0], [1, 1]]}
            (folder / "result.json").write_text(json.dumps(result))
            continue
        rng = np.random.default_rng(0)
        rows = [
            {"step": i + 1, "loss": 1.2 - i / 1000 + rng.random() / 20, "clips_per_s": 41.25, "data_wait_share": 0.125}
            for i in range(200)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 201, "lo')
        if stage == "pretrained":
            sheet = rng.integers(0, 255, (3 * 3 * 50 - 2, 4 * 50 - 2, 3), dtype=np.uint8)
            for step in (100, 200):
                write_png(folder / "pictures" / f"step-{step:06d}.png", sheet)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(word for word in self.words if word))


def test_report_tells_the_figures_and_is_whole_in_itself(house: tuple[Store, Config]) -> None:
    store, config = house
    path = build_report(store, config, smoke())
    html = path.read_text()
    page = Page(html)

    assert path == store.root / "report.html"
    assert "duplicate_of_protected" in page.text
    assert "everything films val near training_out phone 1 " in page.text
    assert "films phone" in page.text  # both sources head columns
    [films, phone] = [re.search(rf"{name} 20 0 \d+ \d+ \d+ 0 1", page.text) for name in ("films", "phone")]
    assert films and films[0] == "films 20 0 0 20 0 0 1"
    assert phone and phone[0] == "phone 20 0 1 17 2 0 1"
    assert "top-1 of the model 80.0%" in page.text and "the largest class 60.0%" in page.text
    assert "one of 2 classes at random 50.0%" in page.text and "number of frames 40.0%" in page.text
    assert "no evidence for or against the method" in page.text and "no more than luck" in page.text
    assert "predicting the mean" in page.text and "all 2 classes alike" in page.text
    assert "75 s 41.2 12.5%" in page.text
    for spec in run_specs(store, config, smoke()).values():
        assert spec.run_id in page.text and spec.snapshot_id in page.text

    # Nothing is fetched, from anywhere.
    assert not re.search(r"https?://|//cdn|@import|url\((?!#)", html)
    references = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href", "xlink:href", "data")]
    references.remove("leaks.html")
    assert references and all(v and v.startswith(("data:image/png;base64,", "#")) for v in references)
    assert sum(tag == "img" for tag, _ in page.tags) == 3  # a picture for each clip of the sheet


def test_report_escapes_what_comes_from_data(house: tuple[Store, Config]) -> None:
    store, config = house
    page = Page(build_report(store, config, smoke()).read_text())
    assert not [tag for tag, _ in page.tags if tag == "script"]
    # As a class in the chart, a path in a table and a detail: there, as text.
    assert page.text.count(EVIL) >= 5


def test_report_of_a_store_where_nothing_was_trained(house: tuple[Store, Config], tmp_path: Path) -> None:
    _, config = house
    (tmp_path / "sources.toml").write_text(TOML)
    config = load(tmp_path / "sources.toml", check_files=False)
    store = Store(config.data_root)
    with pytest.raises(CatalogError):
        build_report(store, config, smoke())
    build_catalog(store)
    page = Page(build_report(store, config, smoke()).read_text())
    assert "No snapshot has been taken yet" in page.text and "Nothing has been evaluated yet" in page.text

    write_clips(store)
    for collection in config.collections:
        take_snapshot(store, config, collection)
    build_catalog(store)
    page = Page(build_report(store, config, smoke()).read_text())
    assert page.text.count("not run") == 4


def test_scores_are_called_what_they_are(house: tuple[Store, Config]) -> None:
    store, config = house
    [scores] = [found for stage in stage_facts(store, config, smoke()) if (found := scores_of(store, stage))]
    assert (scores.top1, scores.largest, scores.clips, scores.collection) == (0.8, 0.6, 5, "actions")
    low, high = interval(0.8, 5)
    assert low == pytest.approx(0.376, abs=1e-3) and high == pytest.approx(0.964, abs=1e-3)

    def verdict(top1: float, clips: int, metadata: float) -> str:
        return Scores("c", "val", clips, 1, top1, 1.0, 0.5, 0.6, metadata, ("a", "b"), ((1, 0), (0, 1))).verdict

    assert verdict(0.8, 500, 0.1).startswith("Top-1 is above always naming the largest class (60.0%), by more than")
    assert verdict(0.8, 500, 0.85).startswith("Top-1 is not above what the files' metadata alone give")
    assert "luck" in verdict(0.62, 500, 0.1)
