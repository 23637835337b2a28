"""The step that reads every media file once: ``media`` and ``frame_hashes`` of one or more sources.

Files that have not changed since they were probed are not read again. What has been probed is written every
half minute, so that is all a kill can cost.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.config import Config, Source
from warehouse.curation import probe
from warehouse.engine import Failure, map_unordered
from warehouse.media_file import media_file
from warehouse.probe_journal import ProbeJournal
from warehouse.schema import BY_NAME
from warehouse.step_result import Progress, StepResult
from warehouse.store import Store, fingerprint

PROBE_VERSION = "5"
"""Raise it when probing or hashing gives other results: every file is probed again."""
UNIT_CLIPS = 16
SECONDS_A_CLIP = 60.0
FLUSH_SECONDS = 30.0


def probe_sources(
    store: Store, config: Config, sources: Sequence[Source], report: Callable[[Progress], None]
) -> dict[str, StepResult]:
    """Probe and hash the files of these sources that are new or changed; write their tables. Results by source.

    A file is decoded once for both tables. One that kills or hangs the decoder is quarantined, and the rest goes on.
    """
    states = {source.name: _SourceProbe(store, source) for source in sources}
    units = (unit for state in states.values() for unit in state.units())
    for state in states.values():
        report(state.progress())
    flushed = time.monotonic()
    for unit, results in map_unordered(probe.probe_unit, units, workers=config.workers, timeout_s=SECONDS_A_CLIP):
        state = states[unit[0][1]]
        for result in results:
            if isinstance(result, Failure):
                state.add(probe.failed_row(result.item, result.error_class, result.detail), [])
            else:
                state.add(*result)
        report(state.progress())
        if time.monotonic() - flushed > FLUSH_SECONDS:
            for each in states.values():
                each.flush()
            flushed = time.monotonic()
    return {name: state.finish() for name, state in states.items()}


def as_listed(row: Mapping[str, Any]) -> str:
    """Fingerprint of a row of ``files``: another file, or another part of it, is probed again."""
    return fingerprint(row)


def probed(store: Store, source: str, clips: pa.Array | pa.ChunkedArray, listed: pa.Array) -> pa.Table:
    """Rows of ``media``, and of a run that was stopped, which hold for files as they are listed now.

    Args:
        clips, listed: id and :func:`as_listed` of each file.

    Returns:
        The table's columns, and ``number``: which file of the :class:`ProbeJournal` a row is in.
    """
    hashed = store.is_current("frame_hashes", source, PROBE_VERSION)
    written = store.read("media", source) if hashed else BY_NAME["media"].schema.empty_table()
    rows = ProbeJournal(store, source, PROBE_VERSION).rows(written)
    now = listed.take(pc.index_in(rows["clip_id"], value_set=clips))
    return rows.filter(pc.fill_null(pc.equal(rows["listed"], now), False))


def forget(store: Store, sources: Sequence[str], error_class: str) -> dict[str, int]:
    """Drop the rows of ``media`` with this error class, so that the next run probes these files again.

    To be used after a fix that a file's size and time do not show: a decoder that can do more, a limit raised, a disk
    mounted. Returns the number of rows by source.
    """
    counts = {}
    for source in sources:
        rows = store.rows("media", source)
        kept = [row for row in rows if row["error_class"] != error_class]
        if len(kept) < len(rows):
            store.write("media", kept, source)
        counts[source] = len(rows) - len(kept) + ProbeJournal(store, source, PROBE_VERSION).forget(error_class)
    return counts


class _SourceProbe:
    """What is known of one source's files, and which of them are still to be probed."""

    def __init__(self, store: Store, source: Source) -> None:
        self.store, self.source = store, source
        self.journal = ProbeJournal(store, source.name, PROBE_VERSION)
        self.files = store.read("files", source.name)
        self.listed = pa.array((as_listed(row) for row in _dicts(self.files)), pa.string())
        known = self._probed()
        self.todo = np.flatnonzero(pc.invert(pc.is_in(self.files["clip_id"], value_set=known["clip_id"])))
        self.complete = (
            len(self.todo) == 0
            and not self.journal.numbers
            and store.is_current("media", source.name, PROBE_VERSION)
            and len(known) == store.count("media", source.name)
        )
        self.done = len(known)
        self.failed = pc.sum(pc.not_equal(known["status"], "ok")).as_py() or 0
        # Of the files being probed: size, and fingerprint as listed.
        self.under_way: dict[str, tuple[int | None, str]] = {}
        self.media: list[dict[str, Any]] = []
        self.hashes: list[dict[str, Any]] = []

    def _probed(self) -> pa.Table:
        return probed(self.store, self.source.name, self.files["clip_id"], self.listed)

    def progress(self) -> Progress:
        """How far this source is."""
        return Progress(self.source.name, self.done, len(self.files), self.failed)

    def units(self) -> Iterator[list[probe.Item]]:
        """The files to be probed, a few at a time."""
        root, name = self.source.media_root, self.source.name
        for start in range(0, len(self.todo), UNIT_CLIPS):
            places = pa.array(self.todo[start : start + UNIT_CLIPS])
            rows, listed = self.files.take(places).to_pylist(), self.listed.take(places).to_pylist()
            for row, of_row in zip(rows, listed, strict=True):
                self.under_way[row["clip_id"]] = row["bytes"], of_row
            yield [(row["clip_id"], name, media_file(root, row)) for row in rows]

    def add(self, row: dict[str, Any], hashes: list[dict[str, Any]]) -> None:
        """Take a file's rows."""
        size, listed = self.under_way.pop(row["clip_id"])
        self.media.append(row | {"bytes": size, "listed": listed})
        self.hashes += hashes
        self.done += 1
        self.failed += row["status"] != "ok"

    def flush(self) -> None:
        """Put on disk what has been taken."""
        if self.media:
            self.journal.append(self.media, self.hashes)
            self.media, self.hashes = [], []

    def finish(self) -> StepResult:
        """Write the tables, if there is news, and say what was found."""
        self.flush()
        known = self._probed()
        hashes = (
            self.store.count("frame_hashes", self.source.name) if self.complete else self.journal.merge(known)
        )
        statuses = dict.fromkeys(("ok", "missing", "quarantined"), 0)
        for row in known["status"].value_counts().to_pylist():
            statuses[row["values"]] = row["counts"]
        figures = {"probed": len(self.todo), **statuses}
        return StepResult({"media": len(known), "frame_hashes": hashes}, skipped=self.complete, figures=figures)


def _dicts(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()
