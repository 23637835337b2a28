"""The step that reads every media file once: ``media`` and ``frame_hashes`` of one or more sources.

Files that have not changed since they were probed are not read again. What has been probed is written every
half minute, so that is all a kill can cost.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.config import Config, Source
from warehouse.curation import probe
from warehouse.engine import Failure, map_unordered
from warehouse.media_file import media_file
from warehouse.step_result import Progress, StepResult
from warehouse.store import Store, fingerprint

PROBE_VERSION = 3
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


def forget(store: Store, sources: Sequence[str], error_class: str) -> dict[str, int]:
    """Drop the rows of ``media`` with this error class, so that the next run probes these files again.

    To be used after a fix that a file's size and time do not show: a decoder that can do more, a limit raised, a disk
    mounted. Returns the number of rows by source.
    """
    counts = {}
    for source in sources:
        rows = store.rows("media", source)
        kept = [row for row in rows if row["error_class"] != error_class]
        counts[source] = len(rows) - len(kept)
        if counts[source]:
            store.write("media", kept, source)
    return counts


class _SourceProbe:
    """What is known of one source's files, and which of them are still to be probed."""

    def __init__(self, store: Store, source: Source) -> None:
        self.store, self.source = store, source
        self.version = fingerprint(PROBE_VERSION)
        files = store.rows("files", source.name)
        self.listed = {row["clip_id"]: as_listed(row) for row in files}
        hashed = store.is_current("frame_hashes", source.name, self.version)
        known = store.rows("media", source.name) if hashed else []
        self.media = {
            row["clip_id"]: row for row in known if row["listed"] == self.listed.get(row["clip_id"])
        }
        hashes = store.read("frame_hashes", source.name)
        self.hashes = hashes.filter(pc.is_in(hashes["clip_id"], value_set=pa.array(list(self.media), pa.string())))
        self.todo = {row["clip_id"]: row for row in files if row["clip_id"] not in self.media}
        self.complete = (
            not self.todo and len(known) == len(self.media) and store.is_current("media", source.name, self.version)
        )
        self.fresh: list[dict[str, Any]] = []
        self.unwritten = 0
        self.failed = sum(row["status"] != "ok" for row in self.media.values())

    def progress(self) -> Progress:
        """How far this source is."""
        return Progress(self.source.name, len(self.media), len(self.listed), self.failed)

    def units(self) -> Iterator[list[probe.Item]]:
        """The files to be probed, a few at a time."""
        root, name = self.source.media_root, self.source.name
        items = [(clip_id, name, media_file(root, row)) for clip_id, row in self.todo.items()]
        for start in range(0, len(items), UNIT_CLIPS):
            yield items[start : start + UNIT_CLIPS]

    def add(self, row: dict[str, Any], hashes: list[dict[str, Any]]) -> None:
        """Take a file's rows."""
        clip = row["clip_id"]
        self.media[clip] = row | {"bytes": self.todo[clip]["bytes"], "listed": self.listed[clip]}
        self.failed += row["status"] != "ok"
        self.fresh += hashes
        self.unwritten += 1

    def flush(self, fingerprint: str = "") -> None:
        """Write both tables if there is news, hashes first: a row of ``media`` promises that its hashes are there."""
        if not self.unwritten and not fingerprint:
            return
        added = pa.Table.from_pylist(self.fresh, schema=self.hashes.schema)
        order = [("clip_id", "ascending"), ("variant", "ascending"), ("t_ms", "ascending")]
        self.hashes = pa.concat_tables([self.hashes, added]).sort_by(order)
        self.fresh, self.unwritten = [], 0
        self.store.write("frame_hashes", self.hashes, self.source.name, self.version)
        self.store.write("media", [self.media[clip] for clip in sorted(self.media)], self.source.name, fingerprint)

    def finish(self) -> StepResult:
        """Write what is left and say what was found."""
        if not self.complete:
            self.flush(self.version)
        statuses = dict.fromkeys(("ok", "missing", "quarantined"), 0)
        for row in self.media.values():
            statuses[row["status"]] += 1
        rows = {"media": len(self.media), "frame_hashes": self.hashes.num_rows}
        return StepResult(rows, skipped=self.complete, figures={"probed": len(self.todo), **statuses})
