"""sources.toml: what a good file means, and that every mistake is reported with file, line and key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from config_files import GOOD, make_folder, write

from warehouse.config import ConfigError, load

ROOT = Path(__file__).parents[2]

@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def test_a_good_file(folder: Path) -> None:
    config = load(write(folder, GOOD))
    assert (config.path, config.data_root) == (folder / "sources.toml", folder / "data")
    assert (config.rendition, config.workers, config.training.finetune) == ("np256", 3, "labelled")
    k400, ssv2, mine = config.sources
    assert (k400.namespace, ssv2.namespace, mine.namespace) == ("youtube", "something_something_v2", "shared")
    assert [source.priority for source in config.sources] == [0, 1, 2]
    assert k400.annotations == {"train": folder / "train.csv", "val": folder / "val.csv"}
    assert mine.annotations == {"csv": folder / "mine.csv"} and mine.media_root == folder / "media"
    assert mine.columns == {"path": "file", "split": "sequence", "label": ""}
    assert mine.splits == {"train": ("1", "2"), "val": ("3",)}
    assert mine.where == {"official": ("1",), "set": ("a", "b")}
    assert (k400.flip, ssv2.flip, mine.flip) == (True, False, False)  # by default, by kind, and as it says
    everything, labelled = config.collections
    assert (everything.taxonomy, everything.min_duration_ms) == (None, 500)
    assert (labelled.taxonomy, labelled.splits, labelled.min_duration_ms) == ("motions", ("train", "val"), 0)
    assert (everything.max_duration_ms, everything.min_short_side, everything.min_fps) == (60000, 128, 9.5)
    assert (everything.min_motion, everything.min_brightness, everything.min_picture_share) == (0.01, 0.05, 0.25)
    assert (everything.leakage, labelled.leakage) == ("protect", "paper")
    assert (labelled.max_duration_ms, labelled.min_short_side, labelled.min_picture_share) == (None, 1, 0)
    [motions] = config.taxonomies
    assert (motions.aliases, motions.kind) == ({"sliding left": "drifting left"}, None)
    assert motions.classes == folder / "classes.txt"


def test_how_training_draws(folder: Path) -> None:
    plain = load(write(folder, GOOD)).training
    assert (plain.source_shares, plain.run_clips) == ({}, 1)
    text = GOOD.replace(PRESET, f"{PRESET}\nrun_clips = 16\nsource_shares = {{ k400 = 2, ssv2 = 0.5, mine = 0 }}")
    drawn = load(write(folder, text)).training
    assert (drawn.source_shares, drawn.run_clips) == ({"k400": 2, "ssv2": 0.5, "mine": 0}, 16)


PRESET = 'preset = "smoke"'
MISTAKES = [
    # what to replace, by what, text on the line that is to be named, its key, and what has to be said
    ("workers = 3", "worker = 3", "worker =", "reelhouse.worker", "Did you mean 'workers'?"),
    ("[sources.k400]\n", "[sources.k400]\nstrid = 2\n", "strid =", "sources.k400.strid", "Did you mean 'stride'?"),
    ("[taxonomies.motions]", "[taxonomy.motions]", "[taxonomy.", "taxonomy", "Did you mean 'taxonomies'?"),
    (PRESET, f"{PRESET}\nepochs = 5", "epochs", "training.epochs", "Known are: features, features_every, finetune, "),
    (PRESET, f"{PRESET}\nepochs = 5", "epochs", "training.epochs", "start, student_weights, students, teacher"),
    ("stride = 4\n", "", "[sources.k400]", "sources.k400.stride", "missing. Add it to [sources.k400]: a whole number"),
    ("stride = 4", 'stride = "4"', 'stride = "4"', "sources.k400.stride", "must be a whole number, not a string"),
    ("stride = 4", "stride = true", "stride = true", "sources.k400.stride", "number, not true or false"),
    ("stride = 4", "stride = 4\nflip = 0", "flip = 0", "sources.k400.flip", "true or false, not a whole number"),
    ("stride = 4", "stride = 0", "stride = 0", "sources.k400.stride", "must be 1 or more"),
    ("min_duration_s = 0.5", "min_duration_s = nan", "= nan", "collections.everything.min_duration_s", "0 or more"),
    ("max_duration_s = 60", "max_duration_s = 0.4", "max_duration_s", "collections.everything.max_duration_s",
     "is less than `min_duration_s`"),
    ("min_motion = 0.01", "min_motion = 1.5", "min_motion", "collections.everything.min_motion", "between 0 and 1"),
    ("min_short_side = 128", "min_short_side = 128.5", "min_short", "collections.everything.min_short_side", "whole"),
    ('leakage = "paper"', 'leakage = "papers"', "leakage", "collections.labelled.leakage", "Did you mean 'paper'?"),
    ('classes = "classes.txt"', 'kind = "kinetics701"', "kinetics701", "taxonomies.motions.kind", "'kinetics710'?"),
    ('classes = "classes.txt"', 'classes = "no.txt"', "no.txt", "taxonomies.motions.classes", "Correct the path"),
    ('licence = "own"', 'licence = " "', 'licence = " "', "sources.mine.licence", "is empty"),
    ('data_root = "data"\n', "", "[reelhouse]", "reelhouse.data_root", "missing"),
    ("workers = 3", 'rendition = "webm"', "rendition", "reelhouse.rendition",
     "np256, strided, mjpeg-strided, original"),
    ('kind = "kinetics"', 'kind = "kinetcs"', "kinetcs", "sources.k400.kind", "Did you mean 'kinetics'?"),
    ("[sources.k400]", "[sources.K-400]", "[sources.K-400]", "sources.K-400", "a-z, 0-9 and _ alone"),
    ("[sources.k400]", '[sources."../k"]', '[sources."../k"]', 'sources."../k"', "a-z, 0-9 and _ alone"),
    ('namespace = "shared"', 'namespace = "you tube"', "you tube", "sources.mine.namespace", "a-z, 0-9 and _ alone"),
    ('splits = ["train"]', 'splits = ["train", "valid"]', '"valid"', "collections.everything.splits",
     "'valid' is not a split. Did you mean 'val'?"),
    ('splits = ["train"]', "splits = []", "splits = []", "collections.everything.splits", "is empty"),
    ('splits = ["train"]', 'splits = "train"', 'splits = "train"', "collections.everything.splits",
     "must be an array of strings, not a string"),
    ('taxonomy = "motions"', 'taxonomy = "motion"', '"motion"', "collections.labelled.taxonomy",
     "there is no [taxonomies.motion]. Did you mean 'motions'?"),
    ('{ "sliding left" = "drifting left" }', '{ a = "b", b = "c" }', "aliases", "taxonomies.motions.aliases.a",
     "Name the final class, 'c'"),
    ('["everything", "labelled"]', '["everything", "labeled", "labelled"]', '"labeled"', "sources.k400.collections",
     "there is no [collections.labeled]. Did you mean 'labelled'?"),
    ('["everything", "labelled"]', '["everything", "everything", "labelled"]', '"everything", "everything"',
     "sources.k400.collections", "names 'everything' twice"),
    ("[collections.labelled]", '[collections.lonely]\nsplits = ["train"]\n[collections.labelled]',
     "[collections.lonely]", "collections.lonely", "no source feeds it"),
    ("[sources.k400]\n", "[sources.k400]\nwhere = { a = 1 }\n", "where = { a", "sources.k400.where",
     "a source of kind 'kinetics' does not take this key"),
    ("[sources.ssv2]\n", "[sources.ssv2]\nsplits = { train = 1 }\n", "splits = { train = 1", "sources.ssv2.splits",
     "a source of kind 'something_something_v2' does not take this key"),
    ('annotations = "mine.csv"\n', "", "columns =", "sources.mine.columns", "is about a CSV, and there is none"),
    ('path = "file"', 'paths = "file"', "columns =", "sources.mine.columns.paths", "Did you mean 'path'?"),
    ('val = "3"', 'valid = "3"', "splits = {", "sources.mine.splits.valid", "Did you mean 'val'?"),
    ('val = "3"', 'val = "2"', "splits = {", "sources.mine.splits", "'2' stands in more than one split"),
    ("official = 1", "official = 1.5", "where =", "sources.mine.where.official", "not a number"),
    ('split = "sequence"', 'split = ""', "splits = { train = [1", "sources.mine.splits", "no split column"),
    ('val = "val.csv"', 'valid = "val.csv"', "annotations = { train", "sources.k400.annotations.valid", "'val'?"),
    ('val = "val.csv"', 'val = "train.csv"', "annotations = { train", "sources.k400.annotations.val",
     "is the same file as `train`"),
    ('labels = "labels.json", ', "", 'train = "train.json"', "sources.ssv2.annotations", "`labels` is missing"),
    ('annotations = { labels = "labels.json", train = "train.json" }', 'annotations = { labels = "labels.json" }',
     'labels = "labels.json"', "sources.ssv2.annotations", "names no split"),
    ('annotations = { train = "train.csv", val = "val.csv" }', 'annotations = "train.csv"', 'annotations = "train',
     "sources.k400.annotations", "must be a table of strings, not a string"),
    ('val = "val.csv"', 'val = "absent.csv"', "absent.csv", "sources.k400.annotations.val", "Correct the path"),
    ('"mine.csv"', '"absent.csv"', "absent.csv", "sources.mine.annotations", "absent.csv. Correct the path"),
    ('val = "val.csv"', 'val = "data/val.csv"', "data/val.csv", "sources.k400.annotations.val", "`make demo`"),
    ('media_root = "media"\nannotations = "mine', 'media_root = "nowhere"\nannotations = "mine', "nowhere",
     "sources.mine.media_root", "there is no folder"),
    ('pretrain = "everything"', 'pretrain = "all"', 'pretrain = "all"', "training.pretrain",
     "there is no [collections.all]"),
    ('post_pretrain = "labelled"', 'post_pretrain = "everything"', "post_pretrain", "training.post_pretrain",
     "'everything' has no labels"),
    ('finetune = "labelled"', 'finetune = "everything"', "finetune", "training.finetune", "has no labels"),
    ('splits = ["train", "val"]', 'splits = ["train"]', "finetune", "training.finetune", "no val or test split"),
    ('splits = ["train", "val"]', 'splits = ["val"]', "post_pretrain", "training.post_pretrain", "no train split"),
    (', val = "val.csv" }', " }", "finetune", "training.finetune", "no source that feeds 'labelled' has a val split"),
    *((PRESET, f"{PRESET}\nsource_shares = {{ {shares} }}", "source_shares", f"training.source_shares{key}", says)
      for shares, key, says in [
          ("k400 = 1, ssv2 = 1", "", "has no share for mine. Give each source one; 0 leaves it out"),
          ("k400 = 1, ssv2 = 1, mine = 1, k40 = 1", ".k40", "feeds 'everything'. Did you mean 'k400'?"),
          ("k400 = 1, ssv2 = -1, mine = 1", ".ssv2", "must be a number of 0 or more, not -1"),
          ("k400 = 0, ssv2 = 0, mine = 0", "", "all shares are 0"),
      ]),
    (PRESET, f"{PRESET}\nrun_clips = 0", "run_clips", "training.run_clips", "must be 1 or more"),
    ("[sources.mine]", "[sources.k400]", "[sources.k400]\nkind = \"folder\"", "[sources.k400]", "duplicate of line 31"),
    ("workers = 3", "workers = 3\nworkers = 4", "workers = 4", "reelhouse.workers", "duplicate of line 3"),
    ("workers = 3", "workers = three", "workers = three", "", "Invalid value"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "culprit", "key", "says"), MISTAKES)
def test_a_mistake_is_named_with_file_line_and_key(
    folder: Path, old: str, new: str, culprit: str, key: str, says: str
) -> None:
    assert GOOD.count(old) >= 1
    text = GOOD.replace(old, new, 1)
    line = text[: text.index(culprit)].count("\n") + 1
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text))
    assert str(caught.value).startswith(str(folder / "sources.toml"))
    named = [p for p in caught.value.problems if p.startswith(f"sources.toml:{line}: ") and key in p and says in p]
    assert named, caught.value


def test_all_problems_are_reported_together_in_the_order_of_lines(folder: Path) -> None:
    text = GOOD.replace('"labels.json"', '"no.json"').replace("stride = 4", "stride = -4").replace("workers", "work")
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text))
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "reelhouse.work", "sources.k400.stride", "sources.ssv2.annotations.labels",
    ]  # fmt: skip
    assert all(problem in str(caught.value) for problem in caught.value.problems)


@pytest.mark.parametrize("text", ["", "sources = 3", "[[sources]]\nkind = 1", "[sources]\na = 1", "[sources.a.b.c]"])
def test_a_file_of_another_shape_is_an_error_and_no_crash(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"sources\.toml:1: training: missing"):
        load(write(folder, text))


def test_unreadable_files(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load(folder / "absent.toml")
    (folder / "sources.toml").write_bytes(b"[reelhouse]\ndata_root = '\xff'\n")
    with pytest.raises(ConfigError, match=r"sources\.toml:2: byte 0xff is not UTF-8"):
        load(folder / "sources.toml")


def test_absent_files_are_no_problem_without_the_check(folder: Path) -> None:
    (folder / "train.csv").unlink()
    (folder / "media").rmdir()
    path = write(folder, GOOD)
    assert len(load(path, check_files=False).sources) == 3
    with pytest.raises(ConfigError, match="4 problems"):
        load(path)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system lends no single cores")
def test_workers_are_by_default_the_cores_that_are_lent(folder: Path) -> None:
    path, lent = write(folder, GOOD.replace("workers = 3\n", "")), os.sched_getaffinity(0)
    assert load(path).workers == len(lent)
    os.sched_setaffinity(0, {min(lent)})
    try:
        assert load(path).workers == 1
    finally:
        os.sched_setaffinity(0, lent)


def test_the_file_is_named_by_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELHOUSE_SOURCES", str(write(folder, GOOD)))
    assert load().path == folder / "sources.toml"
    monkeypatch.delenv("REELHOUSE_SOURCES")
    assert load(check_files=False).path == ROOT / "sources.toml"


def test_the_shipped_file_fits_the_embedded_corpus() -> None:
    from warehouse.corpus.layout import ALIASES

    config = load(ROOT / "sources.toml", check_files=False)
    assert [source.name for source in config.sources] == [
        "kinetics400", "kinetics600", "kinetics700", "something_something_v2", "selfcollected",
    ]  # fmt: skip
    assert config.data_root == ROOT / ".reelhouse/demo"
    assert config.taxonomies[0].aliases == ALIASES


def test_the_hybrids_are_defined_as_in_the_paper() -> None:
    config = load(ROOT / "examples/hybrid.toml", check_files=False)
    feeding = {c.name: [s.name for s in config.sources if c.name in s.collections] for c in config.collections}
    kinetics = ["kinetics400", "kinetics600", "kinetics700"]
    assert feeding == {
        "unlabeled_hybrid": [*kinetics, "something_something_v2", "ava", "webvid", "own_videos"],
        "labeled_hybrid": kinetics,
        "kinetics400": ["kinetics400"],
    }
    assert {s.name: s.stride for s in config.sources if s.stride != 4} == {"something_something_v2": 2}
    assert {s.namespace for s in config.sources if s.name in (*kinetics, "ava")} == {"youtube"}
    [unlabeled, labeled, _] = config.collections
    assert (unlabeled.splits, unlabeled.taxonomy, labeled.taxonomy) == (("train",), None, "kinetics710")
    assert len(config.taxonomies[0].aliases) == 15 and config.training.preset == "paper"


def test_loading_imports_no_heavy_library() -> None:
    code = (
        "import sys; from warehouse.config import load; load(check_files=False);"
        "print(sorted({'numpy', 'pyarrow', 'duckdb', 'torch', 'av', 'cv2', 'dagster'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
