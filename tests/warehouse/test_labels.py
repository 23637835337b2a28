"""Labels: native names of several sources become one taxonomy."""

from dataclasses import replace

from test_decisions import CONFIG, member

from warehouse.config import Taxonomy
from warehouse.curation.labels import class_names, label_rows

MERGED = replace(
    CONFIG,
    sources=tuple(replace(source, collections=("labelled",)) for source in CONFIG.sources),
    taxonomies=(Taxonomy("classes", {"tying tie": "tying necktie"}),),
)


def test_aliases_merge_and_class_ids_count_names_in_order() -> None:
    members = [("1", "b", "tying tie"), ("2", "a", "tying necktie"), ("3", "a", "abseiling")]
    rows = label_rows(MERGED, [member(clip, source, label=name) for clip, source, name in members])
    assert {row["clip_id"]: (row["class_id"], row["class_name"], row["source"]) for row in rows} == {
        "1": (1, "tying necktie", "b"),
        "2": (1, "tying necktie", "a"),
        "3": (0, "abseiling", "a"),
    }
    assert class_names(rows, "classes") == ["abseiling", "tying necktie"]


def test_of_two_names_the_first_source_wins_and_unlabelled_clips_have_no_row() -> None:
    members = [("1", "b", "late"), ("1", "a", "early"), ("2", "a", None)]
    rows = label_rows(MERGED, [member(clip, source, label=name) for clip, source, name in members])
    assert [(row["clip_id"], row["class_name"]) for row in rows] == [("1", "early")]


def test_a_source_outside_the_taxonomys_collections_adds_no_class() -> None:
    assert label_rows(CONFIG, [member("1", "b", label="elsewhere")]) == []
