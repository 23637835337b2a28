"""AVA Actions v2.2: quarter hours of movies, cut into clips of ten seconds.

Origin: https://research.google.com/ava/download.html; movies at https://github.com/cvdfoundation/ava-dataset. Two files
without header for each of training and validation, ``ava_train_v2.2.csv`` with a box and action a line and, optional,
``ava_train_excluded_timestamps_v2.2.csv``::

    video_id,middle_frame_timestamp,x1,y1,x2,y2,action_id,person_id      -5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1
    video_id,timestamp                                                   -5KQ66BBWC4,0905

Boxes are shares of the frame, timestamps seconds in the movie. The people of the minutes 15 to 30 are annotated, at
the seconds 902 to 1798. VideoMAE V2 cuts those minutes of the training movies into clips of 300 frames, with the
movies brought to 30 frames a second: 90 clips of ten seconds a movie, 21k in all. We cut by time, ``[900, 910)`` to
``[1790, 1800)`` seconds, whatever the movie's own frame rate, and read the movie where it lies: it is neither copied
nor converted. A clip that holds an excluded timestamp is left out.

The movie is looked for as ``-5KQ66BBWC4.mkv``, ``.mp4``, ``.webm`` or another video suffix, anywhere below the media
root. It has to be the whole movie: in a copy that was cut to the quarter hour, the times are others. For frames
extracted from those, use the kind ``list``.

Actions belong to boxes, several to a person: clips have no class, so they are unlabelled. The lines are checked all the
same, and a movie whose lines are all wrong has no clips.
"""

import re
from pathlib import Path

from warehouse.config import Source
from warehouse.sources.listing import YOUTUBE_ID, Intake, Listing, path_problem
from warehouse.sources.media_tree import MediaTree
from warehouse.sources.text_lines import matching_lines

FIRST_S, END_S, CLIP_S = 900, 1800, 10
FIRST_TIMESTAMP, LAST_TIMESTAMP = 902, 1798
ACTIONS = 80
_SUFFIXES = (".mkv", ".mp4", ".webm")
_ACTION = re.compile(
    "(?P<video>[^,]*),(?P<time>[^,]*),(?P<box>[^,]*,[^,]*,[^,]*,[^,]*),(?P<action>[^,]*),(?P<person>[^,]*)"
)
_EXCLUDED = re.compile("(?P<video>[^,]*),(?P<time>[^,]*)")
_SHARE = re.compile(r"[0-9]{0,4}\.?[0-9]{0,20}")


def read(source: Source) -> Listing:
    """The listing of AVA. Raises ``SourceError`` if an annotation file or the media root cannot be read."""
    intake = Intake(source)
    tree = MediaTree.walk(source.media_root)
    for split in ("train", "val"):
        if split not in source.annotations:
            continue
        file = source.annotations[split]
        excluded = _excluded(intake, source.annotations.get(f"{split}_excluded"))
        for video_id, number in _movies(intake, file).items():
            path = tree.find(video_id, f"{video_id}.mkv", _preference)
            if refusal := tree.refusal(path):
                intake.reject(file, number, "bad_path", refusal)
            else:
                _cut(intake, file, number, split, video_id, tree, path, excluded.get(video_id, set()))
    tree.reject_refused(intake)
    return intake.listing


def _movies(intake: Intake, file: Path) -> dict[str, int]:
    """Movie → its first line that is right; wrong ones are rejected."""
    movies: dict[str, int] = {}
    form = "video_id,middle_frame_timestamp,x1,y1,x2,y2,action_id,person_id"
    for number, line in matching_lines(intake, file, _ACTION, form):
        video_id = line["video"]
        if _is_timed(intake, file, number, video_id, line["time"]):
            if not _is_box(line["box"]):
                intake.reject(file, number, "malformed_row",
                              f"the box is {line['box']}, expected x1,y1,x2,y2 with 0 <= x1 < x2 <= 1, y1 < y2 alike")
            elif not re.fullmatch("[0-9]{1,2}", line["action"]) or not 1 <= int(line["action"]) <= ACTIONS:
                intake.reject(file, number, "malformed_row",
                              f"action_id is {line['action']!r}, expected 1 to {ACTIONS}")
            elif not re.fullmatch("[0-9]{1,9}", line["person"]):
                intake.reject(file, number, "malformed_row", f"person_id is {line['person']!r}, expected a number")
            else:
                movies.setdefault(video_id, number)
    return movies


def _excluded(intake: Intake, file: Path | None) -> dict[str, set[int]]:
    """Movie → starts, in seconds, of the clips that hold an excluded timestamp."""
    starts: dict[str, set[int]] = {}
    if file is not None:
        for number, line in matching_lines(intake, file, _EXCLUDED, "video_id,timestamp"):
            if _is_timed(intake, file, number, line["video"], line["time"]):
                starts.setdefault(line["video"], set()).add(int(line["time"]) // CLIP_S * CLIP_S)
    return starts


def _is_timed(intake: Intake, file: Path, number: int, video_id: str, time: str) -> bool:
    """Whether a line begins with a movie and a timestamp of it; otherwise it is rejected."""
    if problem := path_problem(video_id):
        intake.reject(file, number, "bad_path", f"video_id {video_id!r} {problem}")
    elif not YOUTUBE_ID.fullmatch(video_id):
        intake.reject(file, number, "malformed_row", f"video_id is {video_id!r}, expected 11 of A-Za-z0-9_-")
    elif not re.fullmatch("[0-9]{1,4}", time) or not FIRST_TIMESTAMP <= int(time) <= LAST_TIMESTAMP:
        intake.reject(file, number, "bad_time",
                      f"the timestamp is {time!r}, expected whole seconds from {FIRST_TIMESTAMP} to {LAST_TIMESTAMP}")
    else:
        return True
    return False


def _is_box(text: str) -> bool:
    sides = text.split(",")
    if not all(_SHARE.fullmatch(side) and side.strip(".") for side in sides):
        return False
    left, top, right, bottom = map(float, sides)
    return left < right <= 1 and top < bottom <= 1


def _cut(
    intake: Intake, file: Path, number: int, split: str, video_id: str, tree: MediaTree, path: str, without: set[int]
) -> None:
    """Add the clips of a movie, all by its first line."""
    for start in range(FIRST_S, END_S, CLIP_S):
        if start not in without:
            interval = (1000 * start, 1000 * (start + CLIP_S))
            intake.add(file, number, split, None, video_id, interval, tree.media(path, interval))


def _preference(path: str) -> tuple[int]:
    suffix = Path(path).suffix.lower()
    return (_SUFFIXES.index(suffix) if suffix in _SUFFIXES else len(_SUFFIXES),)
