"""A snapshot handed to others: as WebDataset tars of its own, or as index files over the shards that there are."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from warehouse.catalog.membership import SnapshotError
from warehouse.catalog.samples import Sample
from warehouse.catalog.snapshots import open_snapshot, snapshot_splits
from warehouse.shards.errors import ShardError
from warehouse.shards.packing import SHARD_BYTES
from warehouse.shards.reader import member_name, read_sample
from warehouse.store import Store, fingerprint

_CLIPS = ("clip_id", "source", "split", "class_id", "weight", "stride", "frames", "width", "height", "sha256", "file")


class ExportError(RuntimeError):
    """A collection cannot be exported to where it is wanted."""


def export_tars(store: Store, snapshot_id: str, folder: Path) -> dict[str, Any]:
    """Copy the clips of a snapshot into tars ``SPLIT-NUMBER.tar`` of a new folder; returns its ``collection.json``.

    A sample of the tars is the video as it is stored, ``cls`` (the class id; not of unlabelled clips) and ``json``.
    Clips are mixed by a hash of their ids and the snapshot's, so reading in order is reading at random. The same
    snapshot gives the same bytes.

    Raises:
        ExportError: the folder is there already.
        SnapshotError, ShardError: the snapshot cannot be opened, or a clip not be read.
    """
    with _new_folder(folder) as new:
        described = _described(store, snapshot_id)
        rows: list[dict[str, Any]] = []
        for split in snapshot_splits(store, snapshot_id):
            paths = []
            samples = open_snapshot(store, snapshot_id, split)
            mixed = sorted(samples, key=lambda sample: fingerprint(snapshot_id, sample.clip_id))
            for number, shard in enumerate(_by_size(mixed)):
                name = f"{split}-{number:06d}.tar"
                with tarfile.open(new / name, "w", format=tarfile.USTAR_FORMAT) as tar:
                    for sample in shard:
                        _add(tar, sample, described["classes"])
                        rows.append(_row(sample, name))
                paths.append(name)
            described["splits"][split] = {"paths": paths}
        return _finish(new, described, rows)


def export_index(store: Store, snapshot_id: str, folder: Path) -> dict[str, Any]:
    """Write index files for DALI's ``fn.readers.webdataset`` into a new folder; returns its ``collection.json``.

    There is one for each split and shard, ``SPLIT/SHARD.idx``, of just the snapshot's clips: nothing is copied, and the
    reader reads nothing else. ``collection.json`` has ``paths`` and ``index_paths`` of each split as the reader takes
    them; ``clips.csv`` has the class, stride, size and hash of each clip, for each split in the order of the files and
    of the clips in them.

    Raises:
        ExportError, SnapshotError: as of :func:`export_tars`.
        ShardError: a shard's members are not where the catalog says.
    """
    with _new_folder(folder) as new:
        described = _described(store, snapshot_id)
        rows: list[dict[str, Any]] = []
        for split in snapshot_splits(store, snapshot_id):
            (new / split).mkdir()
            paths, index_paths = [], []
            of_shard: dict[Path, list[Sample]] = {}
            for sample in open_snapshot(store, snapshot_id, split):
                of_shard.setdefault(sample.shard, []).append(sample)
            for shard, samples in sorted(of_shard.items()):
                index = Path(split) / f"{shard.stem}.idx"
                placed = _index_lines(shard, samples)
                lines = [line for _, line in placed]
                (new / index).write_text("\n".join([f"v1.2 {len(lines)}", *lines, ""]))
                paths.append(str(shard))
                index_paths.append(str(folder.absolute() / index))
                rows += (_row(sample, str(shard)) for sample, _ in placed)
            described["splits"][split] = {"paths": paths, "index_paths": index_paths}
        return _finish(new, described, rows)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the one wanted, which takes its place when all is written; a killed one's leavings go first."""
    if folder.exists():
        raise ExportError(f"{folder} is there already. Name another folder, or remove it")
    new = folder.with_name(f".{folder.name}.reelhouse-export")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _described(store: Store, snapshot_id: str) -> dict[str, Any]:
    known = store.rows("snapshots", snapshot_id)
    if not known:
        raise SnapshotError(f"no snapshot {snapshot_id!r} under {store.root}")
    return {"snapshot_id": snapshot_id, "collection": known[0]["collection"], "classes": known[0]["classes"],
            "splits": {}}  # fmt: skip


def _finish(new: Path, described: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    with (new / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, _CLIPS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (new / "collection.json").write_text(json.dumps(described, indent=1) + "\n")
    return described


def _row(sample: Sample, file: str) -> dict[str, Any]:
    return {"clip_id": sample.clip_id, "source": sample.source, "split": sample.split, "class_id": sample.class_id,
            "weight": sample.weight, "stride": sample.stride, "frames": sample.frames, "width": sample.width,
            "height": sample.height, "sha256": sample.sha256, "file": file}  # fmt: skip


def _by_size(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    shard: list[Sample] = []
    held = 0
    for sample in samples:
        if shard and held + sample.size > SHARD_BYTES:
            yield shard
            shard, held = [], 0
        shard.append(sample)
        held += sample.size
    if shard:
        yield shard


def _add(tar: tarfile.TarFile, sample: Sample, classes: Sequence[str] | None) -> None:
    name = None if sample.class_id is None or classes is None else classes[sample.class_id]
    about = {"clip_id": sample.clip_id, "source": sample.source, "split": sample.split, "class_name": name}
    members = {member_name(sample).partition(".")[2]: read_sample(sample), "json": json.dumps(about).encode()}
    if sample.class_id is not None:
        members["cls"] = str(sample.class_id).encode()
    for suffix, data in members.items():
        # No owner and no time: equal content gives equal tars.
        member = tarfile.TarInfo(f"{sample.clip_id}.{suffix}")
        member.size, member.mode = len(data), 0o444
        tar.addfile(member, io.BytesIO(data))


def _index_lines(shard: Path, samples: Sequence[Sample]) -> list[tuple[Sample, str]]:
    """``extension offset size name`` of each component, a line for each clip, in the order of the shard."""
    wanted = {sample.clip_id: sample for sample in samples}
    members: dict[str, list[str]] = {}
    placed = set()
    with tarfile.open(shard) as tar:
        for entry in tar:
            key, _, suffix = entry.name.partition(".")
            if key in wanted:
                members.setdefault(key, []).append(f"{suffix} {entry.offset_data} {entry.size} {entry.name}")
                if (entry.offset_data, entry.size) == (wanted[key].offset, wanted[key].size):
                    placed.add(key)
    if lost := sorted(wanted.keys() - placed):
        raise ShardError(f"{shard}: clip {lost[0]} is not where the catalog says. Materialise `shards` and `catalog`.")
    return [(wanted[key], " ".join(parts)) for key, parts in members.items()]
