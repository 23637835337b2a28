"""The real clips of the learning benchmark: UT-Interaction, squashed and curated, and the folds that it is scored in.

The official protocol leaves one sequence out inside a set. Here each of five folds leaves two sequences of either set
out and learns from the other 16 of both, so that each of the 120 clips is scored once by a model that has seen nothing
of its sequence, nor any of the unlabelled clips that were cut from it.

The crops of the published clips give the class away, and so does their length. So every clip becomes one of ``SIDE`` ×
``SIDE`` pixels and ``FRAMES`` frames before anything else, whatever its shape and length were.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.learning_data import curate, source
from warehouse.catalog.snapshots import Sample
from warehouse.config import Collection, Config, Taxonomy, Training
from warehouse.corpus.encoding import read_video, write_video
from warehouse.engine import available_cores
from warehouse.store import replace_file

SIDE, FRAMES, FPS = 96, 40, 25
SET_SEQUENCES = 10  # set 1 has the sequences 1 to 10, set 2 has 11 to 20
FOLDS = 5
ACTIONS, SIGNS = "ut_interaction", "asl_words"
UNLABELLED, LABELLED = "unlabelled", "labelled"


@dataclass(frozen=True)
class Clip:
    """A row of the data set's own CSV: ``label`` and ``sequence`` of a clip, and its size and length as published."""

    path: str
    label: str
    sequence: int
    official: bool
    shape: tuple[int, int, int]
    """Width, height, frames."""


@dataclass(frozen=True)
class Fold:
    """What is trained and scored on in one fold. ``unlabelled`` holds the clips of ``labelled`` too, and never one of
    ``held_out`` or of their sequences."""

    unlabelled: list[Sample]
    labelled: list[Sample]
    held_out: list[Sample]


@dataclass(frozen=True)
class RealClips:
    """The folds, and what is scored without looking at a picture: top-1 of the nearest width, height and length."""

    folds: tuple[Fold, ...]
    class_names: tuple[str, ...]
    top1_metadata_only: float


def prepare(work: Path, data: Path) -> RealClips:
    """Squash, curate, pack and list the clips of ``data`` under ``work``; what is there already stays.

    Raises:
        FileNotFoundError: ``data`` has no ``ut_interaction/labels.csv``.
        ValueError: the curation left official clips out, so that not all would be scored.
    """
    clips = read_labels(data / ACTIONS / "labels.csv")
    signs = sorted((data / SIGNS).rglob("*.mp4"))
    squashed = work / "squashed"
    tasks = [(data / ACTIONS / clip.path, squashed / ACTIONS / _name(clip.path)) for clip in clips]
    tasks += [(path, squashed / SIGNS / path.name) for path in signs]
    for origin, target in tqdm([task for task in tasks if not task[1].exists()], desc="squash", unit="clip"):
        squash(origin, target)
    rows = [f"{_name(clip.path)},{clip.label if clip.official else ''}" for clip in clips]
    replace_file(squashed / "labels.csv", "\n".join(["path,label", *rows, ""]).encode())
    store, snapshots = curate(_config(work, squashed))
    sequence = {_name(clip.path): clip.sequence for clip in clips}
    by_id = {row["clip_id"]: sequence[row["native_id"]] for row in store.rows("clips", ACTIONS)}
    unlabelled, labelled = snapshots[UNLABELLED].samples("train"), snapshots[LABELLED].samples("train")
    official = sum(clip.official for clip in clips)
    if len(labelled) != official:
        raise ValueError(
            f"{len(labelled)} of {official} official clips are left under {work}: see its table `decisions`"
        )
    folds = []
    for number in range(FOLDS):
        gone = held_out_sequences(number)
        # Signs are of no sequence, and stay in every fold.
        seen = [s for s in unlabelled if by_id.get(s.clip_id) not in gone]
        train = [s for s in labelled if by_id[s.clip_id] not in gone]
        folds.append(Fold(seen, train, [s for s in labelled if by_id[s.clip_id] in gone]))
    return RealClips(tuple(folds), snapshots[LABELLED].class_names, metadata_only([c for c in clips if c.official]))


def read_labels(path: Path) -> list[Clip]:
    """The rows of UT-Interaction's ``labels.csv``."""
    with path.open(newline="") as file:
        return [
            Clip(
                row["path"],
                row["label"],
                int(row["sequence"]),
                row["official"] == "1",
                (int(row["width"]), int(row["height"]), int(row["frames"])),
            )
            for row in csv.DictReader(file)
        ]


def held_out_sequences(fold: int) -> tuple[int, ...]:
    """Two neighbouring sequences of either set."""
    return tuple(first + 2 * fold + place for first in (1, 1 + SET_SEQUENCES) for place in (0, 1))


def squash(origin: Path, target: Path) -> None:
    """Write a video as one of ``SIDE`` × ``SIDE`` pixels and ``FRAMES`` frames that are spread over all of it."""
    frames, _ = read_video(origin)
    taken = np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)
    pixels = np.stack([cv2.resize(frames[i], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for i in taken])
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(f".{os.getpid()}.partial.mp4")
    write_video(scratch, pixels.astype(np.uint8), FPS)
    scratch.replace(target)


def metadata_only(clips: Sequence[Clip]) -> float:
    """Top-1 over all folds of the nearest training clip by width, height and number of frames as published.

    Each number is scaled by its spread over the training clips; ties go to the class with most of the nearest clips.
    """
    right: list[bool] = []
    for number in range(FOLDS):
        gone = held_out_sequences(number)
        train = [clip for clip in clips if clip.sequence not in gone]
        shapes = np.array([clip.shape for clip in train], float)
        for clip in (clip for clip in clips if clip.sequence in gone):
            distances = np.abs((shapes - clip.shape) / shapes.std(axis=0)).sum(axis=1)
            nearest = [train[i].label for i in np.flatnonzero(np.isclose(distances, distances.min()))]
            right.append(max(sorted(set(nearest)), key=nearest.count) == clip.label)
    return sum(right) / len(right)


def _name(path: str) -> str:
    return str(Path(path).with_suffix(".mp4"))


def _config(work: Path, squashed: Path) -> Config:
    both, licence = (UNLABELLED, LABELLED), "none stated; for testing alone"
    return Config(
        path=Path(__file__),
        data_root=work / "data",
        rendition="np256",
        sources=(
            source(ACTIONS, "folder", squashed / ACTIONS, {"csv": squashed / "labels.csv"}, both, 0, licence, ACTIONS),
            source(SIGNS, "folder", squashed / SIGNS, {}, (UNLABELLED,), 1, "CC-BY-4.0", SIGNS),
        ),
        collections=(Collection(UNLABELLED, ("train",), None, 0), Collection(LABELLED, ("train",), ACTIONS, 0)),
        taxonomies=(Taxonomy(ACTIONS, {}),),
        training=Training("smoke", UNLABELLED, LABELLED, LABELLED),
        workers=available_cores(),
    )
