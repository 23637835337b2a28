"""The catalog, its views, snapshots and the command line: on a real data root made by the real steps."""

import csv
import io
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from curated_houses import materialise, quiet

from warehouse import steps
from warehouse.__main__ import main
from warehouse.catalog.build import ABSENT, CatalogError, build_catalog, connect, view_docs
from warehouse.catalog.presence import presence
from warehouse.catalog.snapshots import SnapshotError, current_snapshot, open_snapshot, snapshot_hash, take_snapshot
from warehouse.config import Config
from warehouse.probing import probe_sources
from warehouse.schema import TABLES
from warehouse.shards.reader import read_sample
from warehouse.store import Store


@pytest.fixture(scope="module")
def config(house: Callable[[], Config]) -> Config:
    return house()


@pytest.fixture
def store(config: Config) -> Store:
    return Store(config.data_root)


def ask(store: Store, query: str) -> list[tuple]:
    with connect(store) as connection:
        return connection.execute(query).fetchall()


def test_every_clip_is_accounted_for_and_nothing_leaks(store: Store) -> None:
    for source, listed, missing, quarantined, kept, dropped, unaccounted, _ in ask(store, "SELECT * FROM accounting"):
        assert listed == missing + quarantined + kept + dropped, source
        assert unaccounted == 0
    assert ask(store, "SELECT count(*) FROM leaks") == [(0,)]
    found = dict(ask(store, "SELECT how, count(*) FROM leaks_found GROUP BY how"))
    assert found.keys() >= {"same_clip", "bytes", "near"}, found


def test_presence_sets_what_is_listed_against_what_is_there(config: Config, store: Store) -> None:
    columns = "split, listed, present, missing, rejected, share_present"
    for source in config.sources:
        rows = presence(store, source.name)
        assert ask(store, f"SELECT {columns} FROM presence WHERE source = '{source.name}'") == [
            tuple(row[name] for name in columns.split(", ")) for row in rows
        ]
        splits = Counter(row["split"] for row in store.rows("memberships", source.name))
        assert {row["split"]: row["listed"] for row in rows if row["listed"]} == splits
        assert sum(row["rejected"] for row in rows) == len(store.rows("rejects", source.name))
        assert all(row["present"] + row["missing"] == row["listed"] for row in rows)
    totals = ask(store, "SELECT sum(present), sum(missing), sum(rejected) FROM presence")
    assert all(total > 0 for total in totals[0])


def test_a_decision_turned_over_shows_as_a_leak(config: Config, store: Store) -> None:
    path, leaked = store.path("decisions"), "duplicate_of_protected"
    whole = path.read_bytes()
    turned = [row | {"keep": row["keep"] or row["reason"] == leaked} for row in store.rows("decisions")]
    store.write("decisions", turned)
    try:
        build_catalog(store)
        assert {row[0] for row in ask(store, "SELECT collection FROM leaks")} >= {"unlabeled_hybrid"}
    finally:
        path.write_bytes(whole)
        build_catalog(store)


def test_composition_counts_what_decisions_keep(store: Store) -> None:
    kept = ask(store, "SELECT collection, count(*) FROM decisions WHERE keep GROUP BY 1 ORDER BY 1")
    assert ask(store, "SELECT collection, sum(clips)::BIGINT FROM composition GROUP BY 1 ORDER BY 1") == kept
    assert all(hours > 0 and size > 0 for hours, size in ask(store, "SELECT hours, bytes FROM composition"))
    out = ask(store, "SELECT collection, sum(clips)::BIGINT FROM exclusions GROUP BY 1 ORDER BY 1")
    assert out == ask(store, "SELECT collection, count(*) FROM decisions WHERE NOT keep GROUP BY 1 ORDER BY 1")


def test_keys_are_unique_and_columns_documented(store: Store) -> None:
    tables = [table for table in TABLES if table.name not in ABSENT]
    for table in tables:
        key = ", ".join(table.key)
        assert ask(store, f"SELECT {key} FROM {table.name} GROUP BY {key} HAVING count(*) > 1") == [], table.name
    comments = ask(store, "SELECT count(*) FROM duckdb_columns() WHERE NOT internal AND comment IS NOT NULL")
    assert comments == [(sum(len(table.columns) for table in tables),)]


def test_running_all_steps_again_changes_no_file(config: Config, store: Store) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        kept = [*store.shards.rglob("*"), *store.tables.rglob("*")]
        # So small that they are written each time.
        skip = {"sources.parquet", "labels.parquet", "classes.parquet", "native_classes.parquet"}
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in kept if p.is_file() and p.name not in skip}

    before = state()
    materialise(config)
    assert state() == before


def test_only_a_changed_file_is_probed_again(config: Config, store: Store) -> None:
    [source] = [s for s in config.sources if s.name == "selfcollected"]
    before = {row["clip_id"]: row for row in store.rows("media", source.name)}
    row = next(row for row in store.rows("files", source.name) if before[row["clip_id"]]["status"] == "ok")
    path = source.media_root / row["path"]
    whole = path.read_bytes()
    try:
        path.write_bytes(b"")
        steps.list_source(store, source)
        result = probe_sources(store, config, [source], quiet)[source.name]
        assert result.figures["probed"] == 1
        after = {row["clip_id"]: row for row in store.rows("media", source.name)}
        changed = [clip for clip in after if after[clip] != before[clip]]
        assert changed == [row["clip_id"]] and after[row["clip_id"]]["error_class"] == "empty_file"
        assert not [h for h in store.rows("frame_hashes", source.name) if h["clip_id"] == row["clip_id"]]
    finally:
        path.write_bytes(whole)
        steps.list_source(store, source)
        probe_sources(store, config, [source], quiet)
    assert {row["clip_id"] for row in store.rows("media", source.name) if row["status"] == "ok"} == {
        clip for clip, row in before.items() if row["status"] == "ok"
    }


def test_a_step_that_comes_too_early_says_what_is_missing(config: Config, tmp_path: Path) -> None:
    with pytest.raises(steps.MissingPartError, match="media/kinetics400"):
        steps.search_duplicates(Store(tmp_path), config)


def test_snapshots_are_named_by_content_and_open_to_their_bytes(config: Config, store: Store) -> None:
    collection = next(c for c in config.collections if c.name == "labeled_hybrid")
    taken = take_snapshot(store, config, collection)
    assert take_snapshot(store, config, collection) == taken
    assert current_snapshot(store, "labeled_hybrid") == taken["snapshot_id"]
    clips = store.read("snapshot_clips", taken["snapshot_id"])
    assert snapshot_hash(clips, taken["classes"]) == taken["snapshot_id"]
    assert snapshot_hash(clips, [*taken["classes"], "another"]) != taken["snapshot_id"]
    place = clips.column_names.index("weight")
    heavier = clips.set_column(place, "weight", pa.array([2.0] + [1.0] * (len(clips) - 1)))
    assert snapshot_hash(heavier, taken["classes"]) != taken["snapshot_id"]
    train, val = (open_snapshot(store, taken["snapshot_id"], split) for split in ("train", "val"))
    assert len(train) + len(val) == taken["clips"] == len(clips)
    assert not {s.clip_id for s in train} & {s.clip_id for s in val}
    assert len(taken["classes"]) == 8 and {s.class_id for s in train} == set(range(8))
    assert all(len(read_sample(sample)) == sample.size for sample in train[:5] + val[:5])


def test_snapshot_errors_say_what_to_do(config: Config, store: Store, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="no snapshot 'nothing'"):
        open_snapshot(store, "nothing", "train")
    with pytest.raises(SnapshotError, match="materialise the asset `kinetics400`"):
        current_snapshot(Store(tmp_path), "kinetics400")
    with pytest.raises(SnapshotError, match="keeps no clip"):
        take_snapshot(Store(tmp_path), config, config.collections[0])
    taken = take_snapshot(store, config, config.collections[0])
    with pytest.raises(SnapshotError, match="no clip in split 'test'"):
        open_snapshot(store, taken["snapshot_id"], "test")


def test_a_person_can_ask_while_the_catalog_is_rebuilt(store: Store) -> None:
    done = threading.Event()

    def rebuild() -> None:
        for _ in range(5):
            build_catalog(store)
        done.set()

    # The asking process is another one, as a person's is: DuckDB keeps one database a file within a process.
    script = (
        "import sys, duckdb\n"
        "for line in sys.stdin:\n"
        "    with duckdb.connect(sys.argv[1], read_only=True) as c:\n"
        "        print(c.execute('SELECT count(*) FROM clips').fetchone()[0], flush=True)\n"
    )
    expected = str(ask(store, "SELECT count(*) FROM clips")[0][0])
    builder = threading.Thread(target=rebuild)
    asked = 0
    with subprocess.Popen(
        [sys.executable, "-c", script, str(store.catalog)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as person:
        builder.start()
        while not done.is_set() or asked < 20:
            person.stdin.write("ask\n")
            person.stdin.flush()
            assert person.stdout.readline().strip() == expected
            asked += 1
        person.stdin.close()
    builder.join()
    assert person.returncode == 0


def test_sql_prints_for_people_and_for_programs(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    query = "SELECT source, sum(clips)::INTEGER AS clips FROM composition GROUP BY source ORDER BY source"
    run = ["--sources", str(config.path), "sql", query]
    assert main(run) == 0
    shown = capsys.readouterr().out
    assert "kinetics400" in shown and shown.rstrip().endswith("rows")
    assert main([*run, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert main([*run, "--format", "json"]) == 0
    parsed = json.loads(capsys.readouterr().out)
    assert [{k: str(v) for k, v in row.items()} for row in parsed] == rows
    assert {row["source"] for row in rows} >= {"kinetics400", "something_something_v2"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM compositon", "composition"),
        ("DELETE FROM clips", "read-only"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
        ("COPY clips TO '/tmp/clips.csv'", "disabled"),
        ("-- nothing", "the query is empty"),
    ],
)
def test_sql_errors_are_messages(
    config: Config, capsys: pytest.CaptureFixture[str], query: str, message: str
) -> None:
    assert main(["--sources", str(config.path), "sql", query]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("reelhouse: ") and message in captured.err
    assert captured.out == ""


def test_tables_explains_each_table_view_and_column(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sources", str(config.path), "tables"]) == 0
    shown = capsys.readouterr().out
    for table in TABLES:
        assert f"\n{table.name}: {table.row}" in shown
    for view in ("composition", "exclusions", "leaks_found", "leaks", "lineage", "accounting", "presence"):
        assert f"\n{view} (view): {view_docs()[view]}" in shown
    assert main(["--sources", str(config.path), "tables", "nothing"]) == 1


def test_asking_before_there_is_a_catalog_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="full_run"):
        connect(Store(tmp_path))


def test_a_catalog_that_cannot_be_opened_is_built_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    build_catalog(store)
    damaged = bytearray(store.catalog.read_bytes())
    damaged[12] += 1  # in the storage version
    store.catalog.write_bytes(damaged)
    with pytest.raises(CatalogError, match=r"materialise `catalog`"):
        connect(store)
    build_catalog(store)
    connect(store).close()
