"""UCF101: a list of classes, and three ways to split the clips.

Origin: https://www.crcv.ucf.edu/research/data-sets/ucf101/ (``UCF101TrainTestSplits-RecognitionTask.zip``). The files
``classInd.txt``, ``trainlist0N.txt`` and ``testlist0N.txt``, N = 1, 2, 3: which split it is, is settled by the files
that are named::

    1 ApplyEyeMakeup                                      classInd.txt
    ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1         trainlist01.txt
    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi           testlist01.txt

The test lists are what results are given on, so they are the split ``test``. The clip is looked for by its file name
anywhere below the media root, first in a folder of its class, as avi before other video suffixes. It is a whole video.
"""

import re
from pathlib import Path

from warehouse.config import Source
from warehouse.sources.listing import Intake, Listing, path_problem
from warehouse.sources.media_tree import MediaTree
from warehouse.sources.text_lines import matching_lines

_CLASS = re.compile(r"(?P<number>[0-9]{1,4})\s+(?P<name>\S+)")
_CLIP = re.compile(r"(?P<folder>.*)/(?P<stem>[^/\s]+)\.avi(?:\s+(?P<number>[0-9]{1,4}))?")


def read(source: Source) -> Listing:
    """The listing of a UCF101 source. Raises ``SourceError`` if a list or the media root cannot be read."""
    intake = Intake(source)
    tree = MediaTree.walk(source.media_root)
    lines = matching_lines(intake, source.annotations["classes"], _CLASS, "number Class")
    numbers = {line["name"]: int(line["number"]) for _, line in lines}
    for split in ("train", "test"):
        if split in source.annotations:
            _read_split(intake, source.annotations[split], split, numbers, tree)
    tree.reject_refused(intake)
    return intake.listing


def _read_split(intake: Intake, file: Path, split: str, numbers: dict[str, int], tree: MediaTree) -> None:
    form = "Class/name.avi number" if split == "train" else "Class/name.avi"
    for number, line in matching_lines(intake, file, _CLIP, form):
        label, stem = line["folder"], line["stem"]
        if problem := path_problem(line[0]):
            intake.reject(file, number, "bad_path", f"{line[0]!r} {problem}")
        elif label not in numbers:
            intake.reject(file, number, "malformed_row", f"{label!r} is not a class of classInd.txt; read: {line[0]}")
        elif line["number"] is None and split == "train":
            intake.reject(file, number, "malformed_row", f"expected {form}; read: {line[0]}")
        elif line["number"] is not None and int(line["number"]) != numbers[label]:
            intake.reject(file, number, "malformed_row",
                          f"{label} is number {numbers[label]} in classInd.txt; read: {line[0]}")
        else:
            path = find_in_class(tree, stem, label)
            if refusal := tree.refusal(path):
                intake.reject(file, number, "bad_path", refusal)
            else:
                intake.add(file, number, split, label, stem, None, tree.media(path))


def find_in_class(tree: MediaTree, stem: str, label: str) -> str:
    """Path of a clip: in a folder of its class before others, as avi before other suffixes."""

    def prefer(path: str) -> tuple[bool, bool]:
        return label not in path.split("/")[:-1], not path.endswith(".avi")

    return tree.find(stem, f"{label}/{stem}.avi", prefer)
