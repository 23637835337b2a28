"""Whether the parts of a configuration fit each other and the disk; what does not is reported in the document."""

from pathlib import Path
from typing import TYPE_CHECKING

from warehouse.toml_text import Document, Section, suggest

if TYPE_CHECKING:
    from warehouse.config import Collection, Source, Taxonomy, Training

SPLITS = ("train", "val", "test")
TEACHERS = ("finetuned", "post_pretrained")
# Which annotation files a kind takes, by role.
ANNOTATIONS = {
    "kinetics": SPLITS,
    "something_something_v1": ("labels", *SPLITS),
    "something_something_v2": ("labels", *SPLITS, "test_answers"),
    "ava": ("train", "train_excluded", "val", "val_excluded"),
    "webvid": SPLITS,
    "ucf101": ("classes", "train", "test"),
    "hmdb51": ("splits",),
    "list": SPLITS,
    "folder": ("csv",),
}
# Roles without which there is nothing to read, and what they are.
_NEEDED = {
    "something_something_v1": ("labels", "the file that lists the classes"),
    "something_something_v2": ("labels", "the JSON file that lists the classes"),
    "ucf101": ("classes", "classInd.txt"),
    "hmdb51": ("splits", "the files of one split, as testTrainMulti_7030_splits/*_test_split1.txt"),
}
# Roles that only add to another.
_ADDED_TO = {"test_answers": "test", "train_excluded": "train", "val_excluded": "val"}
_FRAME_KINDS = ("something_something_v2", "list")


def check_kind(section: Section, source: "Source") -> None:
    """What depends on the kind: the roles of annotation files, and the keys for a CSV."""
    roles = ANNOTATIONS[source.kind]
    for role in source.annotations:
        if role not in roles:
            section.document.report((*section.key, "annotations", role), f"unknown key. {suggest(role, roles)}")
    for role, file in source.annotations.items():
        if same := [other for other in source.annotations if source.annotations[other] == file and other < role]:
            section.document.report((*section.key, "annotations", role),
                                    f"is the same file as `{same[0]}`. Give each split its own file")
    role, meaning = _NEEDED.get(source.kind, ("", ""))
    if role and "annotations" in section and role not in source.annotations:
        section.report("annotations", f"`{role}` is missing: {meaning}")
    for role in source.annotations:
        if role in roles and _ADDED_TO.get(role, role) not in source.annotations:
            section.document.report((*section.key, "annotations", role),
                                    f"adds to `{_ADDED_TO[role]}`, which is missing. Name that file too")
    splits = [split for split in SPLITS if split in roles]
    if splits and "annotations" in section and not set(source.annotations) & set(splits):
        section.report("annotations", f"names no split. Give a file for some of {', '.join(splits)}")
    if "frame_rate" in section and source.kind not in _FRAME_KINDS:
        section.report("frame_rate", f"a source of kind {source.kind!r} does not take this key. Remove it")
    elif "frame_rate" in section and section.values["frame_rate"] == 0:
        section.report("frame_rate", "must be more than 0, in frames per second")
    for name in ("columns", "splits", "where"):
        if name in section and source.kind != "folder":
            section.report(name, f"a source of kind {source.kind!r} does not take this key. Remove it")
        elif name in section and not source.annotations:
            section.report(name, "is about a CSV, and there is none. Add `annotations = \"FILE.csv\"`, or remove it")
    for column, name in source.columns.items():
        if column not in (columns := ("path", "label", "split")):
            section.document.report((*section.key, "columns", column), f"unknown key. {suggest(column, columns)}")
        elif column == "path" and not name:
            section.document.report((*section.key, "columns", column), "is empty. Name the column of the paths")
    if source.splits and source.columns.get("split") == "":
        section.report("splits", "there is no split column to read: `columns` sets it to an empty name")
    for split in source.splits:
        if split not in SPLITS:
            section.document.report((*section.key, "splits", split), f"not a split. {suggest(split, SPLITS)}")
    natives = [native for values in source.splits.values() for native in set(values)]
    for native in sorted({native for native in natives if natives.count(native) > 1}):
        section.report("splits", f"{native!r} stands in more than one split")


def _may_have(source: "Source", split: str) -> bool:
    """Whether a source can have clips in a split, as far as the configuration tells."""
    if source.kind == "hmdb51":
        return split in ("train", "test")
    if source.kind != "folder":
        return split in source.annotations
    if not source.annotations or source.columns.get("split") == "":
        return split == "train"
    return not source.splits or split in source.splits


def check_references(
    document: Document, sources: "tuple[Source, ...]", collections: "tuple[Collection, ...]", training: "Training"
) -> None:
    """Sources, collections and training name each other, and each stage finds the splits that it needs."""
    by_name = {collection.name: collection for collection in collections}
    for source in sources:
        for name in source.collections:
            if name not in by_name:
                document.report(("sources", source.name, "collections"),
                                f"there is no [collections.{name}]. {suggest(name, list(by_name))}")
            elif by_name[name].sql is not None:
                document.report(("sources", source.name, "collections"),
                                f"[collections.{name}] is a query, which no source feeds. Take it off this list")
    for name in by_name:
        if by_name[name].sql is None and not any(name in source.collections for source in sources):
            document.report(("collections", name), "no source feeds it. Name it in the `collections` of a source, "
                            "or remove it")
    train, evaluate = ("train",), ("val", "test")
    needs_of: dict[str, list[tuple[str, ...]]] = {
        "pretrain": [train], "post_pretrain": [train], "finetune": [train, evaluate],
    }
    for stage, needs in needs_of.items():
        key, name = ("training", stage), getattr(training, stage)
        collection = by_name.get(name)
        if collection is None:
            if name:
                document.report(key, f"there is no [collections.{name}]. {suggest(name, list(by_name))}")
            continue
        if stage != "pretrain" and collection.taxonomy is None:
            document.report(key, f"{name!r} has no labels. Give [collections.{name}] a `taxonomy`")
        feeding = [source for source in sources if name in source.collections]
        for need in needs:
            taken = [split for split in need if split in collection.splits]
            if collection.splits and not taken:
                document.report(key, f"{name!r} has no {' or '.join(need)} split. "
                                f"Add it to `splits` of [collections.{name}]")
            elif taken and feeding and not any(_may_have(source, split) for source in feeding for split in taken):
                document.report(key, f"no source that feeds {name!r} has a {' or '.join(taken)} split. "
                                "Give one of them annotations for it")


def check_shares(document: Document, sources: "tuple[Source, ...]", training: "Training") -> None:
    """``training.source_shares`` has a share for each source that feeds the pre-training, and for no other."""
    key, shares = ("training", "source_shares"), training.source_shares
    if not shares:
        return
    if training.pretrain is None:
        document.report(key, "are of the draws of pre-training, and there is none. Name its collection in `pretrain`, "
                        "or remove this key")
        return
    # Of a collection that is a query, which no source feeds, the loader finds out.
    feeding = [source.name for source in sources if training.pretrain in source.collections]
    known = feeding or [source.name for source in sources]
    for name in shares:
        if name not in known:
            document.report((*key, name), f"no such source feeds {training.pretrain!r}. {suggest(name, known)}")
    if missing := [name for name in feeding if name not in shares]:
        document.report(key, f"has no share for {', '.join(missing)}. Give each source one; 0 leaves it out")
    if not any(shares.values()):
        document.report(key, "all shares are 0. Give some source more")


def check_derived(document: Document, collections: "tuple[Collection, ...]", training: "Training") -> None:
    """The keys of what is made of the trained model: students, and features of collections."""
    if training.teacher not in TEACHERS:
        document.report(("training", "teacher"), f"{training.teacher!r} is no stage that leaves a teacher. "
                        f"{suggest(training.teacher, TEACHERS)}")
    elif training.teacher == "post_pretrained" and training.students and training.post_pretrain is None:
        document.report(("training", "teacher"), "its collection is that of `post_pretrain`, which is missing. Name it")
    for size in training.student_weights:
        if size not in training.students:
            document.report(("training", "student_weights", size), "is none of the `students`. "
                            f"{suggest(size, training.students)}")
    known = [collection.name for collection in collections]
    for name in training.features:
        if name not in known:
            document.report(("training", "features"), f"there is no [collections.{name}]. {suggest(name, known)}")
    if training.features_every is not None and not training.features:
        document.report(("training", "features_every"), "is about `features`, which are missing. Name collections")


def check_files_exist(
    document: Document,
    sources: "tuple[Source, ...]",
    taxonomies: "tuple[Taxonomy, ...]",
    training: "Training",
    data_root: Path,
) -> None:
    """Annotation files, media roots, class lists and the weights to start from are there."""
    if training.start is not None and not training.start.exists():
        convert = f"python -m model convert THEIRS.pth {training.start} --to reelhouse"
        document.report(("training", "start"), f"there is no {training.start}. Correct the path, or put such a file "
                        f"there: `{convert}`")
    for taxonomy in taxonomies:
        if taxonomy.classes is not None and not taxonomy.classes.is_file():
            document.report(("taxonomies", taxonomy.name, "classes"),
                            f"there is no file {taxonomy.classes}. Correct the path, or put the file there")
    for source in sources:
        key = ("sources", source.name)
        # A folder's `annotations` is one path, so its key has no role.
        role_key = {role: () if source.kind == "folder" else (role,) for role in source.annotations}
        needed = [((*key, "annotations", *role_key[role]), "file", path) for role, path in source.annotations.items()]
        for place, what, path in [*needed, ((*key, "media_root"), "folder", source.media_root)]:
            if what == "file" and source.kind == "hmdb51":
                there = any(path.parent.glob(path.name))
            else:
                there = path.is_file() if what == "file" else path.is_dir()
            if not there:
                # What lies under the data root is never a person's own: only the embedded corpus is put there.
                remedy = (
                    "Render the embedded corpus: `make demo`" if path.is_relative_to(data_root)
                    else f"Correct the path, or put the {what} there"
                )
                document.report(place, f"there is no {what} {path}. {remedy}")
