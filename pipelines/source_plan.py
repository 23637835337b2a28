"""What a source would take: what it lists, what is done, and the rest by a trial of a few of its clips."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from warehouse import trial
from warehouse.config import Config, Source
from warehouse.media_file import media_file
from warehouse.probing import as_listed, probed
from warehouse.shards.shard_plan import SourceShards
from warehouse.sources import Listing
from warehouse.store import Store
from warehouse.takedown.takedowns import taken_down

TRIED = 3
HASH_BYTES = 56
"""A row of ``frame_hashes`` on disk: four words that do not compress, and what names them."""


@dataclass(frozen=True)
class SourcePlan:
    """A source: what it lists, what is done, and what the rest would take with all workers.

    Attributes:
        hours: of the files that are there; exact if ``hours_known``, else estimated from the clips tried; None if
            none of them could be read.
        to_probe, to_store: clips that have still to be probed, and at most to be written to shards.
        probe_s, store_s: expected wall time; None if it could not be measured.
        bytes_to_write: expected size of what is missing of tables and shards.
    """

    name: str
    clips: int
    files: int
    rejected_rows: int
    bytes: int
    hours: float | None
    hours_known: bool
    to_probe: int
    to_store: int
    probe_s: float | None
    store_s: float | None
    bytes_to_write: int


def plan_sources(store: Store, config: Config, listings: Mapping[str, Listing]) -> tuple[SourcePlan, ...]:
    """The plan of each source; ``listings`` holds what each lists now. Sources with nothing to do are not tried."""
    work = {source.name: _work(store, config, source, listings) for source in config.sources}
    costs = _try_clips(config, listings, work)
    return tuple(
        _plan_source(store, config, source, listings[source.name], work[source.name], costs[source.name])
        for source in config.sources
    )


@dataclass(frozen=True)
class _Work:
    """Clip ids of a source: files there, and those of them that are to be probed and to be stored."""

    present: set[str]
    probe: set[str]
    store: set[str]


def _work(store: Store, config: Config, source: Source, listings: Mapping[str, Listing]) -> _Work:
    files = {row["clip_id"]: row for row in listings[source.name].files}
    present = {clip for clip, row in files.items() if row["bytes"] is not None}
    known = _probed(store, source, files)
    unreadable = {clip for clip, row in known.items() if row["status"] != "ok"}
    # What decisions left out needs no place; what an earlier source has, is stored there.
    decided = store.rows("decisions")
    out = {row["clip_id"] for row in decided} - {row["clip_id"] for row in decided if row["keep"]}
    earlier = {
        row["clip_id"]
        for other in config.sources
        if other.priority < source.priority and other.collections
        for row in listings[other.name].files
        if row["bytes"] is not None
    }
    stored = {
        member.clip_id
        for plan in SourceShards(store, source)
        if plan.rendition == config.rendition and plan.finished()
        for member in plan.members
    }
    to_probe = files.keys() - known.keys()
    not_stored = unreadable | (out - to_probe) | earlier | taken_down(store) | stored
    to_store = present - not_stored if source.collections else set()
    return _Work(present, set(to_probe), to_store)


def _probed(store: Store, source: Source, files: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows of ``media`` that describe the files as they are now, as the step `probe` would find them."""
    listed = pa.array((as_listed(row) for row in files.values()), pa.string())
    rows = probed(store, source.name, pa.array(files, pa.string()), listed).to_pylist()
    return {row["clip_id"]: row for row in rows}


def _try_clips(
    config: Config, listings: Mapping[str, Listing], work: Mapping[str, _Work]
) -> dict[str, list[trial.ClipCost]]:
    """Costs of the clips tried, by source."""
    chosen = []
    for source in config.sources:
        todo = work[source.name].probe | work[source.name].store
        files = [
            media_file(source.media_root, row) for row in listings[source.name].files
            if row["clip_id"] in todo and row["bytes"]
        ]  # fmt: skip
        chosen += trial.choose(source, config.rendition, files, TRIED)
    costs: dict[str, list[trial.ClipCost]] = {source.name: [] for source in config.sources}
    for cost in trial.try_clips(chosen, config.workers):
        if cost is not None:
            costs[cost.source].append(cost)
    return costs


def _plan_source(
    store: Store,
    config: Config,
    source: Source,
    listing: Listing,
    work: _Work,
    costs: list[trial.ClipCost],
) -> SourcePlan:
    usable = [cost for cost in costs if cost.encode_s is not None]
    known = [row["duration_ms"] for row in store.rows("media", source.name) if row["status"] == "ok"]
    hours_known = not work.probe
    if hours_known:
        hours = sum(known) / 3.6e6
    else:
        hours = _mean([cost.duration_s for cost in usable], len(work.present), 3600)
    to_probe = len(work.probe & work.present)
    hashes = _mean([cost.hashes for cost in costs], to_probe) or 0
    stored = _mean([cost.stored_bytes for cost in usable], len(work.store)) or 0
    return SourcePlan(
        name=source.name,
        clips=len(listing.files),
        files=len(work.present),
        rejected_rows=len(listing.rejects),
        # The clips of one movie are one file.
        bytes=sum({(r["path"], r["member"], r["first_frame"]): r["bytes"] or 0 for r in listing.files}.values()),
        hours=hours,
        hours_known=hours_known,
        to_probe=len(work.probe),
        to_store=len(work.store),
        probe_s=_mean([cost.probe_s for cost in costs], to_probe, config.workers),
        store_s=_mean([cost.encode_s for cost in usable], len(work.store), config.workers),
        bytes_to_write=round(hashes * HASH_BYTES + stored),
    )


def _mean(values: list[Any], count: int, divisor: float = 1.0) -> float | None:
    """The mean of the values times ``count`` / ``divisor``; None if something is to be estimated from nothing."""
    if count == 0:
        return 0.0
    return sum(values) / len(values) * count / divisor if values else None
