"""The clips of the learning benchmark: a corpus of its own, taken through the real steps to three snapshots."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from warehouse import steps
from warehouse.catalog.snapshots import Sample, open_snapshot, take_snapshot
from warehouse.config import Collection, Config, Source, Taxonomy, Training
from warehouse.corpus.build import build
from warehouse.corpus.layout import ALIASES, FOLDER, KINETICS, SSV2
from warehouse.probing import probe_sources
from warehouse.shards.executing import execute_plans
from warehouse.step_result import Progress
from warehouse.store import Store

CORPUS_SEED = 1
"""Not the demo's, on which the recipe was chosen."""
STRIDE = 4
UNLABELLED, LABELLED, HELD_OUT = "unlabeled_hybrid", "labelled", "held_out"
TAXONOMY = "motions"


@dataclass(frozen=True)
class Clips:
    """What is trained and scored on. ``held_out`` is what no training split holds, nor a copy of it."""

    unlabelled: list[Sample]
    labelled: list[Sample]
    held_out: list[Sample]
    class_names: tuple[str, ...]

    @property
    def labelled_per_class(self) -> list[int]:
        """Number of labelled training clips of each class."""
        classes = [sample.class_id for sample in self.labelled]
        return [classes.count(class_id) for class_id in range(len(self.class_names))]


def prepare(work: Path, clips: int) -> Clips:
    """Render ``clips`` clips and curate, pack and list them, under ``work``; what is there already stays.

    Raises:
        FileExistsError: ``work`` holds a corpus of another number of clips.
    """
    build(work / "corpus", clips, CORPUS_SEED)
    config = _config(work)
    store = Store(config.data_root)
    steps.write_sources(store, config)
    for source in config.sources:
        steps.list_source(store, source)
    with _Bar("probe") as progress:
        probe_sources(store, config, config.sources, progress)
    steps.search_duplicates(store, config)
    steps.decide(store, config)
    steps.label(store, config)
    for source in config.sources:
        steps.plan_source(store, config, source)
    with _Bar("shards") as progress:
        execute_plans(store, config, config.sources, progress)
    taken = {collection.name: take_snapshot(store, config, collection) for collection in config.collections}

    def samples(collection: str, split: str) -> list[Sample]:
        return open_snapshot(store, taken[collection]["snapshot_id"], split)

    [class_names] = {tuple(taken[name]["classes"]) for name in (LABELLED, HELD_OUT)}
    return Clips(samples(UNLABELLED, "train"), samples(LABELLED, "train"), samples(HELD_OUT, "val"), class_names)


def _config(work: Path) -> Config:
    """Kinetics-400 is the labelled set; the validation clips of all three Kinetics are held out."""
    return Config(
        path=Path(__file__),
        data_root=work / "data",
        rendition="np256",
        sources=tuple(_source(work / "corpus", name, place) for place, name in enumerate((*KINETICS, SSV2, FOLDER))),
        collections=(
            Collection(UNLABELLED, ("train",), None, 0),
            Collection(LABELLED, ("train",), TAXONOMY, 0),
            Collection(HELD_OUT, ("val",), TAXONOMY, 0),
        ),
        taxonomies=(Taxonomy(TAXONOMY, ALIASES),),
        training=Training("smoke", UNLABELLED, LABELLED, LABELLED),
        workers=os.cpu_count() or 1,
    )


def _source(corpus: Path, name: str, priority: int) -> Source:
    root = corpus / name
    collections = [UNLABELLED]
    if name in KINETICS:
        kind, namespace, media_root = "kinetics", "youtube", root / "videos"
        annotations = {split: root / "annotations" / f"{split}.csv" for split in ("train", "val")}
        collections += [LABELLED, HELD_OUT] if name == KINETICS[0] else [HELD_OUT]
    elif name == SSV2:
        kind, namespace, media_root = "something_something_v2", "something_something_v2", root / "videos"
        files = {"labels": "labels", "train": "train", "val": "validation"}
        annotations = {role: root / f"{file}.json" for role, file in files.items()}
    else:
        kind, namespace, media_root, annotations = "folder", name, root, {}
    return Source(
        name=name,
        kind=kind,
        media_root=media_root,
        annotations=annotations,
        collections=tuple(collections),
        stride=STRIDE,
        licence="rendered by Reelhouse, Apache-2.0",
        namespace=namespace,
        priority=priority,
        columns={},
        splits={},
        where={},
    )


class _Bar:
    """A progress bar over all sources, as the steps call it."""

    def __init__(self, what: str) -> None:
        self.bar = tqdm(desc=what, unit="clip")
        self.sources: dict[str, Progress] = {}

    def __enter__(self) -> Callable[[Progress], None]:
        return self._show

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def _show(self, progress: Progress) -> None:
        self.sources[progress.source] = progress
        self.bar.total = sum(each.total for each in self.sources.values())
        self.bar.update(sum(each.done for each in self.sources.values()) - self.bar.n)
