"""The views on leaks: for each collection and evaluation set what repeats what, and what became of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_decisions import under_paper, write_tables

from warehouse import steps
from warehouse.catalog.build import build_catalog, connect
from warehouse.config import Collection
from warehouse.store import Store

PAIR = "collection, clip_id, protected_clip_id, protected_source, protected_split, how, outcome"
FOUND = f"SELECT {PAIR} FROM leaks_found"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """`all` is under `protect`, `labelled` under `paper`; a third collection evaluates the validation set of `a`."""
    config = under_paper()
    own = tuple(replace(s, collections=(*s.collections, "final")) if s.name == "a" else s for s in config.sources)
    final = Collection("final", ("val",), "classes", min_duration_ms=0)
    config = replace(config, sources=own, collections=(*config.collections, final))
    store, config = write_tables(tmp_path_factory.mktemp("house"), config)
    steps.decide(store, config)
    build_catalog(store)
    return store


def ask(store: Store, query: str) -> list[tuple]:
    with connect(store) as connection:
        return connection.execute(query).fetchall()


def test_each_leak_is_told_by_collection_and_evaluation_set(store: Store) -> None:
    of_tested = ("tested", "a", "val")
    assert set(ask(store, f"{FOUND} WHERE collection <> 'final'")) == {
        ("all", "tested", *of_tested, "same_clip", "training_out"),
        ("all", "same_video", *of_tested, "same_video", "training_out"),
        ("all", "copy_of_tested", *of_tested, "near", "training_out"),
        # Its own validation clip is out, but `final` evaluates it all the same.
        ("labelled", "tested", *of_tested, "same_clip", "evaluated_elsewhere"),
        ("labelled", "same_video", *of_tested, "same_video", "evaluated_elsewhere"),
        ("labelled", "copy_of_tested", *of_tested, "near", "training_out"),
    }
    assert ask(store, "SELECT * FROM leaks") == []


def test_a_leak_under_either_rule_shows(store: Store, tmp_path: Path) -> None:
    turned = Store(tmp_path)
    tables = ("clips", "memberships", "media")
    for table in tables:
        for part in store.parts(table):
            turned.write(table, store.read(table, part), part)
    turned.write("duplicate_edges", store.read("duplicate_edges"))
    turned.write("collections", store.read("collections"))
    rows = store.rows("decisions")
    wrong = {("all", "copy_of_tested", "train"), ("labelled", "tested", "val")}
    for row in rows:
        row["keep"] |= (row["collection"], row["clip_id"], row["split"]) in wrong
    turned.write("decisions", rows)
    build_catalog(turned)
    assert set(ask(turned, "SELECT collection, clip_id, protected_source FROM leaks")) == {
        ("all", "copy_of_tested", "a"), ("labelled", "tested", "a"), ("labelled", "same_video", "a"),
    }  # fmt: skip


def test_both_rules_are_counted_beside_the_papers_figures(store: Store) -> None:
    rows = ask(store, "SELECT * FROM leakage_rules WHERE collection <> 'final'")
    assert rows == [
        ("all", "protect", True, 8, 0, 0),
        ("all", "paper", False, 9, 0, 0),
        ("labelled", "protect", False, 8, 1, 0),
        ("labelled", "paper", True, 9, 0, 0),
        ("Kinetics-710 as published", "paper", None, 658340, 66803, None),
    ]
