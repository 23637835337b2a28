"""WebVid-2M and -10M: one CSV for each split, stock videos with a caption.

Origin: https://maxbain.com/webvid-dataset (``results_2M_train.csv``, ``results_2M_val.csv`` and of 10M alike; withdrawn
by its authors in 2024). Columns, in any order, others are ignored::

    videoid,contentUrl,duration,page_dir,name
    21179416,https://...,PT00H00M11S,006001_006050,Aerial shot winter forest

The clip is looked for as ``006001_006050/21179416.mp4``, that is ``page_dir/videoid.mp4``, or by the id alone, anywhere
below the media root; other video suffixes are accepted after mp4. It is a whole video. ``duration`` is checked, and
``name``, the caption, is text and no class: clips are unlabelled.
"""

import re
from pathlib import Path

from warehouse.config import SPLITS, Source
from warehouse.sources.csv_rows import AnnotationCsv
from warehouse.sources.listing import Intake, Listing, path_problem
from warehouse.sources.media_tree import MediaTree

_DURATION = re.compile("PT[0-9]{1,3}H[0-5]?[0-9]M[0-5]?[0-9]S")
_NONE = re.compile("PT0+H0+M0+S")


def read(source: Source) -> Listing:
    """The listing of a WebVid source. Raises ``SourceError`` if a CSV or the media root cannot be read."""
    intake = Intake(source)
    tree = MediaTree.walk(source.media_root)
    for split in SPLITS:
        if split in source.annotations:
            _read_split(intake, source.annotations[split], split, tree)
    tree.reject_refused(intake)
    return intake.listing


def _read_split(intake: Intake, file: Path, split: str, tree: MediaTree) -> None:
    for number, row in AnnotationCsv(file, ["videoid", "page_dir", "duration"]).rows(intake):
        native_id, page, duration = (row[column].strip() for column in ("videoid", "page_dir", "duration"))
        if problem := path_problem(native_id):
            intake.reject(file, number, "bad_path", f"videoid {native_id!r} {problem}")
        elif problem := path_problem(page):
            intake.reject(file, number, "bad_path", f"page_dir {page!r} {problem}")
        elif not re.fullmatch("[0-9]+", native_id):
            intake.reject(file, number, "malformed_row", f"videoid is {native_id!r}, expected digits")
        elif not _DURATION.fullmatch(duration) or _NONE.fullmatch(duration):
            intake.reject(file, number, "bad_time",
                          f"duration is {duration!r}, expected hours, minutes and seconds as in PT00H00M11S")
        else:
            path = _find(tree, native_id, page)
            if refusal := tree.refusal(path):
                intake.reject(file, number, "bad_path", refusal)
            else:
                intake.add(file, number, split, None, native_id, None, tree.media(path))


def _find(tree: MediaTree, native_id: str, page: str) -> str:
    def prefer(path: str) -> tuple[bool, bool]:
        return page not in path.split("/")[:-1], not path.endswith(".mp4")

    return tree.find(native_id, f"{page}/{native_id}.mp4".lstrip("/"), prefer)
