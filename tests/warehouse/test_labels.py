"""Labels: native names of several sources become one taxonomy, in the order of its class list if it has one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_decisions import CONFIG, member, table

from warehouse.config import Config, Taxonomy
from warehouse.curation.labels import TaxonomyError, label_tables, merge_classes, read_class_list

MERGED = replace(
    CONFIG,
    sources=tuple(replace(source, collections=("labelled",)) for source in CONFIG.sources),
    taxonomies=(Taxonomy("classes", {"tying tie": "tying necktie"}),),
)


def labelled(config: Config, members: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    places = {"annotation_file": "/lists/train.csv"}
    rows = [places | {"annotation_row": row} | m for row, m in enumerate(members, 2)]
    return {name: some.to_pylist() for name, some in label_tables(config, table("memberships", rows)).items()}


def with_list(folder: Path, *names: str) -> Config:
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    return replace(MERGED, taxonomies=(replace(MERGED.taxonomies[0], classes=folder / "classes.txt"),))


MEMBERS = [
    member(clip, source, label=name)
    for clip, source, name in [("1", "b", "tying tie"), ("2", "a", "tying necktie"), ("3", "a", "abseiling")]
]


def test_aliases_merge_and_class_ids_count_names_in_order() -> None:
    tables = labelled(MERGED, MEMBERS)
    assert {row["clip_id"]: (row["class_id"], row["class_name"], row["source"]) for row in tables["labels"]} == {
        "1": (1, "tying necktie", "b"),
        "2": (1, "tying necktie", "a"),
        "3": (0, "abseiling", "a"),
    }
    assert [row["class_name"] for row in tables["classes"]] == ["abseiling", "tying necktie"]
    assert [tuple(row.values()) for row in tables["native_classes"]] == [
        ("classes", "a", 0, "abseiling", 0),
        ("classes", "a", 1, "tying necktie", 1),
        ("classes", "b", 0, "tying tie", 1),
    ]


def test_a_class_list_sets_the_order_and_is_the_whole_taxonomy(tmp_path: Path) -> None:
    tables = labelled(with_list(tmp_path, "zumba", "tying necktie", "abseiling"), MEMBERS)
    assert {row["clip_id"]: row["class_id"] for row in tables["labels"]} == {"1": 1, "2": 1, "3": 2}
    assert [row["class_name"] for row in tables["classes"]] == ["zumba", "tying necktie", "abseiling"]


def test_a_class_that_the_list_lacks_is_named_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError) as caught:
        labelled(with_list(tmp_path, "tying necktie"), MEMBERS)
    assert f"{tmp_path}/classes.txt lacks 1 of the classes" in str(caught.value)
    assert "'abseiling' (/lists/train.csv:4)" in str(caught.value) and "`aliases`" in str(caught.value)
    # A name that the list has stands for itself, so the other one of the pair is missing.
    with pytest.raises(TaxonomyError, match=r"lacks 1 of .*: 'tying necktie' \(/lists/train.csv:3\)"):
        labelled(with_list(tmp_path, "tying tie", "abseiling"), MEMBERS)


@pytest.mark.parametrize(
    ("text", "says"),
    [("a\n\nb\n", "classes.txt:2: no class name"), ("a\nb\r\na\n", "classes.txt:3: 'a' is on line 1 already"),
     ("", "classes.txt:1: no class name"), (b"\xff", "classes.txt: cannot be read"), (None, "cannot be read")],
)  # fmt: skip
def test_class_lists_that_are_none(tmp_path: Path, text: str | bytes | None, says: str) -> None:
    path = tmp_path / "classes.txt"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(TaxonomyError, match=says):
        read_class_list(path)


def test_maps_lead_from_each_version_to_the_merged_list() -> None:
    merged = merge_classes({"v1": ["b", "old"], "v2": ["c", "new", "b"]}, {"old": "new"})
    assert (merged.names, merged.maps) == (("b", "c", "new"), {"v1": (0, 2), "v2": (1, 2, 0)})
    imposed = merge_classes({"v1": ["b", "old"]}, {"old": "new"}, order=["new", "x", "b"])
    assert (imposed.names, imposed.maps) == (("new", "x", "b"), {"v1": (2, 0)})


def test_of_two_names_the_first_source_wins_and_unlabelled_clips_have_no_row() -> None:
    members = [("1", "b", "late"), ("1", "a", "early"), ("2", "a", None)]
    rows = labelled(MERGED, [member(clip, source, label=name) for clip, source, name in members])["labels"]
    assert [(row["clip_id"], row["class_name"]) for row in rows] == [("1", "early")]


def test_a_source_outside_the_taxonomys_collections_adds_no_class() -> None:
    tables = labelled(CONFIG, [member("1", "b", label="elsewhere")])
    assert tables == {"labels": [], "classes": [], "native_classes": []}
