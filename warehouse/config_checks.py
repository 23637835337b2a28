"""Whether the parts of a configuration fit each other and the disk; what does not is reported in the document."""

from pathlib import Path
from typing import TYPE_CHECKING

from warehouse.toml_text import Document, Section, suggest

if TYPE_CHECKING:
    from warehouse.config import Collection, Source, Training

SPLITS = ("train", "val", "test")
# Which annotation files a kind takes, by role.
ANNOTATIONS = {
    "kinetics": SPLITS,
    "something_something_v2": ("labels", *SPLITS),
    "folder": ("csv",),
}


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
    if source.kind == "something_something_v2" and source.annotations and "labels" not in source.annotations:
        section.report("annotations", "`labels` is missing: the JSON file that lists the classes")
    if source.kind != "folder" and "annotations" in section and not set(source.annotations) & set(SPLITS):
        section.report("annotations", f"names no split. Give a file for some of {', '.join(SPLITS)}")
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
    for name in by_name:
        if not any(name in source.collections for source in sources):
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


def check_files_exist(document: Document, sources: "tuple[Source, ...]", data_root: Path) -> None:
    """Annotation files and media roots are there."""
    for source in sources:
        key = ("sources", source.name)
        # A folder's `annotations` is one path, so its key has no role.
        role_key = {role: () if source.kind == "folder" else (role,) for role in source.annotations}
        needed = [((*key, "annotations", *role_key[role]), "file", path) for role, path in source.annotations.items()]
        for place, what, path in [*needed, ((*key, "media_root"), "folder", source.media_root)]:
            if not (path.is_file() if what == "file" else path.is_dir()):
                # What lies under the data root is never a person's own: only the embedded corpus is put there.
                remedy = (
                    "Render the embedded corpus: `make demo`" if path.is_relative_to(data_root)
                    else f"Correct the path, or put the {what} there"
                )
                document.report(place, f"there is no {what} {path}. {remedy}")
