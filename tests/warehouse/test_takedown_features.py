"""Features: a view of the catalog that is not copied into it, which sql reads, and which clips taken down leave."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_shards import House

from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.selection import selected
from warehouse.config import Collection
from warehouse.schema import BY_NAME
from warehouse.store import Store
from warehouse.takedown.proof import prove
from warehouse.takedown.takedowns import take_down

RUNS = ("features-1", "features-2")
WINDOWS = 2


def rows(run: str, clips: list[str]) -> list[dict[str, Any]]:
    """Windows of clips whose vectors turn away from the first one's, the further the later."""
    shared = {"run_id": run, "checkpoint": "runs/finetuned-1/checkpoints/step-1", "source": "ours", "split": "train"}
    return [
        shared | {"clip_id": clip, "start_frame": 4 * window, "start_ms": 160 * window, "views": 1,
                  "vector": [1.0, 0.1 * number + window, 0.0]}
        for number, clip in enumerate(clips)
        for window in range(WINDOWS)
    ]  # fmt: skip


def files_that_name(root: Path, clip: str) -> list[str]:
    """Parquet files of features in which a row is of the clip."""
    paths = [*root.glob("tables/features/*.parquet"), *root.glob("runs/*/features/*.parquet")]
    return [path.name for path in paths if clip in pq.read_table(path)["clip_id"].to_pylist()]


@pytest.fixture
def with_features(house_of_mine: House) -> tuple[House, list[str]]:
    """Features of ten clips in the table, and of the first five in what a run that was stopped has so far."""
    store = house_of_mine.store
    clips = [sample.clip_id for sample in house_of_mine.train()][:10]
    for run in RUNS:
        store.write("features", rows(run, clips), run)
    unit = store.runs / "features-3" / "features" / "unit-000000.parquet"
    unit.parent.mkdir(parents=True)
    pq.write_table(store.read("features", RUNS[0])[: 5 * WINDOWS], unit)
    build_catalog(store)
    return house_of_mine, clips


def test_a_clip_that_is_taken_down_is_in_no_answer_at_once_and_in_no_file_after_compact(
    with_features: tuple[House, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    house, clips = with_features
    store, gone = house.store, clips[2]
    store.write("features", rows("features-2", clips[5:]), "features-2")  # holds nothing of it
    untouched = store.path("features", "features-2").stat().st_ino
    take_down(store, [gone], "asked", "me")
    build_catalog(store)
    with connect(store) as connection:
        answer = connection.execute("SELECT DISTINCT clip_id FROM features WHERE run_id = 'features-1'").fetchall()
    assert {clip for (clip,) in answer} == {*clips} - {gone}
    assert files_that_name(store.root, gone) == ["features-1.parquet", "unit-000000.parquet"]
    assert [trace.what for trace in prove(store, {gone}, 1).left].count("features") == 2

    assert house.run("compact") == 0
    said = capsys.readouterr().out
    assert "tables/features/features-1.parquet: features of clips taken down removed" in said
    assert files_that_name(store.root, gone) == []
    left = [row for row in rows("features-1", clips) if row["clip_id"] != gone]
    assert [row["clip_id"] for row in store.rows("features", "features-1")] == [row["clip_id"] for row in left]
    assert store.read("features", "features-1").schema == BY_NAME["features"].schema
    assert store.path("features", "features-2").stat().st_ino == untouched
    assert prove(store, {gone}, 1).holds

    # A run that was under way when the clip was taken down writes it all the same: the proof names the file.
    store.write("features", rows("features-4", clips), "features-4")
    [trace] = prove(store, {gone}, 1).left
    assert (trace.path.name, trace.clip_id, trace.what) == ("features-4.parquet", gone, "features")
    assert "Run `reelhouse compact` again" in "\n".join(prove(store, {gone}, 1).complaints(store))
    assert house.run("compact") == 0 and files_that_name(store.root, gone) == []


def test_sql_reads_vectors_and_no_other_file(
    with_features: tuple[House, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    house, clips = with_features
    nearest = f"""
        SELECT b.clip_id, round(list_cosine_similarity(a.vector, b.vector), 3) AS similarity
        FROM features a JOIN features b USING (run_id, start_frame)
        WHERE a.run_id = 'features-1' AND start_frame = 0 AND a.clip_id = '{clips[0]}' AND b.clip_id <> a.clip_id
        ORDER BY similarity DESC LIMIT 3
    """
    assert house.run("sql", nearest, "--format", "csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["clip_id", *clips[1:4]]
    # The catalog has none of them in it, and a query still reaches nothing beside it.
    assert "features" not in {
        name for (name,) in connect(house.store).execute("SELECT table_name FROM duckdb_tables()").fetchall()
    }
    file = house.store.path("features", "features-1")
    for query in (f"SELECT * FROM read_parquet('{file}')", f"COPY (SELECT 1) TO '{file}'"):
        assert house.run("sql", query) == 1
        assert "disabled" in capsys.readouterr().err

    # Such an answer may be a collection.
    query = f"SELECT clip_id FROM ({nearest})"
    found = selected(house.store, house.config, Collection("alike", (), None, 0, sql=query)).clips
    assert set(found["clip_id"].to_pylist()) == {*clips[1:4]}


def test_lineage_and_takedown_name_the_runs_that_have_features_of_a_clip(
    with_features: tuple[House, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    house, clips = with_features
    write_run(house.store, house.snapshots["unlabeled_hybrid"])
    build_catalog(house.store)
    assert house.run("lineage", clips[0]) == 0
    said = capsys.readouterr().out
    assert "features extracted by" in said and "features-1 on unlabeled_hybrid train, finished" in said
    trained = said[said.index("trained on by") : said.index("features extracted by")]
    assert "pretrained-1" in trained and "features-1" not in trained
    assert house.run("takedown", clips[0], "--reason", "asked") == 0
    assert "features extracted by, which `reelhouse compact` removes" in capsys.readouterr().out


def write_run(store: Store, snapshot: str) -> None:
    [row] = store.rows("runs", "finetuned-1")
    config = '{"step": null}'
    run = {"run_id": "features-1", "stage": "features", "snapshot_id": snapshot, "config": config}
    store.write("runs", [row | run], "features-1")
