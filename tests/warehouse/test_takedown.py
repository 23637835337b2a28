"""Taking clips down: out of everything at once, for good, and what is told of a clip."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from small_shards import COLLECTION, STARTED, House

from warehouse import steps
from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.snapshots import Sample, SnapshotError, Tombstone, open_snapshot
from warehouse.takedown.takedowns import TakenDownError, refuse_taken_down, take_down, taken_down


def test_a_takedown_is_in_force_at_once_for_good_and_says_what_has_seen_the_clip(
    house_of_mine: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house, store = house_of_mine, house_of_mine.store
    with connect(store) as connection:
        row = connection.execute(
            """
            SELECT c.clip_id, c.namespace || ':' || c.native_id, e.clip_b FROM snapshot_clips s
            JOIN clips c USING (clip_id) JOIN duplicate_edges e ON e.clip_a = c.clip_id
            WHERE s.split = 'val' AND s.snapshot_id = ? AND native_id NOT IN (
                SELECT native_id FROM clips GROUP BY native_id HAVING count(*) > 1) LIMIT 1
            """,
            [house.snapshots["labeled_hybrid"]],
        ).fetchone()
    assert row is not None
    clip, video, copy = row
    trained = house.train()[0].clip_id
    listed = house.config.path.with_suffix(".txt")
    listed.write_text(f"\n{trained}\n{trained[:12]}\n")

    assert house.run("takedown", video, "nobody:knows", "--reason", "x") == 1
    assert "'nobody:knows': no such clip" in capsys.readouterr().err and not taken_down(store)
    assert house.run("takedown", video, "--reason", " ") == 1 and house.run("takedown", "--reason", "x") == 1
    assert not taken_down(store)

    assert house.run("takedown", video, "--from", str(listed), "--reason", "its author asked") == 0
    said = capsys.readouterr().out
    assert f"{clip}  {video}" in said and "evaluated by:\n    evaluation-1 on labeled_hybrid val" in said
    assert re.search(r"runs/finetuned-1/checkpoints/step-1, by .*pretrained-1", said)  # by descent, too
    assert f"reelhouse takedown {copy} " in said and copy not in taken_down(store)
    assert "2 of 2 clips taken down now" in said
    rows = store.rows("takedowns")
    assert [row["clip_id"] for row in rows] == [clip, trained]

    # Again, for another reason: the first stands.
    assert house.run("takedown", clip, "--reason", "another") == 0 and store.rows("takedowns") == rows
    with pytest.raises(TakenDownError, match="its author asked"):
        refuse_taken_down(store, clip)
    refuse_taken_down(store, copy)
    out = house.config.path.with_suffix(".mp4")
    assert house.run("get", trained, "--out", str(out)) == 1 and not out.exists()
    assert "its author asked" in capsys.readouterr().err
    # The snapshots leave it out now, and keep their rows, marked; the next decisions drop it.
    assert Tombstone(trained, 1.0) in house.train()
    assert trained not in {s.clip_id for s in open_snapshot(store, house.snapshots[COLLECTION], "train")}
    with connect(store) as connection:
        marked = connection.execute("SELECT clip_id FROM tombstones WHERE collection = ?", [COLLECTION]).fetchall()
        assert marked == [(trained,)]
        query = "SELECT sum(clips), sum(taken_down) FROM snapshot_composition WHERE snapshot_id = ? AND split = 'train'"
        assert connection.execute(query, [house.snapshots[COLLECTION]]).fetchall() == [(len(house.train()), 1)]
    steps.decide(store, house.config)
    reasons = {row["reason"] for row in store.rows("decisions") if row["clip_id"] in (clip, trained)}
    assert reasons == {"taken_down"}
    assert steps.decide(store, house.config).skipped


def test_lineage_tells_a_clips_whole_life(house_of_mine: House, capsys: pytest.CaptureFixture[str]) -> None:
    house, store = house_of_mine, house_of_mine.store
    trained = house.train()[0]
    assert isinstance(trained, Sample)
    assert house.run("lineage", trained.clip_id[:20], "--json") == 0
    found = json.loads(capsys.readouterr().out)
    listed = [row for row in store.rows("memberships") if row["clip_id"] == trained.clip_id]
    assert {(row["source"], row["annotation_row"]) for row in found["listed"]} == {
        (row["source"], row["annotation_row"]) for row in listed
    }
    decided = [row for row in store.rows("decisions") if row["clip_id"] == trained.clip_id]
    assert sorted((r["collection"], r["reason"]) for r in found["decisions"]) == sorted(
        (r["collection"], r["reason"]) for r in decided
    )
    assert [(r["offset"], r["size"], r["sha256"]) for r in found["stored"]] == [
        (trained.offset, trained.size, trained.sha256)
    ]
    assert COLLECTION in {row["collection"] for row in found["snapshots"]}
    assert "pretrained-1" in {row["run_id"] for row in found["trained_by"]}
    assert {row["checkpoint"] for row in found["checkpoints"]} == {
        "runs/pretrained-1/checkpoints/step-1", "runs/finetuned-1/checkpoints/step-1",
    }  # fmt: skip

    # A run that was started after the takedown has not seen it.
    take_down(store, [trained.clip_id], "asked", "me")
    [run] = store.rows("runs", "pretrained-1")
    later = run | {"run_id": "pretrained-2", "started": datetime.now(UTC) + timedelta(seconds=1)}
    store.write("runs", [later], "pretrained-2")
    late = {"checkpoint": "late", "run_id": "pretrained-2", "step": 1, "created": STARTED}
    store.write("checkpoints", [late], "pretrained-2")
    build_catalog(store)
    assert house.run("lineage", trained.clip_id) == 0
    text = capsys.readouterr().out
    assert "TAKEN DOWN by me" in text and "a tombstone" in text
    assert "pretrained-1" in text and "pretrained-2" not in text and "late" not in text
    assert house.run("lineage", "") == 1 and "no such clip" in capsys.readouterr().err


def test_a_snapshot_all_of_whose_clips_are_gone_is_an_error(house_of_mine: House) -> None:
    take_down(house_of_mine.store, [sample.clip_id for sample in house_of_mine.train()], "all", "me")
    with pytest.raises(SnapshotError, match="taken down"):
        house_of_mine.train()
