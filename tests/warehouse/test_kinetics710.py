"""Kinetics-710 against the official class lists, and through the step that writes labels."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_decisions import CONFIG, member, source
from test_labels import labelled

from warehouse.config import Config, Taxonomy
from warehouse.curation.kinetics710 import IDENTICAL_CLASSES, SIZES
from warehouse.curation.labels import TaxonomyError, merge_classes, read_class_list

REFERENCE = Path(__file__).parents[3] / "shared/reference/kinetics710"
VERSIONS = ("k400", "k600", "k700")
CLASSES = SIZES["kinetics710"]
OFFICIALLY_THROWING_BALL = {"k600": "chopping vegetables", "k700": "archaeological excavation"}


@pytest.fixture(scope="module")
def lists() -> dict[str, list[str]]:
    """The official lists of the three versions and of Kinetics-710. In all of them names are merged already."""
    if not REFERENCE.is_dir():
        pytest.skip(f"the official class lists are not there: {REFERENCE}")
    return {name: read_class_list(REFERENCE / f"label_map_{name}.txt") for name in (*VERSIONS, "k710")}


@pytest.fixture(scope="module")
def native(lists: dict[str, list[str]]) -> dict[str, list[str]]:
    """The three lists as the annotations have them: before the merge, and with the two classes that the lists lack."""
    before = {version: list(lists[version]) for version in VERSIONS}
    for version, name in OFFICIALLY_THROWING_BALL.items():
        before[version][before[version].index("throwing ball")] = name
    for name, merged in IDENTICAL_CLASSES.items():
        holding = [version for version in VERSIONS if {name, merged} & set(before[version])]
        names = before[holding[0]]
        if name not in names:
            names[names.index(merged)] = name
    return before


def test_the_alias_pairs_are_the_official_ones(lists: dict[str, list[str]]) -> None:
    official = json.loads((REFERENCE / "k710_identical_label_merge.json").read_text())
    assert official == IDENTICAL_CLASSES and len(official) == 15
    # The one pair that the official lists leave apart.
    assert [name for name in official if name in lists["k710"]] == ["throwing ball"]


def test_three_lists_give_exactly_710_classes_and_maps_from_each(
    lists: dict[str, list[str]], native: dict[str, list[str]]
) -> None:
    assert len({name for names in native.values() for name in names}) > CLASSES
    computed = merge_classes(native, IDENTICAL_CLASSES)
    assert len(computed.names) == CLASSES
    assert set(computed.names) ^ set(lists["k710"]) == {"throwing ball", "chopping vegetables"}
    for version in VERSIONS:
        assert len(set(computed.maps[version])) == int(version[1:])

    # Of the official lists themselves, which are merged already, the order can be imposed as it is.
    imposed = merge_classes({v: lists[v] for v in VERSIONS}, IDENTICAL_CLASSES, order=lists["k710"])
    assert list(imposed.names) == lists["k710"]
    for version in VERSIONS:
        to_710 = imposed.maps[version]
        assert [lists["k710"][i] for i in to_710] == lists[version]
        assert len(set(to_710)) == len(to_710) == int(version[1:])
    assert {i for to_710 in imposed.maps.values() for i in to_710} == set(range(CLASSES))
    assert len(set(range(CLASSES)) - set(imposed.maps["k700"])) == 10


def kinetics(
    native: dict[str, list[str]], classes: Path | None = None, kind: str = "kinetics710"
) -> tuple[Config, list[dict]]:
    """A collection of one clip for each class of each version, with a built-in taxonomy."""
    config = replace(
        CONFIG,
        sources=tuple(source(name, i, ("labelled",)) for i, name in enumerate(native)),
        taxonomies=(Taxonomy("classes", IDENTICAL_CLASSES, kind, classes),),
    )
    return config, [member(f"{v}-{i}", v, label=name) for v, names in native.items() for i, name in enumerate(names)]


def test_labels_from_annotations_take_the_order_of_the_official_heads(
    lists: dict[str, list[str]], native: dict[str, list[str]]
) -> None:
    tables = labelled(*kinetics(native, REFERENCE / "label_map_k710.txt"))
    assert [row["class_name"] for row in tables["classes"]] == lists["k710"]
    ids = {row["clip_id"]: row["class_id"] for row in tables["labels"]}
    for version in VERSIONS:
        named = [lists["k710"][ids[f"{version}-{i}"]] for i in range(len(lists[version]))]
        differ = {(ours, official) for ours, official in zip(named, lists[version], strict=True) if ours != official}
        # The 710 do have this class of Kinetics-700, though the list of that version does not.
        assert differ == ({("archaeological excavation", "throwing ball")} if version == "k700" else set())
    assert len(labelled(*kinetics(native))["classes"]) == CLASSES  # computed, without a list


def test_a_version_alone_goes_by_the_merged_names(lists: dict[str, list[str]], native: dict[str, list[str]]) -> None:
    for version in VERSIONS:
        kind, one = f"kinetics{version[1:]}", {version: native[version]}
        assert len(labelled(*kinetics(one, kind=kind))["classes"]) == SIZES[kind]
        tables = labelled(*kinetics(one, REFERENCE / f"label_map_{version}.txt", kind))
        assert [row["class_name"] for row in tables["labels"]] == [
            lists[version][row["class_id"]] for row in tables["labels"]
        ]
        ids = {row["clip_id"]: row["class_id"] for row in tables["labels"]}
        assert [ids[f"{version}-{i}"] for i in range(SIZES[kind])] == list(range(SIZES[kind]))


def test_another_number_of_classes_is_an_error_that_says_whose(native: dict[str, list[str]]) -> None:
    some = {version: native[version] for version in ("k400", "k600")}
    with pytest.raises(TaxonomyError, match=r"classes and Kinetics-710 has 710 \(k400: 400, k600: 600\)"):
        labelled(*kinetics(some))
    # With the list, part of the data is enough.
    assert len(labelled(*kinetics(some, REFERENCE / "label_map_k710.txt"))["classes"]) == CLASSES


def test_small_lists_without_the_official_ones(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(CLASSES - 1)]
    native = {"k400": [*names[:400], "tying tie"], "k700": [*names[300:], "tying necktie"]}
    tables = labelled(*kinetics(native))
    assert len(tables["classes"]) == CLASSES
    with pytest.raises(TaxonomyError, match="give 711 classes"):
        labelled(*kinetics({**native, "more": ["dancing"]}))
