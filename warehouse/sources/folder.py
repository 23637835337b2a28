"""A folder of videos of one's own, with an optional CSV.

Without a CSV every video file below the media root is an unlabelled clip of the split ``train``, in the order of
the paths; files and folders whose names start with a dot are left out. With a CSV its rows are the clips, files that it
does not list are left alone, and the columns are (``columns`` in sources.toml gives other names)::

    path     relative to the media root
    label    optional: the class; an empty cell is an unlabelled clip
    split    optional: one of the values in ``splits``; without this column all rows are ``train``

``where`` picks rows: those that do not match belong to another source and are not mentioned. A clip is a whole
file, and its native id is its path.
"""

import posixpath
from collections.abc import Mapping
from pathlib import Path

from warehouse.config import SPLITS, Source
from warehouse.sources.csv_rows import AnnotationCsv
from warehouse.sources.listing import Intake, Listing, path_problem
from warehouse.sources.media_tree import VIDEO_SUFFIXES, MediaTree, is_hidden


def read(source: Source) -> Listing:
    """The listing of a folder. Raises ``SourceError`` if the CSV or the media root cannot be read."""
    intake = Intake(source)
    tree = MediaTree.walk(source.media_root)
    if "csv" in source.annotations:
        _read_csv(intake, source.annotations["csv"], tree)
        tree.reject_refused(intake)
    else:
        _read_folder(intake, tree)
    return intake.listing


def _read_folder(intake: Intake, tree: MediaTree) -> None:
    refused = {**tree.refused_files, **tree.refused_folders}
    visible = (path for path in (*tree.files, *refused) if not is_hidden(path))
    for number, path in enumerate(sorted(visible), 1):
        if path in refused:
            intake.reject(tree.root, number, "bad_path", f"{path!r} {refused[path]}")
        else:
            intake.add(tree.root, number, "train", None, path, None, tree.media(path))


def _read_csv(intake: Intake, file: Path, tree: MediaTree) -> None:
    source = intake.source
    splits = {native: ours for ours, natives in source.splits.items() for native in natives}
    path_column = source.columns.get("path", "path")
    # A column that sources.toml relies on has to be there; a label or split column of the default name may be absent.
    needed = {path_column, *(name for name in source.columns.values() if name), *source.where}
    if splits:
        needed.add(source.columns.get("split", "split"))
    table = AnnotationCsv(file, sorted(needed))
    label_column = _optional(table, source.columns, "label")
    split_column = _optional(table, source.columns, "split")
    for number, row in table.rows(intake):
        if any(row[column].strip() not in values for column, values in source.where.items()):
            continue
        split = "train"
        if split_column:
            native = row[split_column].strip()
            split = splits.get(native, "") if splits else native
            if split not in SPLITS:
                expected = ", ".join(splits or SPLITS)
                intake.reject(file, number, "unknown_split", f"{split_column} is {native!r}, expected {expected}")
                continue
        path = row[path_column]
        suffix = posixpath.splitext(path)[1]
        if problem := path_problem(path):
            intake.reject(file, number, "bad_path", f"{path_column} {path!r} {problem}")
            continue
        if suffix.lower() not in VIDEO_SUFFIXES:
            intake.reject(file, number, "malformed_row", f"{path_column} is {path!r}, expected a file with a suffix "
                          f"of {' '.join(sorted(VIDEO_SUFFIXES))}")
            continue
        path = posixpath.normpath(path)
        label = row[label_column].strip() if label_column else ""
        if refusal := tree.refusal(path):
            intake.reject(file, number, "bad_path", refusal)
        else:
            intake.add(file, number, split, label or None, path, None, tree.media(path))


def _optional(table: AnnotationCsv, columns: Mapping[str, str], role: str) -> str | None:
    """The name of the label or split column, if the CSV has it and sources.toml does not switch it off."""
    name = columns.get(role, role)
    return name if name in table.columns else None
