"""Collections as SQL: made by a query, looked at, compared, exported and sampled; and one clip by its name."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from warehouse.__main__ import main
from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.collections import create
from warehouse.catalog.contact_sheet import draw_sheet
from warehouse.catalog.differences import diff, snapshot_of
from warehouse.catalog.snapshots import SnapshotError, open_snapshot, take_snapshot
from warehouse.catalog.stored_clips import NotStoredError, get
from warehouse.config import Config, ConfigError, load
from warehouse.shards.errors import ShardError
from warehouse.shards.reader import read_sample
from warehouse.store import Store
from warehouse.takedown.takedowns import TakenDownError, take_down

CLEAN = "clip_id NOT IN (SELECT clip_id FROM protected_repeats)"
LABELLED = """
    SELECT clip_id, min(split) AS split, any_value(class_name) AS class_name
    FROM decisions JOIN labels USING (clip_id) WHERE collection = 'labeled_hybrid' AND keep GROUP BY clip_id
"""


@pytest.fixture(scope="module")
def config(house: Callable[[], Config]) -> Config:
    return house()


@pytest.fixture
def store(config: Config) -> Store:
    return Store(config.data_root)


def ask(store: Store, query: str) -> list[tuple]:
    with connect(store) as connection:
        return connection.execute(query).fetchall()


def test_a_query_becomes_an_immutable_collection(config: Config, store: Store) -> None:
    taken = create(store, config, "from_sql", LABELLED)
    rules = take_snapshot(store, config, next(c for c in config.collections if c.name == "labeled_hybrid"))
    # The same clips, splits and classes by name: content names it, not how it was asked for.
    assert taken["snapshot_id"] == rules["snapshot_id"] and taken["classes"] == rules["classes"]
    assert create(store, config, "again", f"SELECT * FROM ({LABELLED}) ORDER BY split DESC") == taken
    composition = "SELECT source, split, clips, bytes FROM composition WHERE collection ="
    assert ask(store, f"{composition} 'from_sql'") == ask(store, f"{composition} 'labeled_hybrid'") != []
    heavier = create(store, config, "again", f"SELECT *, 2 AS weight FROM ({LABELLED})")
    assert heavier["snapshot_id"] != taken["snapshot_id"]
    assert {s.weight for s in open_snapshot(store, heavier["snapshot_id"], "train")} == {2.0}
    assert [row["snapshot_id"] for row in store.rows("collection_snapshots", "again")] == [
        taken["snapshot_id"], heavier["snapshot_id"],
    ]  # fmt: skip
    assert all(len(read_sample(s)) == s.size for s in open_snapshot(store, taken["snapshot_id"], "val"))


KEPT = "(SELECT min(clip_id) FROM decisions WHERE keep AND split = 'train')"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT clip_id FROM samples WHERE false", "selects no clip .*Try it out: reelhouse sql"),
        ("SELECT source FROM samples", "gives source, and no `clip_id`. Name the column"),
        ("SELECT * FROM samples", "gives a column 'source'.* Name them: SELECT clip_id FROM"),
        ("SELECT 'nobody' AS clip_id", "1 clips are unknown: nobody. Take clip ids from the catalog"),
        ("SELECT NULL AS clip_id", "1 clips are unknown: NULL"),
        ("SELECT clip_id, 'training' AS split FROM samples", "are none: training. A split is one of train, val, test"),
        (f"SELECT {KEPT} AS clip_id, unnest(['train', 'val']) AS split", "more than one split: .* train and val. Dec"),
        (f"SELECT {KEPT} AS clip_id, unnest([1, 2]) AS weight", "selected twice with different values.* Decide"),
        (f"SELECT {KEPT} AS clip_id, -1 AS weight", "no number of 0 or more"),
        (f"SELECT {KEPT} AS clip_id, 'heavy' AS weight", "its query fails. .*heavy"),
        (f"SELECT {KEPT} AS clip_id, NULL AS class_name", "they have no class. .* WHERE class_name IS NOT NULL"),
        ("SELECT clip_id FROM media WHERE status <> 'ok'", "in no shard, as no collection .*Leave them out: WHERE"),
        ("SELECT clip_id FROM sample", "its query fails. .*sample"),
        ("SELECT clip_id FROM samples; SELECT 1", "has to be one SELECT"),
        ("COPY samples TO 'samples.csv'", "has to be one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "its query fails. .*disabled"),
    ],
)
def test_a_query_that_makes_no_collection_is_refused(config: Config, store: Store, sql: str, message: str) -> None:
    with pytest.raises(SnapshotError, match=f"(?s)collection 'wrong'.*{message}"):
        create(store, config, "wrong", sql)
    assert "wrong" not in store.parts("collection_snapshots")


def test_names_that_cannot_be_had_are_refused(config: Config, store: Store) -> None:
    with pytest.raises(SnapshotError, match=r"\[collections.kinetics400\] of .* has this name. Choose another"):
        create(store, config, "kinetics400", "SELECT clip_id FROM samples")
    with pytest.raises(SnapshotError, match="made of a-z, 0-9 and _ alone"):
        create(store, config, "../up", "SELECT clip_id FROM samples")


def test_what_leaks_is_refused_and_the_clause_that_is_offered_helps(config: Config, store: Store) -> None:
    every = "SELECT clip_id FROM samples"
    leaking = ask(store, f"SELECT clip_id FROM ({every}) WHERE NOT {CLEAN} ORDER BY clip_id")
    assert leaking
    with pytest.raises(SnapshotError) as refused:
        create(store, config, "clean", every)
    assert f"{len(leaking)} training clips leak" in str(refused.value) and leaking[0][0] in str(refused.value)
    clause = str(refused.value).rpartition("(…)")[2]
    taken = create(store, config, "clean", f"SELECT * FROM ({every}){clause}")
    assert taken["clips"] == len(ask(store, every)) - len(leaking)
    # With a split of the query's own, what leaks may be evaluated, and still not be trained on.
    with pytest.raises(SnapshotError) as refused:
        create(store, config, "own", f"SELECT clip_id, 'train' AS split FROM ({every})")
    clause = str(refused.value).rpartition("(…)")[2]
    assert "split <> 'train' OR" in clause
    create(store, config, "own", f"SELECT * FROM (SELECT clip_id, 'val' AS split FROM ({every})){clause}")


def test_an_evaluation_split_of_the_querys_own_must_not_be_trained_on(config: Config, store: Store) -> None:
    [a, b] = ask(store, f"SELECT clip_id FROM samples WHERE {CLEAN} ORDER BY clip_id LIMIT 2")
    path, whole = store.path("duplicate_edges"), store.path("duplicate_edges").read_bytes()
    edge = {"clip_a": a[0], "clip_b": b[0], "kind": "near"}
    try:
        store.write("duplicate_edges", [*store.rows("duplicate_edges"), edge])
        build_catalog(store)
        split = f"CASE WHEN clip_id = '{a[0]}' THEN 'val' ELSE 'train' END AS split"
        with pytest.raises(SnapshotError, match=rf"1 training clips leak.*{b[0]} repeats {a[0]} \(the query val"):
            create(store, config, "own", f"SELECT clip_id, {split} FROM samples WHERE {CLEAN}")
    finally:
        path.write_bytes(whole)
        build_catalog(store)


def test_a_collection_that_begins_to_leak_shows(config: Config, store: Store) -> None:
    taken = create(store, config, "clean", f"SELECT clip_id FROM samples WHERE {CLEAN}")
    assert ask(store, "SELECT * FROM snapshot_leaks") == []
    clip = store.rows("snapshot_clips", taken["snapshot_id"])[0]
    path = store.path("memberships", clip["source"])
    whole, rows = path.read_bytes(), store.rows("memberships", clip["source"])
    try:
        evaluated = next(row for row in rows if row["clip_id"] == clip["clip_id"]) | {"split": "test"}
        store.write("memberships", [*rows, evaluated], clip["source"])
        build_catalog(store)
        assert ("clean", clip["clip_id"], "test", "same_clip") in ask(
            store, "SELECT collection, clip_id, protected_split, how FROM snapshot_leaks"
        )
    finally:
        path.write_bytes(whole)
        build_catalog(store)


def test_a_difference_is_told_by_kind_source_and_split(config: Config, store: Store) -> None:
    before = create(store, config, "first", LABELLED)["snapshot_id"]
    clips = store.rows("snapshot_clips", before)
    train = [c for c in clips if c["split"] == "train"]
    gone, renamed = train[0], train[1]
    after = create(store, config, "second", f"""
        SELECT clip_id, split, CASE WHEN clip_id = '{renamed["clip_id"]}' THEN 'other' ELSE class_name END AS class_name
        FROM ({LABELLED}) WHERE clip_id <> '{gone["clip_id"]}'
    """)["snapshot_id"]  # fmt: skip
    assert diff(store, before, after) == [
        ("relabelled", renamed["source"], "train", 1, [renamed["clip_id"]]),
        ("removed", gone["source"], "train", 1, [gone["clip_id"]]),
    ]
    assert ("added", gone["source"], "train", 1, [gone["clip_id"]]) in diff(store, after, before)
    assert diff(store, before, before) == []
    assert snapshot_of(store, "second") == after == snapshot_of(store, after)
    with pytest.raises(SnapshotError, match=r"'third' is no collection .*second.*reelhouse collection create"):
        snapshot_of(store, "third")


def test_a_contact_sheet_is_drawn_by_its_seed(config: Config, store: Store, tmp_path: Path) -> None:
    snapshot = create(store, config, "labelled", LABELLED)["snapshot_id"]
    first, again, other = (tmp_path / f"{name}.png" for name in ("first", "again", "other"))
    shown = draw_sheet(store, snapshot, 5, 1, first)
    assert draw_sheet(store, snapshot, 5, 1, again) == shown and first.read_bytes() == again.read_bytes()
    assert draw_sheet(store, snapshot, 5, 2, other) != shown
    sheet = cv2.imread(str(first))
    tile = sheet[: sheet.shape[0] // 2, : sheet.shape[1] // 4]
    assert sheet.shape[1] == 4 * tile.shape[1] and tile[8:128].std() > 20  # frames of a moving texture
    assert sheet[sheet.shape[0] // 2 :, 3 * tile.shape[1] :].std() == 0  # five clips leave three places empty
    # A clip that cannot be read shows why, and the others are drawn.
    whole = shown[0].shard.read_bytes()
    try:
        with shown[0].shard.open("r+b") as file:
            file.seek(shown[0].offset)
            file.write(bytes(shown[0].size))
        assert draw_sheet(store, snapshot, 5, 1, again) == shown
        broken = cv2.imread(str(again))
        assert (broken[: tile.shape[0], : tile.shape[1]] != tile).any()
        assert (broken[: tile.shape[0], tile.shape[1] :] == sheet[: tile.shape[0], tile.shape[1] :]).all()
    finally:
        shown[0].shard.write_bytes(whole)


def test_a_clip_is_had_by_its_id_its_beginning_or_its_name(config: Config, store: Store) -> None:
    query = "SELECT clip_id, namespace, native_id, sha256 FROM samples JOIN clips USING (clip_id) ORDER BY clip_id"
    ids = [row[0] for row in ask(store, query)]
    for clip, namespace, native, sha256 in ask(store, query)[:5]:
        length = next(n for n in range(1, 33) if [c[:n] for c in ids].count(clip[:n]) == 1 and n >= 8)
        for name in (clip, clip[:length], f"{namespace}:{native}"):
            assert hashlib.sha256(get(store, name)).hexdigest() == sha256
    absent = ask(store, "SELECT clip_id FROM media WHERE status = 'missing' ORDER BY clip_id")[0][0]
    with pytest.raises(NotStoredError, match=f"{absent} is in no shard. Ask why: SELECT"):
        get(store, absent)


def test_a_clip_in_two_renditions_is_had_in_the_one_preferred(house: Callable[[], Config]) -> None:
    config = house()
    store, source = Store(config.data_root), config.sources[0].name
    everything = f"SELECT clip_id FROM samples WHERE {CLEAN}"
    clips = [row[0] for row in ask(store, everything)]
    row = next(row for row in store.rows("samples", source) if row["clip_id"] in clips)
    store.write("samples", [*store.rows("samples", source), row | {"rendition": "other", "size": 10}], source)
    build_catalog(store)
    assert len(get(store, row["clip_id"], row["rendition"])) == row["size"]
    with pytest.raises(NotStoredError, match=f"is stored as {row['rendition']}, other, and not as None"):
        get(store, row["clip_id"])
    with pytest.raises(ShardError, match="SHA-256 differs"):
        get(store, row["clip_id"], "other")
    take_down(store, [row["clip_id"]], "asked for", "me")
    with pytest.raises(TakenDownError, match="asked for"):
        get(store, row["clip_id"], row["rendition"])
    # A query that selects it goes on without it.
    build_catalog(store)
    assert create(store, config, "rest", everything)["clips"] == len(clips) - 1


def test_a_query_in_the_configuration_is_taken_anew_when_its_answer_changes(house: Callable[[], Config]) -> None:
    config = house()
    added = """
[collections.long_ones]
taxonomy = "motions"
sql = '''
SELECT clip_id, min(split) AS split FROM decisions JOIN media USING (clip_id)
WHERE collection = 'labeled_hybrid' AND keep AND duration_ms >= 1500 GROUP BY clip_id
'''
"""
    text = config.path.read_text()
    config.path.write_text(text.replace('finetune = "kinetics400"', 'finetune = "long_ones"') + added)
    config = load(config.path)
    store, collection = Store(config.data_root), next(c for c in config.collections if c.name == "long_ones")
    taken = take_snapshot(store, config, collection)
    assert taken["taxonomy"] == "motions" and len(taken["classes"]) == 8
    labels = {(row["clip_id"], row["class_id"]) for row in store.rows("labels") if row["taxonomy"] == "motions"}
    clips = store.rows("snapshot_clips", taken["snapshot_id"])
    assert {(row["clip_id"], row["class_id"]) for row in clips} <= labels
    assert take_snapshot(store, config, collection) == taken
    store.write("decisions", [row | {"keep": row["keep"] and row["clip_id"] != clips[0]["clip_id"]}
                              for row in store.rows("decisions")])  # fmt: skip
    build_catalog(store)
    assert take_snapshot(store, config, collection)["clips"] == taken["clips"] - 1
    build_catalog(store)
    assert ask(store, "SELECT sum(clips)::INTEGER FROM composition WHERE collection = 'long_ones'") == [
        (taken["clips"] - 1,)
    ]
    with pytest.raises(SnapshotError, match=r"taxonomy 'motions' has no class 'standing'. Correct `class_name`"):
        sql = f"SELECT clip_id, split, 'standing' AS class_name FROM ({collection.sql})"
        take_snapshot(store, config, replace(collection, sql=sql))
    config.path.write_text(text + '[collections.both]\nsql = "SELECT 1"\nsplits = ["train"]\n')
    with pytest.raises(ConfigError, match=r"collections.both.splits: goes with collections that sources feed"):
        load(config.path)


def test_the_command_line_makes_shows_compares_exports_and_gets(
    config: Config, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        code = main(["--sources", str(config.path), *arguments])
        told = capsys.readouterr()
        return code, told.out if code == 0 else told.err

    code, told = run("collection", "create", "mine", "--sql", LABELLED)
    assert code == 0 and told.startswith("0 training clips repeat") and "kinetics400" in told
    code, told = run("collection", "create", "mine", "--sql", f"SELECT clip_id FROM samples WHERE {CLEAN}")
    assert code == 0
    code, told = run("collection", "show", "mine")
    history = told[told.index("Snapshots over time") :]
    assert code == 0 and history.count("mine") == 2 and CLEAN in history.partition("The query of the last")[2]
    assert "mine" in run("collection", "show")[1]
    first = store.rows("collection_snapshots", "mine")[0]["snapshot_id"]
    assert "relabelled" in run("collection", "diff", first, "mine")[1]
    assert "hold the same clips" in run("collection", "diff", "mine", "mine")[1]
    assert "train: 1 tar;" in run("collection", "export", "mine", "--to", str(tmp_path / "tars"))[1]
    assert "train: 5 index files;" in run("collection", "export", "mine", "--index", "--to", str(tmp_path / "index"))[1]
    assert run("collection", "sample", "mine", "--n", "3", "--out", str(tmp_path / "sheet.png"))[0] == 0
    code, told = run("collection", "sample", "mine", "--n", "3", "--out", str(tmp_path / "sheet.png"))
    assert code == 1 and "is there already" in told
    clip = ask(store, "SELECT clip_id FROM samples LIMIT 1")[0][0]
    assert run("get", clip, "--out", str(tmp_path / "clip.mp4"))[0] == 0
    assert (tmp_path / "clip.mp4").read_bytes() == get(store, clip)
    code, told = run("get", clip, "--out", str(tmp_path / "clip.mp4"))
    assert code == 1 and "is there already" in told
    code, told = run("get", "nothing:at_all", "--out", str(tmp_path / "other.mp4"))
    assert code == 1 and "no such clip" in told and not (tmp_path / "other.mp4").exists()
