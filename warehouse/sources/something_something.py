"""Something-Something V2: JSON annotations and one webm for each clip.

Origin: https://www.qualcomm.com/developer/software/something-something-v-2-dataset
(once https://20bn.com/datasets/something-something). Four files: ``labels.json``, class → number as text, and
``train.json``, ``validation.json``, ``test.json``, arrays of items of which the test set has the ``id`` alone::

    {"id": "78687", "label": "holding potato next to vicks vaporub bottle",
     "template": "Holding [something] next to [something]", "placeholders": ["potato", "vicks vaporub bottle"]}

The class of a clip is its template without the brackets, as ``labels.json`` has it. The clip is looked for as
``78687.webm`` anywhere below the media root; other video suffixes are accepted after it. The clip is a whole video.
"""

import json
import re
import reprlib
from pathlib import Path
from typing import Any

from warehouse.config import SPLITS, Source
from warehouse.sources.listing import Intake, Listing, SourceError, path_problem
from warehouse.sources.media_tree import MediaTree


def read(source: Source) -> Listing:
    """The listing of a Something-Something V2 source.

    Raises ``SourceError`` if a JSON file or the media root cannot be read.
    """
    labels_file = source.annotations["labels"]
    labels = _parse(labels_file)
    if not isinstance(labels, dict):
        raise SourceError(f"{labels_file}: expected an object of class → number, found {_kind(labels)}")
    intake = Intake(source)
    tree = MediaTree.walk(source.media_root)
    by_stem = tree.by_stem()
    for split in SPLITS:
        if split not in source.annotations:
            continue
        file = source.annotations[split]
        items = _parse(file)
        if not isinstance(items, list):
            raise SourceError(f"{file}: expected an array of items, found {_kind(items)}")
        for number, item in enumerate(items, 1):
            _read_item(intake, file, number, item, split, labels, tree, by_stem)
    tree.reject_folders(intake)
    return intake.listing


def _read_item(
    intake: Intake,
    file: Path,
    number: int,
    item: Any,
    split: str,
    labels: dict[str, Any],
    tree: MediaTree,
    by_stem: dict[str, list[str]],
) -> None:
    native_id = item.get("id") if isinstance(item, dict) else None
    template = item.get("template") if isinstance(item, dict) else None
    label = template.replace("[", "").replace("]", "") if isinstance(template, str) else None
    if isinstance(native_id, str) and (problem := path_problem(native_id)):
        intake.reject(file, number, "bad_path", f"id {native_id!r} {problem}")
    elif not isinstance(native_id, str) or not re.fullmatch("[0-9]+", native_id):
        intake.reject(file, number, "malformed_row", f"expected an id of digits; read: {reprlib.repr(item)}")
    elif template is None and split != "test":
        intake.reject(file, number, "malformed_row", f"no template, which gives the class; read: {reprlib.repr(item)}")
    elif template is not None and label not in labels:
        intake.reject(file, number, "malformed_row", f"the template {template!r} is not a class of labels.json")
    else:
        path = min(by_stem.get(native_id, [f"{native_id}.webm"]), key=lambda path: _preference(path, tree))
        if refusal := tree.refusal(path):
            intake.reject(file, number, "bad_path", refusal)
        else:
            intake.add(file, number, split, label, native_id, None, tree.media(path))


def _preference(path: str, tree: MediaTree) -> tuple[bool, bool, int, str]:
    """Sort key of candidates for one clip: webm, then in the fewest folders, then the first by name."""
    return path in tree.refused_files, not path.endswith(".webm"), path.count("/"), path


def _parse(file: Path) -> Any:
    """The value of a JSON file. Raises ``SourceError`` with the position where it is not JSON."""
    try:
        return json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{file}: is not UTF-8 at byte {error.start + 1}. Fetch the file again") from error
    except json.JSONDecodeError as error:
        raise SourceError(
            f"{file}:{error.lineno}:{error.colno}: is not JSON ({error.msg}). Fetch the file again"
        ) from error
    except (RecursionError, ValueError) as error:  # thousands of nested brackets; a number of thousands of digits
        raise SourceError(f"{file}: is not an annotation file ({error}). Fetch the file again") from error


def _kind(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    return repr(value)[:40]
