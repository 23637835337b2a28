"""A run that extracts features: a vector for each window of each clip of a snapshot, into the table `features`.

The clips are worked on in units of a few thousand windows, each of which becomes a file below the run's folder, whole
or not at all: a run that was stopped goes on with the units that are missing, and no more than a unit is in memory.
Ranks take units in turn. At the end rank 0 joins all of them into the run's part of the table.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from assets.derived_stages import FeatureSettings
from assets.ending import anywhere, patient_group
from assets.run_clips import Say, open_split
from assets.stages import RunSpec
from loaders.failures import FailedClip, FailureLog
from loaders.window_loader import Window, WindowLoader
from loaders.windows import WindowConfig, window_count
from model.features import FeatureConfig, FeatureExtractor
from model.objectives import mixed_precision
from model.transfer import transfer
from model.weights import read_config
from warehouse.catalog.snapshots import Sample, snapshot_splits
from warehouse.schema import BY_NAME
from warehouse.store import Store, fingerprint, fingerprint_of, replace_file, replacing, with_fingerprint
from warehouse.takedown.takedowns import taken_down

UNIT_WINDOWS = 4096
"""Windows of a unit, if its clips do not have more: 23 MB of vectors of g."""
MAX_FAILED_SHARE, MIN_TRIES = 0.05, 20
"""As in training: a run of which more clips fail stops (``loaders.failures``)."""
_FAILED = b"reelhouse.failed"
_SCHEMA = BY_NAME["features"].schema


@dataclass(frozen=True)
class _Unit:
    """Some clips that follow one another, and the file that their features go to."""

    path: Path
    samples: Sequence[Sample]

    @property
    def fingerprint(self) -> str:
        """Of the clips: after a takedown the units from there on hold others."""
        return fingerprint([sample.clip_id for sample in self.samples])

    def done(self) -> bool:
        """Whether the file is there, and of these clips."""
        return self.path.exists() and fingerprint_of(pq.read_schema(self.path)) == self.fingerprint


def extract_run(
    spec: RunSpec, settings: FeatureSettings, store: Store, device: torch.device, stop: Callable[[], bool], say: Say
) -> dict[str, Any]:
    """Extract what is missing, and at the end write the run's part of the table and its ``failures.jsonl``.

    Raises:
        TooManyFailuresError: more clips fail than a run may do without; lists them.
    """
    if spec.parent is None:
        raise ValueError(f"{spec.run_id}: features need the checkpoint of another stage")
    folder, config = store.runs / spec.run_id / "features", settings.loader
    splits = [open_split(spec, store, split, say)[1] for split in snapshot_splits(store, spec.snapshot_id)]
    clips = sum(map(len, splits))
    if store.path("features", spec.run_id).exists():  # it was written, and then the run was killed
        return _finished(spec, store, clips)
    units = list(_units(folder, chain.from_iterable(splits), config))
    done = sum(unit.done() for unit in units)
    how = "the middle window of each" if config.every is None else f"windows every {config.every} frames"
    say(f"features: {clips} clips, {how}" + (f", {done} of {len(units)} units are there" if done else ""))
    model = _extractor(spec.parent, store, config, say).to(device).eval()
    failures = FailureLog(MAX_FAILED_SHARE, MIN_TRIES)
    stopped = False
    with WindowLoader(config) as loader:
        # By their numbers: what is missing changes while other ranks look for it.
        for unit in units[dist.get_rank() :: dist.get_world_size()]:
            if unit.done():
                continue
            if stopped := not _extract(unit, spec, model, loader, device, failures, stop):
                break
            say(f"features: {unit.path.stem} of {len(units) - 1} written, {len(unit.samples)} clips")
    group = patient_group()
    if anywhere(stopped, group):
        return {"status": "cancelled", "checkpoint": spec.parent}
    if dist.get_rank() == 0:
        _join(units, spec, store)
        shutil.rmtree(folder)
    dist.barrier(group)
    return _finished(spec, store, clips)


def _units(folder: Path, samples: Iterator[Sample], config: WindowConfig) -> Iterator[_Unit]:
    number, own, windows = 0, list[Sample](), 0
    for sample in samples:
        count = window_count(config, sample)
        if own and windows + count > UNIT_WINDOWS:
            yield _Unit(folder / f"unit-{number:06d}.parquet", own)
            number, own, windows = number + 1, [], 0
        own.append(sample)
        windows += count
    if own:
        yield _Unit(folder / f"unit-{number:06d}.parquet", own)


def _extractor(parent: str, store: Store, config: WindowConfig, say: Say) -> FeatureExtractor:
    path = store.root / parent
    model = FeatureExtractor(FeatureConfig(read_config(path)[1].size, config.frames, config.size))
    say(f"weights: {transfer(model, path)}")
    return model


@torch.no_grad()
def _extract(
    unit: _Unit,
    spec: RunSpec,
    model: FeatureExtractor,
    loader: WindowLoader,
    device: torch.device,
    failures: FailureLog,
    stop: Callable[[], bool],
) -> bool:
    """Write a unit's file; returns whether it was, or the run is to stop before."""
    views = loader.config.spatial_views
    windows: list[Window] = []
    vectors = [np.empty((0, model.config.size.dim), np.float32)]
    failed: dict[str, FailedClip] = {}
    for batch in loader.batches(unit.samples):
        if stop():
            return False
        for clip in batch.failed:
            if failed.setdefault(clip.clip_id, clip) is clip:
                failures.record(clip)
        if batch.windows:
            with mixed_precision(device):
                rows_BD = model(batch.frames.to(device, non_blocking=True)).float()
            vectors.append(rows_BD.unflatten(0, (-1, views)).mean(1).cpu().numpy())
            windows += batch.windows
        for _ in {window.sample.clip_id for window in batch.windows if window.number == 0} - failed.keys():
            failures.delivered()
    rows = _rows(spec, windows, np.concatenate(vectors), views)
    # Of a clip that failed in one of its windows none counts.
    rows = rows.filter(pc.invert(pc.is_in(rows["clip_id"], value_set=pa.array(sorted(failed), pa.string()))))
    stamped = with_fingerprint(rows, unit.fingerprint)
    note = {_FAILED: json.dumps([asdict(clip) for clip in failed.values()]).encode()}
    stamped = stamped.replace_schema_metadata({**(stamped.schema.metadata or {}), **note})
    with replacing(unit.path) as file:
        pq.write_table(stamped, file, compression="zstd")
    return True


def _rows(spec: RunSpec, windows: Sequence[Window], vectors_WD: np.ndarray, views: int) -> pa.Table:
    count, dim = vectors_WD.shape
    samples = [window.sample for window in windows]
    values = {
        "run_id": [spec.run_id] * count,
        "checkpoint": [spec.parent] * count,
        "clip_id": [sample.clip_id for sample in samples],
        "source": [sample.source for sample in samples],
        "split": [sample.split for sample in samples],
        "start_frame": [window.start_frame for window in windows],
        "start_ms": [round(1000 * window.start_frame / window.sample.fps) for window in windows],
        "views": [views] * count,
        "vector": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * dim, vectors_WD.ravel()),
    }
    return pa.table([pa.array(values[f.name], f.type) for f in _SCHEMA], schema=_SCHEMA)


def _join(units: Sequence[_Unit], spec: RunSpec, store: Store) -> None:
    """Write the failures and the table's part from the units, without clips that have been taken down meanwhile."""
    gone = pa.array(sorted(taken_down(store)), pa.string())

    def batches() -> Iterator[pa.RecordBatch]:
        for unit in units:
            rows = pq.read_table(unit.path)
            yield from rows.filter(pc.invert(pc.is_in(rows["clip_id"], value_set=gone))).to_batches()

    failed = [clip for unit in units for clip in json.loads((pq.read_schema(unit.path).metadata or {})[_FAILED])]
    lines = "".join(f"{json.dumps(clip)}\n" for clip in failed)
    replace_file(store.runs / spec.run_id / "failures.jsonl", lines.encode())
    store.write("features", pa.RecordBatchReader.from_batches(_SCHEMA, batches()), spec.run_id)


def _finished(spec: RunSpec, store: Store, clips: int) -> dict[str, Any]:
    failed = len((store.runs / spec.run_id / "failures.jsonl").read_text().splitlines())
    counts = {"vectors": store.count("features", spec.run_id), "clips": clips - failed, "failed": failed}
    return {"status": "finished", "checkpoint": spec.parent, **counts}
