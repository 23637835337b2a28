"""sources.toml: the files and keys that each kind of source takes."""

import re
from pathlib import Path

import pytest
from config_files import GOOD, make_folder, write

from warehouse.config import ConfigError, load
from warehouse.config_checks import ANNOTATIONS
from warehouse.sources import ADAPTERS

ROOT = Path(__file__).parents[2]

KINDS = {  # kind → its annotations as TOML, and its namespace
    "something_something_v1": ('{ labels = "a.txt", train = "train.csv" }', "something_something_v1"),
    "something_something_v2": ('{ labels = "a.txt", test = "train.csv", test_answers = "val.csv" }',
                               "something_something_v2"),
    "ava": ('{ train = "train.csv", train_excluded = "val.csv" }', "youtube"),
    "webvid": ('{ train = "train.csv", val = "val.csv" }', "webvid"),
    "ucf101": ('{ classes = "a.txt", train = "train.csv", test = "val.csv" }', "ucf101"),
    "hmdb51": ('{ splits = "*_test_split1.txt" }', "hmdb51"),
    "list": ('{ train = "train.csv" }', "more"),
}  # fmt: skip
MORE = """
[sources.more]
kind = "KIND"
media_root = "media"
annotations = FILES
collections = ["everything"]
stride = 4
licence = "own"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_takes_its_own_files_and_has_a_namespace(folder: Path, kind: str) -> None:
    for name in ("a.txt", "climb_test_split1.txt"):
        (folder / name).touch()
    files, namespace = KINDS[kind]
    text = GOOD + MORE.replace("KIND", kind).replace("FILES", files)
    more = load(write(folder, text)).sources[-1]
    assert (more.kind, more.namespace, more.frame_rate) == (kind, namespace, None)
    rated = text + "frame_rate = 12\n"
    if kind in ("list", "something_something_v2"):
        assert load(write(folder, rated)).sources[-1].frame_rate == 12
    else:
        with pytest.raises(ConfigError, match=r"sources\.more\.frame_rate: a source of kind .* does not take this key"):
            load(write(folder, rated))


def test_the_examples_of_the_docs_are_read_and_there_is_one_for_each_kind(folder: Path) -> None:
    page = (ROOT / "docs" / "sources.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    rest = MORE[: MORE.index("kind")] + MORE[MORE.index("collections") :] + 'media_root = "media"\n'
    sources = [load(write(folder, GOOD + rest + example), check_files=False).sources[-1] for example in examples]
    assert sorted(source.kind for source in sources) == sorted(ANNOTATIONS) == sorted(ADAPTERS)
    table = re.findall(r"^\| \[`(\w+)`\].*\| (?:`(\w+)`|the source's name) \|$", page, re.MULTILINE)
    named = {source.kind: source.namespace.replace("more", "") for source in sources}
    assert dict(table) == named


@pytest.mark.parametrize(
    ("kind", "files", "says"),
    [
        ("something_something_v1", '{ train = "train.csv" }', "annotations: `labels` is missing: the file that lists"),
        ("something_something_v2", '{ labels = "val.csv", train = "train.csv", test_answers = "mine.csv" }',
         "annotations.test_answers: adds to `test`, which is missing"),
        ("ava", '{ train_excluded = "train.csv" }', "annotations: names no split. Give a file for some of train, val"),
        ("ava", '{ train = "train.csv", val_excluded = "val.csv" }', "val_excluded: adds to `val`, which is missing"),
        ("ava", '{ train = "train.csv", test = "val.csv" }', "annotations.test: unknown key"),
        ("ucf101", '{ train = "train.csv" }', "annotations: `classes` is missing: classInd.txt"),
        ("ucf101", '{ classes = "val.csv", val = "train.csv" }', "annotations.val: unknown key"),
        ("hmdb51", "{ }", "annotations: `splits` is missing: the files of one split"),
        ("hmdb51", '{ splits = "*_test_split2.txt" }', "_test_split2.txt. Correct the path"),
        ("list", '{ train = "train.csv" }\nframe_rate = 0', "frame_rate: must be more than 0"),
        ("list", '{ train = "train.csv" }\nframe_rate = -1', "frame_rate: must be 0 or more"),
        ("list", '{ train = "train.csv" }\nwhere = { a = 1 }', "where: a source of kind 'list' does not take this key"),
    ],
)  # fmt: skip
def test_files_and_keys_of_another_kind_are_named(folder: Path, kind: str, files: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, GOOD + MORE.replace("KIND", kind).replace("FILES", files)))
    assert len(caught.value.problems) <= 2 and says in str(caught.value)
