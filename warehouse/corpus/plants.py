"""What is wrong with the corpus on purpose: copies, leaks, broken files and bad rows, each with a line of truth.

A copy keeps its motion, thus its label; a mirrored one would not, and goes to the folder without labels.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from warehouse.corpus.derive import CUT_AFTER, CUT_BEFORE
from warehouse.corpus.layout import (
    CLASS_NAMES,
    FOLDER,
    SSV2,
    Entry,
    annotation_files,
    entry,
    first_entries,
    listed,
)
from warehouse.corpus.motions import MOTIONS

LEAST_CLIPS = 64  # fewer have no clip left for some of the plants

# Kind of copy -> from which source to which, in turn. The suffix must agree for those that keep the bytes.
_K4, _K6, _K7 = "kinetics400", "kinetics600", "kinetics700"
_COPIES: dict[str, tuple[tuple[str, str], ...]] = {
    "byte_copy": ((_K4, _K6), (_K7, _K4), (SSV2, SSV2), (_K6, FOLDER)),
    "re_encode": ((_K6, _K7), (_K4, FOLDER), (SSV2, FOLDER), (_K7, _K4)),
    "resize": ((_K4, _K6), (_K7, FOLDER), (SSV2, SSV2)),
    "trim": ((_K7, _K4), (_K6, FOLDER), (_K4, _K7)),
    "letterbox": ((_K4, FOLDER), (_K6, _K7), (SSV2, FOLDER)),
    "mirror": ((_K4, FOLDER), (_K6, FOLDER), (SSV2, FOLDER)),
}
_LEAKS: dict[str, tuple[tuple[str, str], ...]] = {
    "val_byte_copy_in_train": ((_K4, _K6), (SSV2, SSV2), (_K7, FOLDER), (_K6, _K4)),
    "val_re_encode_in_train": ((_K4, FOLDER), (_K6, _K7), (SSV2, FOLDER), (_K4, _K4)),
}


@dataclass(frozen=True)
class Truth:
    """A line of truth.csv: ``path`` is ``kind``, made from the file ``of`` (may be empty); relative to the corpus."""

    path: str
    kind: str
    of: str
    note: str


@dataclass(frozen=True)
class Plan:
    """All that a corpus consists of; paths are relative to it.

    ``rendered`` are the listings to draw; ``derived`` maps a path to (kind in DERIVE, path it is made from);
    ``texts`` maps a path to its content.
    """

    rendered: tuple[Entry, ...]
    derived: dict[str, tuple[str, str]]
    texts: dict[str, str]
    truth: tuple[Truth, ...]


class _Planter:
    """The listings so far, what is made of what, and which clips have had something done to them."""

    def __init__(self, clips: int, seed: int) -> None:
        self.clips, self.seed = clips, seed
        self.rendered = first_entries(clips, seed)
        self.entries = list(self.rendered)
        self.derived: dict[str, tuple[str, str]] = {}
        self.truth: list[Truth] = []
        self.used: set[str] = set()

    def pick(self, source: str, split: str, only: Collection[str] | None = None) -> Entry:
        """The first rendered clip that nothing was done to yet (of the paths ``only``)."""
        for e in self.rendered:
            free = e.path not in self.used and (only is None or e.path in only)
            if free and (e.source, e.split) == (source, split):
                self.used.add(e.path)
                return e
        raise ValueError(f"{self.clips} clips are too few: no {split} clip of {source} is left to copy; ask for more")

    def add(self, new: Entry, kind: str, of: str, note: str, made: bool = True) -> None:
        """List ``new``; its file is made as DERIVE says, or not at all."""
        self.entries.append(new)
        if made:
            self.derived[new.path] = (kind, of)
        self.truth.append(Truth(new.path, kind, of, note))

    def share(self) -> None:
        """List Kinetics clips in the later versions too, some in another split, some without their file."""
        alone = []
        twice: dict[str, Entry] = {}
        for index, e in enumerate(self.rendered):
            # Along diagonals of (motion, round), so that every version stays balanced.
            turn = (index // len(MOTIONS) + 2 * (index % len(MOTIONS))) % 6
            others = {_K4: ((_K6,), (_K6,), (_K6, _K7), (_K7,), (), ()), _K6: ((_K7,), (_K7,), (), (), (), ())}
            versions = others[e.source][turn] if e.source in others else ()
            for version in versions:
                twin = listed(version, e.split, e.native_id, e.start, e.clip)
                twice[twin.path] = e
                self.add(twin, "shared", e.path, "same id and interval")
            if not versions:
                alone.append(e.path)
        for number in range(1 + self.clips // 200):
            self._move_to_val(twice)
            self._lose((_K6, _K7)[number % 2], twice)
        self._overlap(alone)

    def copies(self) -> None:
        """Copies under other ids, of training clips and of validation clips; always into training."""
        number = 2 + self.clips // 200
        for split, table in (("train", _COPIES), ("val", _LEAKS)):
            for kind, routes in table.items():
                for turn in range(number):
                    origin, target = routes[turn % len(routes)]
                    e = self.pick(origin, split)
                    clip = e.clip
                    if kind == "trim":
                        clip = replace(clip, first=clip.first + CUT_BEFORE, frames=clip.frames - CUT_BEFORE - CUT_AFTER)
                    new = entry(target, "train", f"{self.seed}/{kind}/{turn}", clip)
                    self.add(new, kind, e.path, f"of {split} of {origin}")

    def broken(self) -> None:
        """Files that cannot be decoded in full, or are not there."""
        for kind, source, note in (
            ("empty", _K6, "no bytes"),
            ("truncated", _K4, "cut at 55 %, index in front: it opens, and the end does not decode"),
            ("no_moov", _K7, "cut at 55 %, index at the end and lost"),
            ("no_video", _K6, "sound only"),
            ("no_video", FOLDER, "sound only"),
            ("missing", _K7, "listed, and nowhere"),
            ("missing", SSV2, "listed, and nowhere"),
        ):
            e = self.pick(source, "train")
            new = entry(source, "train", f"{self.seed}/{kind}/{source}", e.clip)
            self.add(new, kind, e.path if kind in ("truncated", "no_moov") else "", note, made=kind != "missing")

    def _move_to_val(self, twice: dict[str, Entry]) -> None:
        """Make one clip that is training elsewhere validation in Kinetics-700, where it also is."""
        for place, e in enumerate(self.entries):
            origin = twice.get(e.path)
            if origin is not None and (e.source, e.split) == (_K7, "train") and origin.path not in self.used:
                self.used.add(origin.path)
                moved = listed(_K7, "val", e.native_id, e.start, e.clip)
                self.entries[place] = moved
                del self.derived[e.path]
                self.truth.remove(Truth(e.path, "shared", origin.path, "same id and interval"))
                self.derived[moved.path] = ("shared", origin.path)
                self.truth.append(Truth(moved.path, "split_conflict", origin.path, "same id and interval, val here"))
                return

    def _lose(self, version: str, twice: dict[str, Entry]) -> None:
        """Leave one shared clip of a version without its file there."""
        for path, origin in twice.items():
            if path.startswith(f"{version}/") and path in self.derived and origin.path not in self.used:
                self.used.add(origin.path)
                del self.derived[path]
                self.truth.remove(Truth(path, "shared", origin.path, "same id and interval"))
                self.truth.append(Truth(path, "missing", origin.path, "listed here too, the file is only there"))
                return

    def _overlap(self, alone: Sequence[str]) -> None:
        """Make a Kinetics-700 clip an interval of a Kinetics-400 clip's video that starts a second later."""
        earlier = self.pick(_K4, "train", alone)
        motion = earlier.clip.scene.motion
        same_motion = [e.path for e in self.rendered if e.clip.scene.motion == motion]
        later = self.pick(_K7, "train", same_motion)
        clip = replace(earlier.clip, first=earlier.clip.fps)
        new = listed(_K7, "train", earlier.native_id, earlier.start + 1, clip)
        for entries in (self.rendered, self.entries):
            entries[entries.index(later)] = new
        self.used.add(new.path)
        self.truth.append(Truth(new.path, "overlap", earlier.path, "same id, starts 1 s later"))


def plan(clips: int, seed: int) -> Plan:
    """What a corpus of ``clips`` rendered clips consists of. Raises ValueError if they are too few."""
    if clips < LEAST_CLIPS:
        raise ValueError(f"{clips} clips are too few for what is planted among them: ask for {LEAST_CLIPS} or more")
    planter = _Planter(clips, seed)
    planter.share()
    planter.copies()
    planter.broken()
    texts = annotation_files(planter.entries)
    planter.truth += _spoil(texts)
    return Plan(tuple(planter.rendered), planter.derived, texts, tuple(planter.truth))


def _spoil(texts: dict[str, str]) -> list[Truth]:
    """Put rows that cannot become a clip into annotation files; their notes start with the 1-based line or item."""
    truth = []
    for source, line, row, kind, note in (
        (_K4, 4, "{label},spoiled-one,12", "malformed_row", "no time_end and no split"),
        (_K4, 9, "{label},spoiled-two,soon,14,train", "bad_time", "time_start is no number"),
        (_K6, 6, "{label},spoiled-thr,31,29,train", "bad_time", "ends before it starts"),
        (_K7, 5, "{second}", "duplicate_row", "repeats line 2"),
    ):
        path = f"{source}/annotations/train.csv"
        lines = texts[path].splitlines()
        lines.insert(line - 1, row.format(label=CLASS_NAMES[source][MOTIONS[0]], second=lines[1]))
        texts[path] = "\n".join(lines) + "\n"
        truth.append(Truth(path, kind, "", f"{line}: {note}"))
    path = f"{SSV2}/train.json"
    items = json.loads(texts[path])
    items.insert(2, {"id": "4", "label": "moving a mug up", "placeholders": ["a mug"]})
    texts[path] = json.dumps(items, indent=1)
    truth.append(Truth(path, "malformed_row", "", "3: no template"))
    return truth
