"""The whole job from the command line on the embedded corpus: what it records, decides, writes, and does not repeat."""

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import webdataset
from whole_runs import REPOSITORY, SMALL_JOB, Whole

from model.transfer import load_classifier
from warehouse.catalog.build import connect
from warehouse.catalog.snapshots import current_snapshot
from warehouse.config import load

BY_SOURCE = ("clips", "media", "frame_hashes", "packing", "shards")
BROKEN = {  # kind in truth.csv → status and error class in `media`
    "empty": ("quarantined", "empty_file"),
    "truncated": ("quarantined", "truncated"),
    "no_moov": ("quarantined", "truncated"),
    "no_video": ("quarantined", "no_video_stream"),
    "missing": ("missing", "missing_file"),
}
COPIES = ("byte_copy", "re_encode", "resize", "trim", "letterbox", "mirror")
LEAKS = ("val_byte_copy_in_train", "val_re_encode_in_train")
REJECTS = ("malformed_row", "bad_time", "duplicate_row")
REDONE = {
    "catalog.lock", "shards.lock", "warehouse.duckdb", "report.html", "leaks.html",
    *(f"tables/{name}.parquet" for name in ("sources", "native_classes", "classes", "labels")),
}  # fmt: skip
"""What a second run writes again, because it is cheap (and the pointers to the present snapshots)."""


@pytest.fixture(scope="module")
def catalog(undisturbed: Whole) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(undisturbed.store) as connection:
        yield connection


@pytest.fixture(scope="module")
def truth(rendered_corpus: Path) -> list[dict[str, str]]:
    with (rendered_corpus / "truth.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Places:
    """Where the files of the corpus became clips. A file that is missing has no folder, so names have to do."""

    folders: dict[str, str]
    clips: dict[tuple[str, str], str]

    def find(self, path: str) -> tuple[str, str]:
        """(clip id, source) of a path in the corpus."""
        source = self.folders[Path(path).parts[0]]
        return self.clips[source, Path(path).name], source


@pytest.fixture(scope="module")
def places(undisturbed: Whole, rendered_corpus: Path) -> Places:
    sources = undisturbed.config.sources
    rows = undisturbed.store.rows("files")
    return Places(
        {source.media_root.relative_to(rendered_corpus).parts[0]: source.name for source in sources},
        {(row["source"], Path(row["path"]).name): row["clip_id"] for row in rows},
    )


def materialised(whole: Whole, asset: str) -> set[str]:
    with whole.instance() as instance:
        return instance.get_materialized_partitions(dg.AssetKey(asset))


def nothing_to_do(whole: Whole, asset: str, source: str) -> bool:
    """What the latest materialisation of a partition says of itself."""
    with whole.instance() as instance:
        wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[source])
        [record] = instance.fetch_materializations(wanted, limit=1).records
    return bool(record.asset_materialization.metadata["nothing to do"].value)


@pytest.mark.parametrize("asset", BY_SOURCE)
def test_every_source_is_recorded(undisturbed: Whole, asset: str) -> None:
    assert materialised(undisturbed, asset) == {source.name for source in undisturbed.config.sources}


def test_truth_is_covered(truth: list[dict[str, str]]) -> None:
    planted = {line["kind"] for line in truth}
    assert planted == {*BROKEN, *COPIES, *LEAKS, *REJECTS, "shared", "split_conflict", "overlap"}


def test_copies_of_protected_clips_leave_training(
    undisturbed: Whole, truth: list[dict[str, str]], places: Places
) -> None:
    decided: dict[str, list[dict[str, Any]]] = {}
    for row in undisturbed.store.rows("decisions"):
        if row["split"] == "train":
            decided.setdefault(row["clip_id"], []).append(row)
    for line in truth:
        if line["kind"] in LEAKS:
            clip, original = places.find(line["path"])[0], places.find(line["of"])[0]
            assert decided[clip], line
            for row in decided[clip]:
                assert (row["keep"], row["reason"], row["other_clip_id"]) == (False, "duplicate_of_protected", original)
        if line["kind"] == "split_conflict":
            rows = decided[places.find(line["path"])[0]]
            assert {(row["collection"], row["keep"], row["reason"]) for row in rows} == {
                (name, False, "protected_split") for name in ("unlabeled_hybrid", "labeled_hybrid", "kinetics400")
            }


def test_of_a_clip_and_its_copy_one_is_trained_on(
    undisturbed: Whole, truth: list[dict[str, str]], places: Places
) -> None:
    kept: dict[str, set[str]] = {}
    for row in undisturbed.store.rows("decisions"):
        if row["keep"] and row["split"] == "train":
            kept.setdefault(row["collection"], set()).add(row["clip_id"])
    for line in truth:
        if line["kind"] in (*COPIES, "overlap"):
            pair = {places.find(line[side])[0] for side in ("path", "of")}
            assert len(pair & kept["unlabeled_hybrid"]) == 1, line
            assert len(pair & kept["labeled_hybrid"]) <= 1, line


def test_broken_files_are_set_aside_with_their_reason(
    undisturbed: Whole, truth: list[dict[str, str]], places: Places
) -> None:
    media = {(row["clip_id"], row["source"]): row for row in undisturbed.store.rows("media")}
    broken = {places.find(line["path"]): BROKEN[line["kind"]] for line in truth if line["kind"] in BROKEN}
    found = {key: (row["status"], row["error_class"]) for key, row in media.items() if row["status"] != "ok"}
    assert found == broken


def test_bad_rows_are_rejected(undisturbed: Whole, rendered_corpus: Path, truth: list[dict[str, str]]) -> None:
    planted = {
        (str(rendered_corpus / line["path"]), int(line["note"].partition(":")[0]), line["kind"])
        for line in truth
        if line["kind"] in REJECTS
    }
    assert {(row["file"], row["row"], row["error_class"]) for row in undisturbed.store.rows("rejects")} == planted


def test_leaks_are_found_and_gone(
    catalog: duckdb.DuckDBPyConnection, truth: list[dict[str, str]], places: Places
) -> None:
    planted = {places.find(line["path"])[0] for line in truth if line["kind"] in (*LEAKS, "split_conflict")}
    assert {clip for (clip,) in catalog.execute("SELECT clip_id FROM leaks_found").fetchall()} == planted
    assert catalog.execute("SELECT * FROM leaks").fetchall() == []


def test_every_clip_is_accounted_for(undisturbed: Whole, catalog: duckdb.DuckDBPyConnection) -> None:
    wrong = "unaccounted <> 0 OR listed <> missing + quarantined + kept + dropped"
    assert catalog.execute(f"SELECT * FROM accounting WHERE {wrong}").fetchall() == []
    listed = dict(catalog.execute("SELECT source, listed FROM accounting").fetchall())
    assert listed == {name: undisturbed.store.read("files", name).num_rows for name in listed}
    assert len(listed) == len(undisturbed.config.sources)


def test_snapshots_are_taken(undisturbed: Whole) -> None:
    store = undisturbed.store
    for collection in undisturbed.config.collections:
        [snapshot] = store.rows("snapshots", current_snapshot(store, collection.name))
        kept = [r for r in store.rows("decisions") if r["collection"] == collection.name and r["keep"]]
        clips = store.rows("snapshot_clips", snapshot["snapshot_id"])
        assert snapshot["collection"] == collection.name
        assert snapshot["clips"] == len(clips) == len(kept) > 0
        assert {(c["clip_id"], c["split"]) for c in clips} == {(k["clip_id"], k["split"]) for k in kept}


def test_ledger_ties_scores_to_the_clips_trained_on(undisturbed: Whole, catalog: duckdb.DuckDBPyConnection) -> None:
    runs = catalog.execute("SELECT stage, status, attempts, seconds > 0 FROM runs").fetchall()
    stages = ("pretrained", "post_pretrained", "finetuned")
    derived = ("distilled", "evaluation", "evaluation", "features")
    assert sorted(runs) == sorted((stage, "finished", 1, True) for stage in (*stages, *derived))
    evaluated = catalog.execute("SELECT DISTINCT checkpoint FROM scores WHERE metric IN ('top1', 'top5')").fetchall()
    [(scored,)] = catalog.execute("SELECT checkpoint FROM checkpoints JOIN runs USING (run_id) "
                                  "WHERE stage = 'finetuned'").fetchall()  # fmt: skip
    [(student,)] = catalog.execute("SELECT checkpoint FROM checkpoints JOIN runs USING (run_id) "
                                   "WHERE stage = 'distilled'").fetchall()  # fmt: skip
    assert {scored, student} == {checkpoint for (checkpoint,) in evaluated} and student.endswith("/micro")
    assert (undisturbed.store.root / scored / "weights.safetensors").exists()
    seen = "FROM lineage WHERE checkpoint = ?"
    assert {row[0] for row in catalog.execute(f"SELECT DISTINCT via_stage {seen}", [scored]).fetchall()} == {*stages}
    trained = catalog.execute("SELECT DISTINCT clip_id FROM snapshot_clips WHERE split = 'train'").fetchall()
    assert set(catalog.execute(f"SELECT DISTINCT clip_id {seen}", [scored]).fetchall()) == set(trained)
    # What a teacher has seen, its student has seen through it.
    assert {row[0] for row in catalog.execute(f"SELECT DISTINCT via_stage {seen}", [student]).fetchall()} == {
        *stages, "distilled",
    }  # fmt: skip
    assert load_classifier(undisturbed.store.root / student).config.size.name == "micro"


def test_students_and_features_are_there_and_shown(undisturbed: Whole, catalog: duckdb.DuckDBPyConnection) -> None:
    snapshot = current_snapshot(undisturbed.store, "kinetics400")
    clips = catalog.execute("SELECT clip_id, split FROM snapshot_clips WHERE snapshot_id = ?", [snapshot]).fetchall()
    vectors = catalog.execute("SELECT clip_id, split, len(vector) FROM features").fetchall()
    assert sorted(vectors) == sorted((*clip, 96) for clip in clips)
    agreement = catalog.execute("SELECT value FROM scores WHERE metric = 'agreement_with_teacher'").fetchall()
    assert len(agreement) == 1 and 0 <= agreement[0][0] <= 1
    with undisturbed.instance() as instance:
        shown = {
            asset: instance.get_latest_materialization_event(dg.AssetKey(asset)).asset_materialization.metadata
            for asset in ("distilled", "evaluation", "features")
        }
    assert "| micro |" in shown["distilled"]["students"].value and "loss" in shown["distilled"]
    assert "| micro |" in shown["evaluation"]["models"].value and "evaluation of micro: top1" in shown["evaluation"]
    assert shown["features"]["vectors"].value == len(clips)
    assert "Students beside their teacher" in (undisturbed.store.root / "report.html").read_text()


def test_no_checkpoint_has_seen_a_validation_clip(catalog: duckdb.DuckDBPyConnection) -> None:
    assert catalog.execute("SELECT * FROM memberships WHERE split = 'val'").fetchall()
    seen = "SELECT clip_id FROM lineage JOIN memberships USING (clip_id) WHERE split IN ('val', 'test')"
    assert catalog.execute(seen).fetchall() == []


def test_tars_are_read_by_webdataset(undisturbed: Whole) -> None:
    store = undisturbed.store
    samples: dict[str, dict[str, dict[str, Any]]] = {}
    for row in store.rows("samples"):
        samples.setdefault(row["shard"], {})[row["clip_id"]] = row
    shards = store.rows("shards")
    assert len(shards) > len(undisturbed.config.sources)
    for shard in shards:
        tar = store.root / shard["path"]
        content = tar.read_bytes()
        read = {item["__key__"]: item for item in webdataset.WebDataset(str(tar), shardshuffle=False)}
        assert read.keys() == samples[shard["shard"]].keys()
        for clip, row in samples[shard["shard"]].items():
            assert read[clip]["mp4"] == content[row["offset"] : row["offset"] + row["size"]]


def test_catalog_answers_on_the_command_line(undisturbed: Whole) -> None:
    query = "SELECT collection, sum(clips)::INTEGER AS clips FROM composition GROUP BY ALL"
    asked = subprocess.run(
        [sys.executable, "-m", "warehouse", "sql", query, "--format", "csv"],
        cwd=REPOSITORY, env=undisturbed.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = {row["collection"]: int(row["clips"]) for row in csv.DictReader(io.StringIO(asked.stdout))}
    assert answer == {row["collection"]: row["clips"] for row in undisturbed.store.rows("snapshots")}


def test_report_is_there(undisturbed: Whole) -> None:
    report = (undisturbed.store.root / "report.html").read_text()
    assert "</html>" in report
    for source in undisturbed.config.sources:
        assert source.name in report


def test_second_run_does_nothing_again(undisturbed: Whole) -> None:
    before, runs, snapshots = undisturbed.times(), undisturbed.store.rows("runs"), undisturbed.snapshots()
    undisturbed.run()
    after = undisturbed.times()
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path for path in changed if not path.startswith("collections/")} <= REDONE
    assert undisturbed.store.rows("runs") == runs
    assert undisturbed.snapshots() == snapshots
    for source in undisturbed.config.sources:
        assert all(nothing_to_do(undisturbed, asset, source.name) for asset in BY_SOURCE)


def test_added_source_is_the_only_one_worked_on(tmp_path: Path, rendered_corpus: Path) -> None:
    whole = Whole(tmp_path / "growing", rendered_corpus)
    config = whole.root / "sources.toml"
    config.write_text(whole.all_sources.partition("[sources.selfcollected]")[0])
    old = [source.name for source in load(config).sources]

    command = ("job", "execute", "-f", SMALL_JOB, "-j", "data_run")
    whole.run(*command)
    assert materialised(whole, "shards") == set(old)
    work = ("tables/media/*", "tables/frame_hashes/*", "tables/packing/*", "tables/samples/*", "shards/**/*")
    before = {path: time for pattern in work for path, time in whole.times(pattern).items()}
    contents = {path: (whole.store.root / path).read_bytes() for path in before}
    snapshots = whole.snapshots()

    config.write_text(whole.all_sources)
    whole.run(*command)
    assert materialised(whole, "shards") == {*old, "selfcollected"}
    after = {path: time for pattern in work for path, time in whole.times(pattern).items()}
    assert before.items() <= after.items()
    assert all((whole.store.root / path).read_bytes() == content for path, content in contents.items())
    assert {Path(path).stem.partition("-")[0] for path in after.keys() - before.keys()} == {"selfcollected"}
    assert not nothing_to_do(whole, "media", "selfcollected")
    # It feeds one collection, which is another one now; those that it does not feed are what they were.
    changed = {name for name, ids in whole.snapshots().items() if ids != snapshots[name]}
    assert changed == {"unlabeled_hybrid"}
