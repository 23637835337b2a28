"""Which clips there are, who lists them under which name, and the annotation files that say so.

Kinetics-400, -600 and -700 list many of the same YouTube intervals, each in its own split, and call the same
motion by different names; Something-Something V2 has a taxonomy of its own; the self-collected folder has none.
"""

import base64
import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from warehouse.corpus.motions import MOTIONS, Scene, generator

KINETICS = ("kinetics400", "kinetics600", "kinetics700")
SSV2, FOLDER = "ssv2", "selfcollected"

# Native class name of each motion, in the order of MOTIONS; Kinetics-400 has the merged names.
CLASS_NAMES: dict[str, dict[str, str]] = {
    source: dict(zip(MOTIONS, names, strict=True))
    for source, names in {
        "kinetics400": (
            "drifting left", "drifting right", "drifting up", "drifting down",
            "zooming in", "zooming out", "turning clockwise", "turning anticlockwise",
        ),
        "kinetics600": (
            "sliding left", "sliding right", "drifting up", "drifting down",
            "zooming in", "zooming out", "rotating clockwise", "rotating anticlockwise",
        ),
        "kinetics700": (
            "drifting left", "drifting right", "rising", "sinking",
            "moving closer", "moving away", "turning clockwise", "turning counterclockwise",
        ),
        SSV2: (
            "Moving [something] to the left", "Moving [something] to the right",
            "Moving [something] up", "Moving [something] down",
            "Approaching [something] with your camera", "Moving away from [something] with your camera",
            "Turning [something] clockwise", "Turning [something] anticlockwise",
        ),
    }.items()
}

# Native Kinetics class name -> merged name, for the names that differ: what `aliases` in sources.toml says.
ALIASES: dict[str, str] = {
    CLASS_NAMES[source][motion]: CLASS_NAMES["kinetics400"][motion]
    for source in KINETICS
    for motion in MOTIONS
    if CLASS_NAMES[source][motion] != CLASS_NAMES["kinetics400"][motion]
}

# Share of the rendered clips that is drawn for each source, in percent. Kinetics lists shared clips on top.
_SHARES = {"kinetics400": 30, "kinetics600": 20, "kinetics700": 15, SSV2: 20, FOLDER: 15}
_SIZES = ((128, 96), (112, 84), (96, 72), (128, 72), (96, 96))  # width, height: pixels
_FPS = {SSV2: 12, FOLDER: 30}  # Something-Something V2's own; Kinetics: 25
_FRAMES = {SSV2: (36, 49)}  # least and one more than the most; else as below
_FRAMES_OF_OTHERS = (48, 65)
_THINGS = ("a mug", "a book", "a pen", "a cushion", "a shoe", "two coins")
_ALBUMS = ("2021", "2022 summer holiday", "phone")


@dataclass(frozen=True)
class Clip:
    """A piece of a scene: frames ``first`` to ``first + frames - 1`` at ``fps`` frames per second."""

    scene: Scene
    first: int
    frames: int
    fps: int


@dataclass(frozen=True)
class Entry:
    """One source's listing of a clip, and the file that should hold it.

    ``start`` is in whole seconds of the video ``native_id``; ``path`` is relative to the corpus.
    """

    source: str
    split: str
    native_id: str
    start: int
    clip: Clip
    path: str

    @property
    def end(self) -> int:
        """Whole seconds: Kinetics lists no fractions."""
        return self.start + -(-self.clip.frames // self.clip.fps)


def first_entries(clips: int, seed: int) -> list[Entry]:
    """The ``clips`` distinct clips, each listed by the source that it is drawn for; motions take turns."""
    entries = []
    for source, number in _numbers(clips).items():
        for index in range(number):
            name = f"{seed}/{source}/{index}"
            rng = generator(f"{name}/clip")
            width, height = _SIZES[rng.integers(len(_SIZES))]
            frames = int(rng.integers(*_FRAMES.get(source, _FRAMES_OF_OTHERS)))
            scene = Scene(name, MOTIONS[index % len(MOTIONS)], width, height)
            clip = Clip(scene, 0, frames, _FPS.get(source, 25))
            # Along diagonals of (motion, round): 22 %, and even over the motions also in a short list.
            held_out = source != FOLDER and (index // len(MOTIONS) + index % len(MOTIONS)) % 9 in (0, 4)
            entries.append(entry(source, "val" if held_out else "train", name, clip))
    return entries


def entry(source: str, split: str, name: str, clip: Clip) -> Entry:
    """A listing under an id and a start drawn from ``name``."""
    native_id, start = _native_id(source, name), int(generator(f"{name}/start").integers(0, 280))
    return listed(source, split, native_id, start, clip)


def listed(source: str, split: str, native_id: str, start: int, clip: Clip) -> Entry:
    """A listing of an interval, with the path that the source's layout gives it."""
    draft = Entry(source, split, native_id, start, clip, "")
    interval = f"{native_id}_{draft.start:06d}_{draft.end:06d}.mp4"
    path = {
        "kinetics400": f"videos/{CLASS_NAMES['kinetics400'][clip.scene.motion]}/{interval}",
        "kinetics600": f"videos/{interval}",
        "kinetics700": f"videos/{split}/{interval}",
        SSV2: f"videos/{native_id}.webm",
        FOLDER: f"{native_id}.mp4",
    }[source]
    return Entry(source, split, native_id, start, clip, f"{source}/{path}")


def annotation_files(entries: Sequence[Entry]) -> dict[str, str]:
    """Path, relative to the corpus, -> text of every annotation file."""
    files = {}
    for source in KINETICS:
        for split in ("train", "val"):
            rows = [e for e in entries if (e.source, e.split) == (source, split)]
            files[f"{source}/annotations/{split}.csv"] = _kinetics_csv(rows)
    templates = sorted(CLASS_NAMES[SSV2].values())
    # labels.json has the templates without their brackets, the lists have them with: so it is in the original.
    labels = {_plain(template): str(index) for index, template in enumerate(templates)}
    files[f"{SSV2}/labels.json"] = json.dumps(labels, indent=1)
    for split, name in (("train", "train"), ("val", "validation")):
        rows = [e for e in entries if (e.source, e.split) == (SSV2, split)]
        files[f"{SSV2}/{name}.json"] = json.dumps([_ssv2_item(e) for e in rows], indent=1)
    return files


def _numbers(clips: int) -> dict[str, int]:
    """Clips drawn for each source: shares rounded down, what is left goes to the first sources."""
    numbers = {source: clips * share // 100 for source, share in _SHARES.items()}
    for source in list(numbers)[: clips - sum(numbers.values())]:
        numbers[source] += 1
    return numbers


def _native_id(source: str, name: str) -> str:
    digest = hashlib.blake2b(name.encode(), digest_size=9).digest()
    if source == SSV2:
        return str(1 + int.from_bytes(digest) % 10**9)
    if source == FOLDER:
        return f"{_ALBUMS[digest[0] % len(_ALBUMS)]}/VID_{digest[1:6].hex()}"
    return base64.urlsafe_b64encode(digest).decode()[:11]  # as on YouTube: A-Z, a-z, 0-9, - and _


def _kinetics_csv(rows: Sequence[Entry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
    for e in rows:
        writer.writerow((CLASS_NAMES[e.source][e.clip.scene.motion], e.native_id, e.start, e.end, e.split))
    return text.getvalue()


def _ssv2_item(e: Entry) -> dict[str, object]:
    template = CLASS_NAMES[SSV2][e.clip.scene.motion]
    thing = _THINGS[int(generator(f"{e.native_id}/thing").integers(len(_THINGS)))]
    label = template.replace("[something]", thing).lower()
    return {"id": e.native_id, "label": label, "template": template, "placeholders": [thing]}


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")
