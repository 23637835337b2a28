"""``sources.toml``: which sources there are, which collections they feed and what is trained on them.

The file has the tables ``[reelhouse]``, ``[training]``, ``[collections.NAME]``, ``[taxonomies.NAME]`` and
``[sources.NAME]``; the shipped ``sources.toml`` explains each key. Paths in it are relative to the file.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warehouse.config_checks import (
    ANNOTATIONS,
    SPLITS,
    TEACHERS,
    check_derived,
    check_files_exist,
    check_kind,
    check_references,
    check_shares,
)
from warehouse.curation.kinetics710 import IDENTICAL_CLASSES, SIZES
from warehouse.engine import available_cores
from warehouse.shards.rendition import RENDITIONS
from warehouse.toml_text import ConfigError, Document, Section, suggest
from warehouse.training_numbers import Numbers, read_numbers

__all__ = ["SPLITS", "Collection", "Config", "ConfigError", "Source", "Taxonomy", "Training", "load"]

LEAKAGE_RULES = ("protect", "paper")
# All that comes from YouTube shares one namespace, so that a video listed by several data sets is one clip.
NAMESPACES = {"kinetics": "youtube", "ava": "youtube"} | {
    kind: kind for kind in ("something_something_v1", "something_something_v2", "webvid", "ucf101", "hmdb51")
}
# Their classes say "left" and "right": VideoMAE V2 flips all but these.
DIRECTED_KINDS = ("something_something_v1", "something_something_v2")
_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class Source:
    """A data set or folder of videos.

    ``annotations`` maps a role to a file (``ANNOTATIONS`` in :mod:`warehouse.config_checks` lists the roles of each
    kind). ``columns``, ``splits`` and ``where`` are for a folder with a CSV: names of its columns (``path``,
    ``label``, ``split``; an empty name: not read), our splits → values of the split column, and column → values that a
    row must have to be of this source. ``frame_rate`` is that of folders of frames, in frames per second.
    ``flip``: whether a clip mirrored left to right keeps its label.
    """

    name: str
    kind: str
    media_root: Path
    annotations: Mapping[str, Path]
    collections: tuple[str, ...]
    stride: int
    licence: str
    namespace: str
    priority: int
    columns: Mapping[str, str]
    splits: Mapping[str, tuple[str, ...]]
    where: Mapping[str, tuple[str, ...]]
    frame_rate: float | None = None
    flip: bool = True


@dataclass(frozen=True)
class Collection:
    """A set of clips to train on: the named splits of the sources that feed it; labelled if it has a taxonomy.

    The thresholds are inclusive: a clip that is exactly as long, large, fast, ... stays. ``min_motion``,
    ``min_brightness`` and ``min_picture_share`` are compared with the columns of ``media`` of these names (0 to 1).
    ``leakage`` names the rule for a video that is on both sides of a split: ``protect`` or ``paper``
    (:mod:`warehouse.curation.decisions`).
    ``sql`` is the query that selects the clips (:mod:`warehouse.catalog.selection`): then no source feeds the
    collection, and splits and thresholds say nothing.
    """

    name: str
    splits: tuple[str, ...]
    taxonomy: str | None
    min_duration_ms: int
    max_duration_ms: int | None = None
    min_short_side: int = 1
    min_fps: float = 0
    min_motion: float = 0
    min_brightness: float = 0
    min_picture_share: float = 0
    leakage: str = "protect"
    sql: str | None = None


@dataclass(frozen=True)
class Taxonomy:
    """A list of classes: those of the sources, where ``aliases`` maps native names to a shared one.

    ``kind`` names a taxonomy of which Reelhouse knows the aliases and the size: ``kinetics710``, or one of the versions
    that it was made from, by the names of the merge. ``classes`` is a file with one class name a line that sets the
    order, and is the whole list: other names are errors.
    """

    name: str
    aliases: Mapping[str, str]
    kind: str | None = None
    classes: Path | None = None


@dataclass(frozen=True)
class Training:
    """The preset, and the collection that each stage trains on (``finetune``: also the one evaluated).

    ``pretrain`` is ``None`` only where ``start`` names weights to start from; without ``post_pretrain`` there is no
    such stage. ``size`` is the model's, for a preset that has several.
    ``source_shares``: how often pre-training draws from each source relative to the others; empty: as the clips are.
    ``run_clips``: how many clips training reads one after the other from a shard.
    ``students``: sizes of models that learn from the model that the stage ``teacher`` leaves, and ``student_weights``
    what some of them start from. ``features``: collections of whose clips features are extracted, of the middle window
    or of one every ``features_every`` frames. ``numbers``: of a stage, in the place of the preset's.
    """

    preset: str
    pretrain: str | None
    post_pretrain: str | None
    finetune: str
    source_shares: Mapping[str, float] = field(default_factory=dict)
    run_clips: int = 1
    size: str | None = None
    start: Path | None = None
    students: tuple[str, ...] = ()
    teacher: str = TEACHERS[0]
    student_weights: Mapping[str, Path] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    features_every: int | None = None
    numbers: Mapping[str, Numbers] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """All of ``sources.toml``. ``path`` and ``data_root`` are absolute."""

    path: Path
    data_root: Path
    rendition: str
    sources: tuple[Source, ...]
    collections: tuple[Collection, ...]
    taxonomies: tuple[Taxonomy, ...]
    training: Training
    workers: int


def load(path: Path | None = None, check_files: bool = True) -> Config:
    """Read and check a configuration.

    Args:
        path: the file; by default ``$REELHOUSE_SOURCES``, or else ``sources.toml`` in the repository's root.
        check_files: whether annotation files and media roots have to exist. Definitions are loaded without
            (the UI opens before the data is there); whatever reads the sources asks for the check.

    Raises:
        ConfigError: with all problems, each with line and key.
    """
    if path is None:
        path = Path(os.environ.get("REELHOUSE_SOURCES") or Path(__file__).parent.parent / "sources.toml")
    document = Document(_absolute(Path.cwd(), str(path)))
    house = document.section("reelhouse")
    data_root = _absolute(document.path.parent, house.text("data_root"))
    rendition = house.text("rendition", RENDITIONS[0])
    if rendition not in RENDITIONS:
        house.report("rendition", f"{rendition!r} is not a rendition. {suggest(rendition, RENDITIONS)}")
    workers = house.count("workers", available_cores())
    house.finish()
    taxonomies = tuple(_taxonomy(document, name) for name in _names(document, "taxonomies", required=False))
    collections = tuple(_collection(document, name) for name in _names(document, "collections"))
    sources = tuple(_source(document, name, i) for i, name in enumerate(_names(document, "sources")))
    training = _training(document)
    for name in document.values:
        if name not in (known := ("reelhouse", "training", "collections", "taxonomies", "sources")):
            document.report((name,), f"unknown table. {suggest(name, known)}")
    check_references(document, sources, collections, training)
    check_shares(document, sources, training)
    check_derived(document, collections, training)
    if check_files:
        check_files_exist(document, sources, taxonomies, training, data_root)
    document.raise_problems()
    return Config(document.path, data_root, rendition, sources, collections, taxonomies, training, workers)


def _absolute(base: Path, path: str) -> Path:
    # Not pathlib's: resolve() follows links, and its expanduser() fails on a user that does not exist.
    return Path(os.path.abspath(base / os.path.expanduser(path)))  # noqa: PTH100, PTH111


def _names(document: Document, table: str, required: bool = True) -> list[str]:
    """The names under ``[table.NAME]``. They become partition keys, file names and asset names."""
    names = list(document.section(table, required=required).values)
    for name in names:
        if not _NAME.fullmatch(name):
            document.report((table, name), "names are made of a-z, 0-9 and _ alone. Rename it")
    return names


def _taxonomy(document: Document, name: str) -> Taxonomy:
    section = document.section("taxonomies", name)
    kind = section.text("kind", "") or None
    if kind and kind not in SIZES:
        section.report("kind", f"{kind!r} is not a kind of taxonomy. {suggest(kind, tuple(SIZES))}")
    classes = section.text("classes", "")
    aliases = (IDENTICAL_CLASSES if kind in SIZES else {}) | section.mapping("aliases")
    for native, merged in aliases.items():
        if merged in aliases:
            document.report((*section.key, "aliases", native), f"its target {merged!r} is an alias itself. "
                            f"Name the final class, {aliases[merged]!r}, or remove that alias")
    section.finish()
    return Taxonomy(name, aliases, kind, _absolute(document.path.parent, classes) if classes else None)


def _collection(document: Document, name: str) -> Collection:
    section = document.section("collections", name)
    if "sql" in section:
        return _queried(document, section, name)
    splits = section.texts("splits")
    if "splits" in section and section.values["splits"] == []:
        section.report("splits", f"is empty. Name some of {', '.join(SPLITS)}")
    for split in splits:
        if split not in SPLITS:
            section.report("splits", f"{split!r} is not a split. {suggest(split, SPLITS)}")
    taxonomy = _taxonomy_of(document, section)
    least = round(1000 * section.number("min_duration_s", 0))
    most = round(1000 * section.number("max_duration_s", 0)) if "max_duration_s" in section else None
    if most is not None and most < least:
        section.report("max_duration_s", "is less than `min_duration_s`: no clip would be left")
    short_side, fps = section.count("min_short_side", 1), section.number("min_fps", 0)
    motion, brightness, picture = (_share(section, f"min_{s}") for s in ("motion", "brightness", "picture_share"))
    leakage = section.text("leakage", LEAKAGE_RULES[0])
    if leakage not in LEAKAGE_RULES:
        section.report("leakage", f"{leakage!r} is not a rule. {suggest(leakage, LEAKAGE_RULES)}")
    section.finish()
    return Collection(
        name, splits, taxonomy, least, most, short_side, fps, motion, brightness, picture, leakage
    )  # fmt: skip


def _queried(document: Document, section: Section, name: str) -> Collection:
    """A collection that is a query: all other keys but the taxonomy are for the query to say."""
    sql, taxonomy = section.text("sql"), _taxonomy_of(document, section)
    for key in section.values:
        if key not in ("sql", "taxonomy"):
            section.report(key, "goes with collections that sources feed. Say it in the query, or remove `sql`")
    return Collection(name, (), taxonomy, 0, sql=sql)


def _taxonomy_of(document: Document, section: Section) -> str | None:
    taxonomy = section.text("taxonomy", "") or None
    defined = document.section("taxonomies", required=False).values
    if taxonomy and taxonomy not in defined:
        section.report("taxonomy", f"there is no [taxonomies.{taxonomy}]. {suggest(taxonomy, list(defined))}")
    return taxonomy


def _share(section: Section, name: str) -> float:
    value = section.number(name, 0)
    if value > 1:
        section.report(name, f"must be between 0 and 1, not {value}")
    return value


def _source(document: Document, name: str, priority: int) -> Source:
    section = document.section("sources", name)
    kind = section.text("kind")
    if kind and kind not in ANNOTATIONS:
        section.report("kind", f"{kind!r} is not a kind of source. {suggest(kind, tuple(ANNOTATIONS))}")
    base = document.path.parent
    media_root = _absolute(base, section.text("media_root"))
    # For a folder `annotations` is one path; for the other kinds a table of them.
    if kind == "folder":
        csv = section.text("annotations", "")
        files = {"csv": csv} if csv else {}
    else:
        files = section.mapping("annotations", required=True)
    namespace = section.text("namespace", NAMESPACES.get(kind, name))
    if not _NAME.fullmatch(namespace):
        section.report("namespace", f"{namespace!r}: namespaces are made of a-z, 0-9 and _ alone. Rename it")
    annotations = {role: _absolute(base, file) for role, file in files.items()}
    source = Source(
        name, kind, media_root, annotations, section.texts("collections"), section.count("stride"),
        section.text("licence"), namespace, priority,
        section.mapping("columns"), section.choices("splits"), section.choices("where"),
        section.number("frame_rate", 0) or None, section.flag("flip", kind not in DIRECTED_KINDS),
    )
    section.finish()
    if kind in ANNOTATIONS:
        check_kind(section, source)
    return source


def _training(document: Document) -> Training:
    section = document.section("training")
    start = section.text("start", "")
    base = document.path.parent
    weights = {size: _absolute(base, path) for size, path in section.mapping("student_weights").items()}
    pretrain = section.text("pretrain", "" if start else None)
    training = Training(
        section.text("preset"), pretrain or None, section.text("post_pretrain", "") or None, section.text("finetune"),
        section.numbers("source_shares"), section.count("run_clips", 1), section.text("size", "") or None,
        _absolute(base, start) if start else None,
        section.texts("students") if "students" in section else (), section.text("teacher", TEACHERS[0]), weights,
        section.texts("features") if "features" in section else (),
        section.count("features_every") if "features_every" in section else None, read_numbers(section),
    )  # fmt: skip
    section.finish()
    return training
