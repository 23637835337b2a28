"""docs/questions.md: every query of the page, asked of a whole run on a small corpus, answers what the tables say."""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from whole_runs import STUDENTS, Whole

from benchmarks.questions import CHARTS, PAGE, Answer, Question, answered, ask, questions
from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.confining import confine
from warehouse.store import Store

QUESTIONS = questions(PAGE.read_text())
LEFT_OUT = 3
"""Training clips that the second fine-tuning does without."""


@dataclass(frozen=True)
class Asked:
    """The tables, and what the page's queries answer on them."""

    store: Store
    answers: dict[str, Answer]

    def rows(self, question: str) -> list[dict[str, Any]]:
        """The answer to a question of the page."""
        answer = self.answers[question]
        return [dict(zip(answer.names, row, strict=True)) for row in answer.rows]

    def kept(self) -> list[dict[str, Any]]:
        """The rows of ``decisions`` that keep."""
        return [row for row in self.store.rows("decisions") if row["keep"]]


@pytest.fixture(scope="module")
def asked(undisturbed: Whole, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    root = tmp_path_factory.mktemp("asked") / "data"
    shutil.copytree(undisturbed.store.tables, root / "tables")
    store = Store(root)
    add_second_finetuning(store)
    build_catalog(store)
    with connect(store) as connection:
        confine(connection, store)
        return Asked(store, {each.question: ask(connection, each) for each in QUESTIONS})


def add_second_finetuning(store: Store) -> None:
    """A later fine-tuning by another rate on a snapshot of fewer training clips, and its evaluation, scored 0.25."""
    runs = {row["stage"]: row for row in store.rows("runs") if not str(row["parent"]).startswith(STUDENTS)}
    [snapshot] = store.rows("snapshots", runs["finetuned"]["snapshot_id"])
    clips = store.rows("snapshot_clips", snapshot["snapshot_id"])
    out = [row["clip_id"] for row in clips if row["split"] == "train"][:LEFT_OUT]
    fewer = [row | {"snapshot_id": "fewer"} for row in clips if row["clip_id"] not in out]
    store.write("snapshot_clips", fewer, "fewer")
    store.write("snapshots", [snapshot | {"snapshot_id": "fewer", "clips": len(fewer)}], "fewer")
    config = json.loads(runs["finetuned"]["config"])
    config["fit"]["optim"]["peak_rate"] = 0.5
    for stage, change in (("finetuned", {"config": json.dumps(config)}), ("evaluation", {"parent": "runs/second"})):
        later = {"snapshot_id": "fewer", "started": runs[stage]["started"] + timedelta(hours=1)}
        store.write("runs", [runs[stage] | later | {"run_id": f"{stage}-second"} | change], f"{stage}-second")
    [checkpoint] = store.rows("checkpoints", runs["finetuned"]["run_id"])
    of_second = {"checkpoint": "second", "run_id": "finetuned-second"}
    store.write("checkpoints", [checkpoint | of_second], "finetuned-second")
    scores = store.rows("scores", runs["evaluation"]["run_id"])
    of_second = {"run_id": "evaluation-second", "checkpoint": "second", "snapshot_id": "fewer"}
    store.write("scores", [row | of_second | {"value": 0.25} for row in scores], "evaluation-second")


def test_every_query_of_the_page_is_a_question() -> None:
    page = PAGE.read_text()
    assert page.count("```sql") == len(QUESTIONS) == len({each.question for each in QUESTIONS})
    assert [each.picture for each in QUESTIONS if each.picture] == list(CHARTS)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.question)
def test_answer_has_rows_and_the_columns_of_the_page(asked: Asked, question: Question) -> None:
    answer = asked.answers[question.question]
    assert answer.rows
    header = question.printed.splitlines()[0]
    assert tuple(name.strip() for name in header.split("┃")) == answer.names
    assert answer.printed().splitlines()[0].split() == header.split()


def test_page_is_renewed_where_answers_stand_and_nowhere_else(asked: Asked) -> None:
    page = PAGE.read_text()
    renewed = answered(page, asked.answers)
    assert renewed != page
    assert [each.printed for each in questions(renewed)] == [answer.printed() for answer in asked.answers.values()]
    for each, again in zip(QUESTIONS, questions(renewed), strict=True):
        page, renewed = page.replace(each.printed, "", 1), renewed.replace(again.printed, "", 1)
        assert (each.sql, each.picture) == (again.sql, again.picture)
    assert renewed == page


def test_pictures_are_drawn(asked: Asked) -> None:
    for each in QUESTIONS:
        if each.picture:
            drawn = ElementTree.fromstring(CHARTS[each.picture](asked.answers[each.question]))
            assert drawn.tag.endswith("svg")
            assert (PAGE.parent / each.picture).exists()


def test_composition(asked: Asked) -> None:
    kept = asked.kept()
    rows = asked.rows("What is each collection made of?")
    assert {(row["collection"], row["source"], row["split"]): row["clips"] for row in rows} == Counter(
        (row["collection"], row["source"], row["split"]) for row in kept
    )
    by_collection = Counter(row["collection"] for row in kept)
    for question in ("Under which licence is it?", "How long are the clips?"):
        split = {row["split"] for row in kept} if "licence" in question else {"train"}
        counts: Counter[str] = Counter()
        for row in asked.rows(question):
            counts[row["collection"]] += row["clips"]
        assert counts == Counter(row["collection"] for row in kept if row["split"] in split)
    licences = {row["licence"] for row in asked.store.rows("sources")}
    assert {row["licence"] for row in asked.rows("Under which licence is it?")} <= licences
    shown = asked.rows("In what resolution, frame rate and codec do they come?")
    assert sum(row["clips"] for row in shown) == by_collection["unlabeled_hybrid"]
    assert by_collection.keys() == {row["collection"] for row in rows}


def test_classes(asked: Asked) -> None:
    classes = {row["clip_id"]: row["class_name"] for row in asked.store.rows("labels") if row["taxonomy"] == "motions"}
    kept = [row for row in asked.kept() if row["collection"] != "unlabeled_hybrid"]
    counts = Counter((row["collection"], row["split"], classes[row["clip_id"]]) for row in kept)
    rows = asked.rows("How many clips has each class?")
    for split in ("train", "val"):
        expected = {name: n for (of, place, name), n in counts.items() if (of, place) == ("kinetics400", split)}
        assert {row["class_name"]: row[split] for row in rows if row[split]} == expected
    for row in asked.rows("How imbalanced are the classes?"):
        sizes = [n for (of, split, _), n in counts.items() if (of, split) == (row["collection"], row["split"])]
        assert (row["classes"], row["clips"]) == (len(sizes), sum(sizes))
        assert (row["smallest"], row["largest"]) == (min(sizes), max(sizes))
        entropy_product = 1.0
        for size in sizes:
            entropy_product *= (size / sum(sizes)) ** -(size / sum(sizes))
        assert row["effective_classes"] == pytest.approx(entropy_product, abs=0.006)


def test_reasons(asked: Asked) -> None:
    out = [row for row in asked.store.rows("decisions") if not row["keep"]]
    rows = asked.rows("Why are clips out?")
    assert {(row["collection"], row["reason"]): row["clips"] for row in rows} == Counter(
        (row["collection"], row["reason"]) for row in out
    )
    videos = {row["clip_id"]: row["native_id"] for row in asked.store.rows("clips")}
    pairs = {(videos[row["clip_id"]], videos[row["other_clip_id"]]) for row in out if row["other_clip_id"]}
    for row in asked.rows("Which clip does one repeat that is out?"):
        assert (row["video_that_is_out"], row["video_that_it_repeats"]) in pairs


def test_overlap(asked: Asked) -> None:
    clips: dict[str, set[str]] = {}
    for row in asked.kept():
        clips.setdefault(row["collection"], set()).add(row["clip_id"])
    edges = {(row["clip_a"], row["clip_b"]) for row in asked.store.rows("duplicate_edges")}
    edges |= {(b, a) for a, b in edges}
    rows = asked.rows("How much do collections overlap?")
    assert len(rows) == len(clips) * (len(clips) - 1)
    for row in rows:
        own, other = clips[row["collection"]], clips[row["other"]]
        assert (row["clips"], row["shared"]) == (len(own), len(own & other))
        assert row["copies"] == len({a for a, b in edges if a in own - other and b in other})


def test_contamination(asked: Asked) -> None:
    members = asked.store.rows("memberships")
    videos = {row["clip_id"]: (row["namespace"], row["native_id"]) for row in asked.store.rows("clips")}
    copies: dict[str, set[str]] = {}
    by_id: dict[str, set[str]] = {}
    for row in asked.store.rows("duplicate_edges"):
        for one, other in ((row["clip_a"], row["clip_b"]), (row["clip_b"], row["clip_a"])):
            (by_id if row["kind"] == "overlap" else copies).setdefault(one, set()).add(other)
    listed: dict[str, set[str]] = {}
    for row in asked.store.rows("decisions"):
        if row["split"] == "train":
            listed.setdefault(row["collection"], set()).add(row["clip_id"])
    rows = asked.rows("Which evaluation sets would training have seen?")
    for row in rows:
        place = (row["evaluation_source"], row["evaluation_split"])
        evaluated = {m["clip_id"] for m in members if (m["source"], m["split"]) == place}
        training = listed[row["collection"]]
        of_videos = {videos[clip] for clip in training}
        same = {clip for clip in evaluated if videos[clip] in of_videos or by_id.get(clip, set()) & training}
        alike = {clip for clip in evaluated if copies.get(clip, set()) & training}
        assert (row["clips"], row["listed_by_id"]) == (len(evaluated), len(same)), row
        assert (row["listed_by_content"], row["trained_on"]) == (len(alike), 0), row
    assert sum(row["listed_by_id"] for row in rows) > 0
    assert sum(row["listed_by_content"] for row in rows) > 0


def test_two_runs_side_by_side(asked: Asked) -> None:
    snapshots = {row["snapshot_id"]: row for row in asked.store.rows("snapshots")}
    [first] = [row for row in asked.store.rows("runs") if row["stage"] == "finetuned" and "second" not in row["run_id"]]
    clips = asked.store.rows("snapshot_clips", first["snapshot_id"])
    train = Counter(row["source"] for row in clips if row["split"] == "train")
    [(source, count)] = train.items()
    where = f"on val of {snapshots['fewer']['collection']}"
    scores = {
        row["metric"]: row["value"]
        for row in asked.store.rows("scores")
        if "second" not in row["run_id"] and not row["checkpoint"].startswith(STUDENTS)
    }
    expected = {
        ("data", "snapshot"): (first["snapshot_id"], "fewer"),
        ("data", "train clips"): (str(count), str(count - LEFT_OUT)),
        ("data", f"train clips of {source}"): (str(count), str(count - LEFT_OUT)),
        ("settings", "fit.optim.peak_rate"): (str(json.loads(first["config"])["fit"]["optim"]["peak_rate"]), "0.5"),
    } | {("scores", f"{m} {where}"): (str(round(v, 4)), "0.25") for m, v in scores.items() if round(v, 4) != 0.25}
    rows = asked.rows("What differs between two runs?")
    assert {(row["about"], row["name"]): (row["value_a"], row["value_b"]) for row in rows} == expected
    assert asked.rows("What has one of two models trained on that the other has not?") == [
        {"source": source, "first_alone": LEFT_OUT, "last_alone": 0, "both_models": count - LEFT_OUT}
    ]


def test_stages_side_by_side(asked: Asked) -> None:
    rows = {row["name"]: row for row in asked.rows("What settings differ between two stages?")}
    assert (rows["stage"]["post_pretrained"], rows["stage"]["finetuned"]) == ("post_pretrained", "finetuned")
    [first] = [row for row in asked.store.rows("runs") if row["stage"] == "finetuned" and "second" not in row["run_id"]]
    assert rows["starts from"]["finetuned"] == first["parent"]
