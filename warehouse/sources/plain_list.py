"""The list files that VideoMAE and VideoMAE V2 train from: a line is a path and numbers, separated by spaces.

Origin: https://github.com/OpenGVLab/VideoMAEv2, docs/DATASET.md. One file for each split, without a header; the forms
may be mixed, and each may have the number of a class behind it::

    abseiling/ztVtJ21FP30.mp4 3              a video and its class
    webvid2m/016401_016450/1017127174.mp4 0 -1       a whole video (`0 -1`)
    AVA/frames/clip/zlVkeKC6Ha8 9601 300             300 frames of a folder, from number 9601
    SomethingV2/frames/182040 1 58 140               58 frames from number 1, and a class

Paths are relative to the media root, or absolute and inside it; they may hold spaces: a video's path ends at its
suffix, and a folder's before the last two or three numbers (three, where the line ends with three). A line
``folder total class``, as VideoMAE V2 fine-tunes on frames from, reads as ``folder start total`` and is rejected where
the folder's frames do not fit it: put the start between them, ``folder 1 total class``.

A class is its number as text. The frames of a folder are numbered in their names (``img_00001.jpg``,
``image_000001.jpg``, ``00001.jpg``); which form it is, is looked up, and their rate is the source's ``frame_rate``.
The native id is the path; a clip of frames has times in it, as many as its numbers say at that rate, where number 1 is
the start.
"""

import os
import posixpath
import re
from pathlib import Path

from warehouse.config import SPLITS, Source
from warehouse.sources.frame_folders import FrameFolders
from warehouse.sources.listing import Intake, Listing, path_problem
from warehouse.sources.media_tree import VIDEO_SUFFIXES, MediaTree
from warehouse.sources.text_lines import matching_lines

_SUFFIX = "|".join(re.escape(suffix) for suffix in sorted(VIDEO_SUFFIXES))
_LINE = re.compile(
    rf"(?P<video>.+(?i:{_SUFFIX}))(?P<whole>[ \t]+0[ \t]+-1)?(?:[ \t]+(?P<label>[0-9]{{1,9}}))?"
    r"|(?P<folder>.*?[^ \t])[ \t]+(?P<first>[0-9]{1,9})[ \t]+(?P<count>[0-9]{1,9})(?:[ \t]+(?P<class>[0-9]{1,9}))?"
)
_FORM = "`path class`, `path 0 -1` or `folder start total`, with or without a class at the end"


def read(source: Source) -> Listing:
    """The listing of a list source.

    Raises ``SourceError`` if a list or the media root cannot be read, or if a list names folders of frames and the
    source has no frame rate.
    """
    intake = Intake(source)
    tree = MediaTree.walk(source.media_root)
    frames = None
    for split in SPLITS:
        if split not in source.annotations:
            continue
        file = source.annotations[split]
        for number, line in matching_lines(intake, file, _LINE, _FORM):
            path = _relative(line["video"] or line["folder"], source.media_root)
            if problem := path_problem(path):
                intake.reject(file, number, "bad_path", f"{path!r} {problem}")
                continue
            path = posixpath.normpath(path)
            if refusal := tree.refusal(path):
                intake.reject(file, number, "bad_path", refusal)
            elif _is_video(path) and not line["whole"] and line["label"] is None:
                intake.reject(file, number, "malformed_row", f"expected {_FORM}; read: {line[0]}")
            elif line["video"]:
                intake.add(file, number, split, line["label"], path, None, tree.media(path))
            else:
                frames = frames or FrameFolders.of_source(tree, source.name, source.frame_rate)
                _add_frames(intake, file, number, split, path, line, frames)
    tree.reject_refused(intake)
    return intake.listing


def _add_frames(
    intake: Intake, file: Path, number: int, split: str, path: str, line: re.Match[str], frames: FrameFolders
) -> None:
    first, count = int(line["first"]), int(line["count"])
    if count == 0:
        intake.reject(file, number, "bad_time", f"no frame is named, expected `folder start total`; read: {line[0]}")
        return
    try:
        media = frames.part(path, first, count)
    except LookupError as error:
        intake.reject(file, number, "bad_time", f"expected `folder start total`; {error}; read: {line[0]}")
        return
    before = max(first - 1, 0)
    start_ms, end_ms = (round(1000 * frame / frames.frame_rate) for frame in (before, before + count))
    intake.add(file, number, split, line["class"], path, (start_ms, end_ms), media)


def _is_video(path: str) -> bool:
    return posixpath.splitext(path)[1].lower() in VIDEO_SUFFIXES


def _relative(path: str, root: Path) -> str:
    """The path below the root, if it is an absolute one inside it; otherwise the path as it is."""
    inside = str(root).rstrip(os.sep) + os.sep
    return path.removeprefix(inside) if os.path.isabs(path) else path  # noqa: PTH117 - text of a list, not a path yet
