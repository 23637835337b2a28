"""Something-Something V1: ``id;class`` lines and a folder of frames for each clip.

Origin: 20BN's data set of 2017 (https://arxiv.org/abs/1706.04261; https://20bn.com/datasets/something-something/v1,
offline now). Four files without header: ``something-something-v1-labels.csv``, one class a line;
``...-train.csv`` and ``...-validation.csv``, a clip a line; ``...-test.csv`` with the ids alone::

    100218;Something falling like a feather or paper

The videos were never handed out, but their frames: a folder ``100218`` with ``00001.jpg`` and on. It is looked for
anywhere below the media root. The clip is the whole folder.
"""

import re
from pathlib import Path

from warehouse.config import SPLITS, Source
from warehouse.sources.frame_folders import FrameFolders, folders_by_name
from warehouse.sources.listing import Intake, Listing, path_problem
from warehouse.sources.media_tree import MediaTree
from warehouse.sources.text_lines import matching_lines

FRAME_RATE = 12.0
"""Frames per second, as the data set's own page had it: the images were extracted at 12 frames per second."""
_LINE = re.compile(r"(?P<id>[^;]*);(?P<label>.+)")
_ID_LINE = re.compile(r"(?P<id>[^;]+)(?P<label>);?")
_LABEL = re.compile(r"[^;\x00-\x1f]*\w[^;\x00-\x1f]*")


def read(source: Source) -> Listing:
    """The listing of a Something-Something V1 source. Raises ``SourceError`` if a file or the root cannot be read."""
    intake = Intake(source)
    tree = MediaTree.walk(source.media_root)
    frames, folders = FrameFolders(tree, FRAME_RATE), folders_by_name(tree)
    labels = {line[0] for _, line in matching_lines(intake, source.annotations["labels"], _LABEL, "class")}
    for split in SPLITS:
        if split in source.annotations:
            _read_split(intake, source.annotations[split], split, labels, frames, folders)
    tree.reject_refused(intake)
    return intake.listing


def _read_split(
    intake: Intake, file: Path, split: str, labels: set[str], frames: FrameFolders, folders: dict[str, str]
) -> None:
    pattern, form = (_ID_LINE, "id") if split == "test" else (_LINE, "id;class")
    for number, line in matching_lines(intake, file, pattern, form):
        native_id, label = line["id"].strip(), line["label"].strip()
        path = folders.get(native_id, native_id)
        if problem := path_problem(native_id):
            intake.reject(file, number, "bad_path", f"id {native_id!r} {problem}")
        elif not re.fullmatch("[0-9]+", native_id):
            intake.reject(file, number, "malformed_row", f"id is {native_id!r}, expected digits")
        elif label not in labels and split != "test":
            intake.reject(file, number, "malformed_row", f"{label!r} is not a class of the labels file")
        elif refusal := frames.tree.refusal(path):
            intake.reject(file, number, "bad_path", refusal)
        else:
            intake.add(file, number, split, label or None, native_id, None, frames.whole(path))
