"""What the assets show in the UI: on what a whole run left in Dagster's record, and on made-up tables."""

import base64
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import numpy as np
import pytest
from whole_runs import Whole

from assets import markdown, previews, run_previews, thumbnails
from assets.recording import SHEET, shown_last
from warehouse.catalog.snapshots import current_snapshot
from warehouse.curation.decisions import REASONS
from warehouse.schema import BY_NAME
from warehouse.store import Store

BY_SOURCE = ("clips", "media", "frame_hashes", "packing", "shards")
COLLECTIONS = ("unlabeled_hybrid", "labeled_hybrid", "kinetics400")
IN_ALL = ("sources", "duplicates", "decisions", "labels", "catalog", *COLLECTIONS)
SMALL_BYTES = 100_000
"""Base64 and all: a sheet is stored with each materialisation."""


def shown(whole: Whole, asset: str, source: str | None = None) -> Mapping[str, Any]:
    """The metadata of an asset's, or its partition's, latest materialisation."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[source] if source else None)
    with whole.instance() as instance:
        [record] = instance.fetch_materializations(wanted, limit=1).records
    return {name: entry.value for name, entry in record.asset_materialization.metadata.items()}


def pictures(text: str) -> dict[str, np.ndarray]:
    """The JPEG pictures of a text of Markdown, by name."""
    found = re.findall(r"!\[([^]]*)\]\(data:image/jpeg;base64,([^)]+)\)", text)
    decoded = {name: np.frombuffer(base64.b64decode(data), np.uint8) for name, data in found}
    return {name: cv2.imdecode(data, cv2.IMREAD_COLOR) for name, data in decoded.items()}


def cells(text: str) -> list[list[str]]:
    """The rows of a Markdown table, without its rule."""
    head, _, *rows = text.splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in (head, *rows)]


@pytest.mark.parametrize("asset", BY_SOURCE)
def test_rows_of_each_source(undisturbed: Whole, asset: str) -> None:
    for source in undisturbed.config.sources:
        row_count = shown(undisturbed, asset, source.name)["dagster/row_count"]
        assert row_count == undisturbed.store.read(asset, source.name).num_rows


def test_everything_shown_is_small_and_charts_are_there(undisturbed: Whole) -> None:
    sources = [source.name for source in undisturbed.config.sources]
    places = [(asset, source) for asset in BY_SOURCE for source in sources] + [(asset, None) for asset in IN_ALL]
    texts = {place: [v for v in shown(undisturbed, *place).values() if isinstance(v, str)] for place in places}
    assert max(len(text) for each in texts.values() for text in each) < SMALL_BYTES
    drawn = {asset for (asset, _), each in texts.items() if any("data:image/svg+xml" in text for text in each)}
    assert drawn == {"decisions", "labels", *COLLECTIONS}


def test_contact_sheets_show_the_clips_that_they_name(undisturbed: Whole) -> None:
    store = undisturbed.store
    for source in undisturbed.config.sources:
        usable = {row["clip_id"] for row in store.rows("media", source.name) if row["status"] == "ok"}
        stored = {row["clip_id"] for row in store.rows("samples", source.name)}
        for asset, clips in (("media", usable), ("shards", stored)):
            found = pictures(shown(undisturbed, asset, source.name)[SHEET])
            assert found.keys() == set(sorted(clips)[: thumbnails.TILES])
            assert all(picture.shape[1] == thumbnails.WIDTH_PX and picture.std() > 2 for picture in found.values())
    for collection in undisturbed.config.collections:
        members = store.rows("snapshot_clips", current_snapshot(store, collection.name))
        clips = {row["clip_id"] for row in members}
        found = pictures(shown(undisturbed, collection.name)[SHEET])
        assert found.keys() == set(sorted(clips)[: thumbnails.TILES])


def test_tile_says_what_is_wrong_with_a_tar(undisturbed: Whole, tmp_path: Path) -> None:
    """One source's tars are gone, another's are cut off, and a clip has been taken down."""
    root = tmp_path / "data"
    shutil.copytree(undisturbed.store.root, root, ignore=shutil.ignore_patterns("runs"))
    store, config = Store(root), replace(undisturbed.config, data_root=root, workers=1)
    gone, cut, whole = config.sources[:3]
    shutil.rmtree(store.shards / gone.name)
    for tar in (store.shards / cut.name).glob("*.tar"):
        os.truncate(tar, 700)
    first, second, *_ = sorted(row["clip_id"] for row in store.rows("samples", whole.name))
    taken_at = datetime.now(UTC)
    store.write("takedowns", [{"clip_id": first, "reason": "asked to", "who": "me", "taken_at": taken_at}])
    sheets = thumbnails.of_shards(store, config, (gone, cut, whole))
    assert "missing_file" in sheets[gone.name].value and "data:image" not in sheets[gone.name].value
    assert "data:image" not in sheets[cut.name].value
    assert second in sheets[whole.name].value and first not in sheets[whole.name].value


def test_pairs_look_alike(undisturbed: Whole) -> None:
    """A copy and its original at the same time: far nearer to each other than to other clips, but for mirrored ones."""
    edges = {(row["clip_a"], row["clip_b"]): row["kind"] for row in undisturbed.store.rows("duplicate_edges")}
    text = shown(undisturbed, "duplicates")["pairs"]
    small = {}
    for name, picture in pictures(text).items():
        small[name] = cv2.resize(picture, (16, 12), interpolation=cv2.INTER_AREA).astype(float)
    shown_pairs = [tuple(re.findall(r"!\[(\w+)\]", line)) for line in text.splitlines()[2:]]
    assert {edges[pair] for pair in shown_pairs} == set(edges.values())
    for pair in shown_pairs:
        if edges[pair] in ("bytes", "packets"):
            assert np.abs(small[pair[0]] - small[pair[1]]).mean() < 1
        elif edges[pair] != "mirrored":
            others = [np.abs(small[pair[0]] - picture).mean() for name, picture in small.items() if name not in pair]
            assert np.abs(small[pair[0]] - small[pair[1]]).mean() < min(others)


def test_reasons_add_up_to_the_decisions(undisturbed: Whole) -> None:
    metadata = shown(undisturbed, "decisions")
    (_, *names), *rows = cells(metadata["reasons"])
    decided = undisturbed.store.rows("decisions")
    for i, name in enumerate(names, start=1):
        counts = {row[0]: int(row[i].replace(",", "")) for row in rows}
        expected = {r: sum((d["collection"], d["reason"]) == (name, r) for d in decided) for r in REASONS}
        assert {reason: n for reason, n in counts.items() if n} == {reason: n for reason, n in expected.items() if n}
        assert metadata[f"clips kept: {name}"] == expected["kept"]


def test_training_shows_its_curve_and_reconstructions(undisturbed: Whole) -> None:
    metadata = shown(undisturbed, "pretrained")
    steps = undisturbed.steps("pretrained")
    assert (metadata["steps"], metadata["last loss"]) == (steps[-1]["step"], steps[-1]["loss"])
    assert "data:image/svg+xml" in metadata["loss"]
    [picture] = pictures(metadata["original, masked, reconstruction"]).values()
    assert picture.shape[1] == run_previews.SHEET_PX[0] and picture.shape[0] <= run_previews.SHEET_PX[1]


def test_confusion_names_the_worst_first() -> None:
    metadata = run_previews.of_evaluation(("a", "b", "c"), ((5, 4, 1), (0, 9, 1), (2, 0, 2)))
    assert cells(metadata["confused most"].value)[1:] == [
        ["a", "b", "4", "40%"], ["c", "a", "2", "50%"], ["a", "c", "1", "10%"], ["b", "c", "1", "10%"],
    ]  # fmt: skip
    many = [f"class {i}" for i in range(710)]
    assert run_previews.of_evaluation(many, np.eye(710, dtype=int).tolist()).keys() == {"confused most"}


def test_of_many_classes_both_ends_are_listed() -> None:
    sizes = [(f"class {i:03d}", 1000 - i) for i in range(710)]
    text = previews.class_sizes(sizes)["clips by class"].value
    rows = cells(text)[1:]
    assert [rows[0], rows[9]] == [["class 000", "1,000"], ["class 009", "991"]]
    assert rows[10] == ["… 690 classes between …", ""]
    assert [rows[11][0], rows[-1][0], len(rows)] == ["class 700", "class 709", 21]


def test_cells_hold_whatever_a_name_is() -> None:
    evil = "a | b\n| c <script>alert(1)</script> ![](data:image/jpeg;base64,AAAA)"
    text = markdown.table(("name", "clips"), [(evil, 1234567), (None, None)]).value
    head, rule, row, empty = text.splitlines()
    assert (head, rule) == ("| name | clips |", "| --- | ---: |")
    assert len(re.split(r"(?<!\\)\|", row)) == len(re.split(r"(?<!\\)\|", empty)) == 4
    assert "<script" not in row and "![](" not in row and row.endswith("| 1,234,567 |")


def test_columns_are_those_of_the_schema() -> None:
    metadata = markdown.columns("media", "files")
    columns = metadata["dagster/column_schema"].columns
    assert [(c.name, c.description, c.constraints.nullable) for c in columns] == [
        (c.name, c.doc, c.nullable) for c in BY_NAME["media"].columns
    ]
    assert [c.name for c in metadata["columns of files"].columns] == [c.name for c in BY_NAME["files"].columns]


def test_sheet_is_shown_again_until_a_clip_is_taken_down(tmp_path: Path) -> None:
    store = Store(tmp_path)
    again: list[str | None] = []

    @dg.asset
    def media(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        last = shown_last(context, store, "media", SHEET)
        again.append(last and last.value)
        return dg.MaterializeResult(metadata={SHEET: "the sheet"})

    with dg.DagsterInstance.ephemeral() as instance:
        for taken_at in (None, None, datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=1)):
            if taken_at:
                row = {"clip_id": "c", "reason": "asked to", "who": "me", "taken_at": taken_at}
                store.write("takedowns", [row])
            assert dg.materialize([media], instance=instance).success
    assert again == [None, "the sheet", "the sheet", None]
