"""HMDB51: for each class and each of three splits one file.

Origin: https://serre.lab.brown.edu/hmdb51.html (``test_train_splits.rar``, which unpacks to
``testTrainMulti_7030_splits``). 51 × 3 files such as ``brush_hair_test_split1.txt``, a clip of the class a line::

    April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

1 is training and 2 is test; a clip with 0 is not in this split and is not mentioned. ``annotations`` names the files
of one split by a pattern, ``testTrainMulti_7030_splits/*_test_split1.txt``. The test clips are what results are given
on, so they are the split ``test``.

The clip is looked for by its file name anywhere below the media root, first in a folder of its class, as avi before
other video suffixes. It is a whole video; the same name in two classes is two clips.
"""

import re
from pathlib import Path

from warehouse.config import Source
from warehouse.sources.listing import Intake, Listing, SourceError, path_problem
from warehouse.sources.media_tree import MediaTree
from warehouse.sources.text_lines import matching_lines
from warehouse.sources.ucf101 import find_in_class

SPLIT_OF = {"1": "train", "2": "test"}
_FILE = re.compile(r"(?P<label>.+)_test_split(?P<split>[0-9])\.txt")
_CLIP = re.compile(r"(?P<name>.+)\.avi\s+(?P<use>\S+)")


def read(source: Source) -> Listing:
    """The listing of an HMDB51 source.

    Raises ``SourceError`` if a file or the media root cannot be read, or the files are not those of one split.
    """
    intake = Intake(source)
    files = _files_of_a_split(source.annotations["splits"])
    tree = MediaTree.walk(source.media_root)
    for label, file in files.items():
        for number, line in matching_lines(intake, file, _CLIP, "name.avi 0|1|2"):
            if problem := path_problem(line["name"]):
                intake.reject(file, number, "bad_path", f"{line['name']!r} {problem}")
            elif "/" in line["name"]:
                intake.reject(file, number, "malformed_row", f"expected a name without folders; read: {line[0]}")
            elif line["use"] in SPLIT_OF:
                _add(intake, file, number, SPLIT_OF[line["use"]], label, line["name"], tree)
            elif line["use"] != "0":
                intake.reject(file, number, "unknown_split", f"{line['use']!r}, expected 0, 1 or 2; read: {line[0]}")
    tree.reject_refused(intake)
    return intake.listing


def _add(intake: Intake, file: Path, number: int, split: str, label: str, stem: str, tree: MediaTree) -> None:
    path = find_in_class(tree, stem, label)
    if refusal := tree.refusal(path):
        intake.reject(file, number, "bad_path", refusal)
    else:
        intake.add(file, number, split, label, f"{label}/{stem}", None, tree.media(path))


def _files_of_a_split(pattern: Path) -> dict[str, Path]:
    """Class → file, of the files that a pattern names."""
    example = "Name the files of one split, as testTrainMulti_7030_splits/*_test_split1.txt"
    files = sorted(pattern.parent.glob(pattern.name))
    if not files:
        raise SourceError(f"{pattern}: there is no such file. {example}")
    matches = {file: _FILE.fullmatch(file.name) for file in files}
    found = {file: match for file, match in matches.items() if match}
    if other := next((file for file in files if file not in found), None):
        raise SourceError(f"{other}: is not called CLASS_test_splitN.txt. {example}")
    if len(splits := sorted({match["split"] for match in found.values()})) > 1:
        raise SourceError(f"{pattern}: names the files of the splits {', '.join(splits)}. {example}")
    return {match["label"]: file for file, match in found.items()}
