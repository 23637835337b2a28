"""Kinetics-400, -600 and -700: one CSV for each split, ten-second clips of YouTube videos.

Origin: https://github.com/cvdfoundation/kinetics-dataset (annotations and clips),
https://www.deepmind.com/open-source/kinetics (the data sets). Columns, in any order, others are ignored::

    label,youtube_id,time_start,time_end,split[,is_cc]
    abseiling,3caPS4FHFF8,36,46,train

``time_start`` and ``time_end`` are whole seconds. Test sets may be without ``label``. ``split`` may be absent; where
it is there it has to fit the split that the file is given for (Kinetics-600 and -700 write ``validate``).

The clip of the row above is looked for as ``3caPS4FHFF8_000036_000046.mp4`` anywhere below the media root: flat,
in folders of classes, in folders of splits, and in tar archives (the data sets are handed out as
``train/part_0.tar.gz`` and so on: decompress those to ``part_0.tar``, a compressed tar cannot be read in place).
Other video suffixes are accepted. Of several files the one in a folder of its split is taken, then one that is not in
an archive, then an mp4, then the one in the fewest folders, then the first by name.
"""

import re
from pathlib import Path

from warehouse.config import SPLITS, Source
from warehouse.sources.csv_rows import AnnotationCsv
from warehouse.sources.listing import YOUTUBE_ID, Intake, Listing, path_problem
from warehouse.sources.media_tree import MediaTree
from warehouse.sources.tar_index import Member, index_archives

SPLIT_NAMES = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
# File names hold six digits of seconds.
SECONDS = re.compile(r"([0-9]{1,6})(?:\.0*)?")


def read(source: Source) -> Listing:
    """The listing of a Kinetics source. Raises ``SourceError`` if a CSV or the media root cannot be read."""
    intake = Intake(source)
    tree = MediaTree.walk(source.media_root)
    archived = index_archives(intake, tree)
    for split in SPLITS:
        if split in source.annotations:
            _read_split(intake, source.annotations[split], split, tree, archived)
    tree.reject_refused(intake, tree.refused_archives)
    return intake.listing


def _read_split(intake: Intake, file: Path, split: str, tree: MediaTree, archived: dict[str, list[Member]]) -> None:
    columns = ["youtube_id", "time_start", "time_end"]
    table = AnnotationCsv(file, columns if split == "test" else ["label", *columns])
    for number, row in table.rows(intake):
        native_id, label = row["youtube_id"].strip(), row.get("label", "").strip()
        written_split = row.get("split", "").strip()
        interval = _interval_ms(row["time_start"].strip(), row["time_end"].strip())
        if problem := path_problem(native_id):
            intake.reject(file, number, "bad_path", f"youtube_id {native_id!r} {problem}")
        elif not YOUTUBE_ID.fullmatch(native_id):
            intake.reject(file, number, "malformed_row", f"youtube_id is {native_id!r}, expected 11 of A-Za-z0-9_-")
        elif interval is None:
            intake.reject(file, number, "bad_time",
                          f"time_start is {row['time_start']!r} and time_end {row['time_end']!r}, "
                          "expected whole seconds with 0 <= time_start < time_end < 1000000")
        elif written_split and written_split not in SPLIT_NAMES[split]:
            intake.reject(file, number, "unknown_split",
                          f"split is {written_split!r}, expected {' or '.join(SPLIT_NAMES[split])}")
        elif not label and split != "test":
            intake.reject(file, number, "malformed_row", f"label is empty, which it may be in a test set alone; "
                          f"read: {','.join(row.values())}")
        else:
            stem = f"{native_id}_{interval[0] // 1000:06d}_{interval[1] // 1000:06d}"
            path = tree.find(stem, f"{stem}.mp4", lambda path: _preference(path, split))
            member = _archived(archived.get(stem, []), split, path if stem in tree.by_stem else None, tree)
            if member:
                intake.add(file, number, split, label or None, native_id, interval, member.media)
            elif refusal := tree.refusal(path):
                intake.reject(file, number, "bad_path", refusal)
            else:
                intake.add(file, number, split, label or None, native_id, interval, tree.media(path))


def _interval_ms(start: str, end: str) -> tuple[int, int] | None:
    """Milliseconds from two texts of whole seconds, or ``None`` if they are not an interval."""
    first, last = SECONDS.fullmatch(start), SECONDS.fullmatch(end)
    if first is None or last is None or int(first[1]) >= int(last[1]):
        return None
    return 1000 * int(first[1]), 1000 * int(last[1])


def _preference(path: str, split: str) -> tuple[bool, bool]:
    """Sort key of files for one clip, the best first."""
    return not any(folder in SPLIT_NAMES[split] for folder in path.split("/")[:-1]), not path.endswith(".mp4")


def _archived(members: list[Member], split: str, file: str | None, tree: MediaTree) -> Member | None:
    """The best of a clip's archived copies, if it goes before ``file``: the best of those outside archives."""
    if not members:
        return None
    places = {f"{member.archive}/{member.name}": member for member in members}
    best = min(places, key=lambda place: (*_preference(place, split), place.count("/"), place))
    if file is None or file in tree.refused_files or _preference(best, split)[0] < _preference(file, split)[0]:
        return places[best]
    return None
