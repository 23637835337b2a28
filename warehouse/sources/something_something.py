"""Something-Something V2: JSON annotations and one webm for each clip.

Origin: https://www.qualcomm.com/developer/software/something-something-v-2-dataset
(once https://20bn.com/datasets/something-something). Four files: ``labels.json``, class → number as text, and
``train.json``, ``validation.json``, ``test.json``, arrays of items of which the test set has the ``id`` alone::

    {"id": "78687", "label": "holding potato next to vicks vaporub bottle",
     "template": "Holding [something] next to [something]", "placeholders": ["potato", "vicks vaporub bottle"]}

The class of a clip is its template without the brackets, as ``labels.json`` has it. The package of today also holds the
classes of the test set, which the first one kept back: ``test-answers.csv``, without a header, ``id;class``.

The clip is looked for as ``78687.webm`` anywhere below the media root; other video suffixes are accepted after it.
Where there is no video, a folder ``78687`` of extracted frames is taken (``img_00001.jpg``, ...), at the source's
``frame_rate``: the videos have 12 frames a second, and the tools that extract frames keep that or make 24 or 30 of it.
The clip is a whole video.
"""

import json
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warehouse.config import SPLITS, Source
from warehouse.sources.frame_folders import FrameFolders, folders_by_name
from warehouse.sources.listing import Intake, Listing, Media, SourceError, path_problem
from warehouse.sources.media_tree import MediaTree
from warehouse.sources.text_lines import matching_lines

_ANSWER = re.compile(r"(?P<id>[^;]*);(?P<label>.*)")


@dataclass
class _Reader:
    """What the items of all splits need."""

    source: Source
    intake: Intake
    tree: MediaTree
    labels: dict[str, Any]
    answers: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    frames: FrameFolders | None = None


def read(source: Source) -> Listing:
    """The listing of a Something-Something V2 source.

    Raises ``SourceError`` if an annotation file or the media root cannot be read, or if clips are folders of frames and
    the source has no frame rate.
    """
    labels_file = source.annotations["labels"]
    labels = _parse(labels_file)
    if not isinstance(labels, dict):
        raise SourceError(f"{labels_file}: expected an object of class → number, found {_kind(labels)}. "
                          "Correct its entry in sources.toml")
    intake = Intake(source)
    tree = MediaTree.walk(source.media_root)
    reader = _Reader(source, intake, tree, labels, folders=folders_by_name(tree))
    if "test_answers" in source.annotations:
        _read_answers(reader, source.annotations["test_answers"])
    for split in SPLITS:
        if split not in source.annotations:
            continue
        file = source.annotations[split]
        items = _parse(file)
        if not isinstance(items, list):
            raise SourceError(f"{file}: expected an array of items, found {_kind(items)}. "
                              "Correct its entry in sources.toml")
        for number, item in enumerate(items, 1):
            _read_item(reader, file, number, item, split)
    tree.reject_refused(intake)
    return intake.listing


def _read_answers(reader: _Reader, file: Path) -> None:
    for number, line in matching_lines(reader.intake, file, _ANSWER, "id;class"):
        label = _class(line["label"].strip())
        native_id = line["id"].strip()
        if label not in reader.labels:
            reader.intake.reject(file, number, "malformed_row", f"{line['label']!r} is not a class of labels.json")
        elif native_id in reader.answers:
            reader.intake.reject(file, number, "duplicate_row", f"{native_id!r} has an answer already")
        else:
            reader.answers[native_id] = label


def _read_item(reader: _Reader, file: Path, number: int, item: Any, split: str) -> None:
    intake = reader.intake
    native_id = item.get("id") if isinstance(item, dict) else None
    template = item.get("template") if isinstance(item, dict) else None
    label = _class(template) if isinstance(template, str) else None
    if isinstance(native_id, str) and (problem := path_problem(native_id)):
        intake.reject(file, number, "bad_path", f"id {native_id!r} {problem}")
    elif not isinstance(native_id, str) or not re.fullmatch("[0-9]+", native_id):
        intake.reject(file, number, "malformed_row", f"expected an id of digits; read: {reprlib.repr(item)}")
    elif template is None and split != "test":
        intake.reject(file, number, "malformed_row", f"no template, which gives the class; read: {reprlib.repr(item)}")
    elif template is not None and label not in reader.labels:
        intake.reject(file, number, "malformed_row", f"the template {template!r} is not a class of labels.json")
    else:
        if split == "test":
            label = label or reader.answers.get(native_id)
        _add(reader, file, number, split, label, native_id)


def _add(reader: _Reader, file: Path, number: int, split: str, label: str | None, native_id: str) -> None:
    tree = reader.tree
    look: Callable[[str], Media] = tree.media
    if native_id in tree.by_stem or native_id not in reader.folders:
        path = tree.find(native_id, f"{native_id}.webm", lambda path: (not path.endswith(".webm"),))
    else:
        path = reader.folders[native_id]
        reader.frames = reader.frames or FrameFolders.of_source(tree, reader.source.name, reader.source.frame_rate)
        look = reader.frames.whole
    if refusal := tree.refusal(path):
        reader.intake.reject(file, number, "bad_path", refusal)
    else:
        reader.intake.add(file, number, split, label, native_id, None, look(path))


def _class(template: str) -> str:
    return template.replace("[", "").replace("]", "")


def _parse(file: Path) -> Any:
    """The value of a JSON file. Raises ``SourceError`` with the position where it is not JSON."""
    try:
        return json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror}). Correct its entry in sources.toml") from error
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
