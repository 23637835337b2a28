"""The steps of the data's way: each reads tables, writes tables, and does only what is not done yet.

A step that finds its output made from its present inputs returns with ``skipped=True``. Any step may be killed at any
moment and called again. The Dagster assets are thin shells around these functions.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from warehouse.config import Config, Source
from warehouse.curation import decisions, duplicates, labels, probe
from warehouse.engine import Failure, map_unordered
from warehouse.shards.packing import plan_packing
from warehouse.shards.writer import Member, ShardPlan, write_shards
from warehouse.sources import read_source
from warehouse.store import Store, fingerprint

PROBE_VERSION, DUPLICATES_VERSION = 1, 1
"""Raise one when the step's code gives other results: everything it has made is made again."""
PROBE_UNIT = 16
PROBE_SECONDS_A_CLIP = 60.0
SHARD_SECONDS_A_CLIP = 120.0
FLUSH_SECONDS = 30.0
"""How much probing a kill may cost."""

Progress = Callable[[int, int], None]
"""Called with (done, total) clips while a step runs."""


class MissingPartError(RuntimeError):
    """A step was asked to run before the steps that it needs have run for every source."""


@dataclass(frozen=True)
class StepResult:
    """What a step did: rows by table, whether it had nothing to do, and figures worth showing."""

    rows: Mapping[str, int]
    skipped: bool = False
    figures: Mapping[str, int | float | str] = field(default_factory=dict)


def write_sources(store: Store, config: Config) -> StepResult:
    """Write ``sources``."""
    keys = ("kind", "namespace", "stride", "licence", "priority")
    rows = [
        {"source": s.name, "media_root": str(s.media_root), **{key: getattr(s, key) for key in keys}}
        for s in config.sources
    ]
    return StepResult({"sources": store.write("sources", rows)})


def list_source(store: Store, source: Source) -> StepResult:
    """Read a source's annotations and write its ``clips``, ``memberships``, ``files`` and ``rejects``.

    The annotations and the media folder are always read again (that is how new files are found); tables are written
    only if what was found differs.
    """
    listing = read_source(source)
    tables = {name: getattr(listing, name) for name in ("clips", "memberships", "rejects", "files")}
    found = fingerprint(tables)
    counts = {name: len(rows) for name, rows in tables.items()}
    if all(store.is_current(name, source.name, found) for name in tables):
        return StepResult(counts, skipped=True)
    for name, rows in tables.items():
        store.write(name, rows, source.name, found)
    return StepResult(counts)


def probe_source(store: Store, config: Config, source: Source, progress: Progress) -> StepResult:
    """Probe and hash the files of a source that are new or changed, and write its ``media`` and ``frame_hashes``.

    A file is decoded once for both tables. One that kills or hangs the decoder is quarantined, and the rest goes on.
    """
    version = fingerprint(PROBE_VERSION)
    files = store.rows("files", source.name)
    media, hashes = _reusable(store, source.name, files, version)
    todo = [row for row in files if row["clip_id"] not in media]
    if not todo and len(media) == store.read("media", source.name).num_rows and _current(store, source.name, version):
        return StepResult(_probe_counts(media, hashes), skipped=True, figures=_statuses(media))

    by_clip = {row["clip_id"]: row for row in todo}
    items = [(row["clip_id"], source.name, str(source.media_root / row["path"])) for row in todo]
    units = [items[start : start + PROBE_UNIT] for start in range(0, len(items), PROBE_UNIT)]
    flushed = time.monotonic()
    fresh: list[dict[str, Any]] = []
    for result in _results(units, probe.probe_unit, config.workers, PROBE_SECONDS_A_CLIP):
        if isinstance(result, Failure):
            row, frame_rows = probe.failed_row(result.item, result.error_class, result.detail), []
        else:
            row, frame_rows = result
        listed = by_clip[row["clip_id"]]
        media[row["clip_id"]] = row | {"bytes": listed["bytes"], "modified_ns": listed["modified_ns"]}
        fresh += frame_rows
        progress(len(media), len(files))
        if time.monotonic() - flushed > FLUSH_SECONDS:
            hashes, fresh = _flush_probe(store, source.name, media, hashes, fresh, ""), []
            flushed = time.monotonic()
    hashes = _flush_probe(store, source.name, media, hashes, fresh, version)
    return StepResult(_probe_counts(media, hashes), figures={"probed": len(todo), **_statuses(media)})


def search_duplicates(store: Store, config: Config) -> StepResult:
    """Search all sources for copies and write ``duplicate_edges`` and ``duplicate_clusters``."""
    require_parts(store, config, "media", "frame_hashes")
    inputs = fingerprint(
        DUPLICATES_VERSION,
        [(s.name, s.priority) for s in config.sources],
        [_content(store, config, name) for name in ("clips", "memberships", "media", "frame_hashes")],
    )
    outputs = ("duplicate_edges", "duplicate_clusters")
    if all(store.is_current(name, None, inputs) for name in outputs):
        return StepResult({name: store.read(name).num_rows for name in outputs}, skipped=True)
    memberships = _tables(store, config, "memberships")
    edges, clusters = duplicates.find_duplicates(
        clips=_tables(store, config, "clips"),
        memberships=memberships,
        media=_tables(store, config, "media"),
        frame_hashes=_tables(store, config, "frame_hashes"),
        priority=_priority(config),
        protected=decisions.protected_clips(memberships.to_pylist()),
    )
    counts = {
        "duplicate_edges": store.write("duplicate_edges", edges, fingerprint=inputs),
        "duplicate_clusters": store.write("duplicate_clusters", clusters, fingerprint=inputs),
    }
    return StepResult(counts)


def decide(store: Store, config: Config) -> StepResult:
    """Take all decisions and write ``decisions``."""
    require_parts(store, config, "media")
    inputs = fingerprint(
        decisions.RULE_VERSION,
        config.collections,
        [(s.name, s.priority, s.collections) for s in config.sources],
        [_content(store, config, name) for name in ("clips", "memberships", "media")],
        store.file_fingerprint("duplicate_edges"),
    )
    if store.is_current("decisions", None, inputs):
        return StepResult({"decisions": store.read("decisions").num_rows}, skipped=True)
    tables = {name: _tables(store, config, name) for name in ("clips", "memberships", "media")}
    rows = {name: table.to_pylist() for name, table in tables.items()}
    preference = duplicates.preference(
        tables["memberships"], tables["media"], _priority(config), decisions.protected_clips(rows["memberships"])
    )
    facts = decisions.gather_facts(
        rows["clips"], rows["memberships"], rows["media"], store.rows("duplicate_edges"), preference
    )
    return StepResult(
        {"decisions": store.write("decisions", decisions.decide(config, rows["memberships"], facts), None, inputs)}
    )


def label(store: Store, config: Config) -> StepResult:
    """Merge class names by taxonomy and write ``labels``."""
    require_parts(store, config, "memberships")
    memberships = _tables(store, config, "memberships").to_pylist()
    return StepResult({"labels": store.write("labels", labels.label_rows(config, memberships))})


def plan_source(store: Store, config: Config, source: Source) -> StepResult:
    """Plan a place for each clip that some collection keeps and this source stores; write the source's ``packing``.

    Of the sources with a readable file, the first in ``sources.toml`` stores the clip, unless another already does.
    """
    kept = {row["clip_id"] for row in store.rows("decisions") if row["keep"]}
    stored_elsewhere = {
        row["clip_id"]
        for name in store.parts("packing")
        if name != source.name
        for row in store.rows("packing", name)
        if row["rendition"] == config.rendition
    }
    readable: dict[str, int] = {}
    for name in (s.name for s in config.sources if s.priority <= source.priority):
        for row in store.rows("media", name):
            if row["status"] == "ok" and row["clip_id"] in kept:
                if name == source.name:
                    readable.setdefault(row["clip_id"], row["bytes"])
                else:
                    stored_elsewhere.add(row["clip_id"])
    existing = store.rows("packing", source.name)
    here = {row["clip_id"] for row in existing if row["rendition"] == config.rendition}
    wanted = {clip: size for clip, size in readable.items() if clip in here or clip not in stored_elsewhere}
    rows = plan_packing(source.name, config.rendition, wanted, existing)
    if rows == existing and store.path("packing", source.name).exists():
        return StepResult({"packing": len(rows)}, skipped=True)
    store.write("packing", rows, source.name)
    return StepResult({"packing": len(rows)}, figures={"new": len(rows) - len(existing)})


def write_source_shards(store: Store, config: Config, source: Source, progress: Progress) -> StepResult:
    """Execute a source's packing plan and write its ``shards`` and ``samples``. Shards that are finished stay."""
    plans = shard_plans(store, source)
    done: dict[str, dict[str, Any]] = {}
    for plan in plans:
        content = plan.finished()
        if content is not None:
            done[plan.shard] = content
    todo = [plan for plan in plans if plan.shard not in done]
    total = sum(len(plan.members) for plan in plans)
    for plan in plans:
        for leftover in Path(plan.folder).glob(f"{plan.shard}.*.tmp"):
            leftover.unlink()
    largest = max((len(plan.members) for plan in todo), default=0)
    units = [[plan] for plan in todo]
    for result in _results(units, write_shards, config.workers, SHARD_SECONDS_A_CLIP * max(1, largest)):
        if isinstance(result, Failure):
            raise RuntimeError(
                f"shard {result.item.shard}: {result.error_class} while its clips were encoded; no clip was lost. "
                "Run again; if it repeats, use `rendition = \"original\"`."
            )
        done[result["shard"]] = result
        progress(sum(len(content["samples"]) for content in done.values()), total)
    tars = [
        {
            "shard": plan.shard,
            "source": source.name,
            "rendition": plan.rendition,
            "path": str(plan.tar.relative_to(store.root)),
            "samples": len(plan.members),
            "bytes": done[plan.shard]["bytes"],
            "sha256": done[plan.shard]["sha256"],
        }
        for plan in plans
    ]
    samples = [sample for plan in plans for sample in done[plan.shard]["samples"]]
    inputs = fingerprint(tars)
    skipped = not todo and store.is_current("shards", source.name, inputs)
    if not skipped:
        store.write("samples", samples, source.name, inputs)
        store.write("shards", tars, source.name, inputs)
    size = sum(row["bytes"] for row in tars)
    return StepResult({"shards": len(tars), "samples": len(samples)}, skipped, {"bytes": size, "written": len(todo)})


def shard_plans(store: Store, source: Source) -> list[ShardPlan]:
    """The shards that ``packing`` plans for a source, in order, each with its members."""
    media = {row["clip_id"]: row for row in store.rows("media", source.name)}
    paths = {row["clip_id"]: source.media_root / row["path"] for row in store.rows("files", source.name)}
    members: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in store.rows("packing", source.name):
        members.setdefault((row["shard"], row["rendition"]), []).append(row)
    keys = ("sha256", "codec", "width", "height", "fps", "frames")
    return [
        ShardPlan(
            folder=str(store.shards / source.name),
            shard=shard,
            source=source.name,
            rendition=rendition,
            stride=source.stride,
            members=tuple(
                Member(row["clip_id"], str(paths[row["clip_id"]]), **{k: media[row["clip_id"]][k] for k in keys})
                for row in sorted(rows, key=lambda row: row["position"])
            ),
        )
        for (shard, rendition), rows in sorted(members.items())
    ]


def require_parts(store: Store, config: Config, *tables: str) -> None:
    """Raise :class:`MissingPartError` unless each table has a part for each source."""
    missing = missing_parts(store, config, *tables)
    if missing:
        raise MissingPartError(
            f"not yet materialised: {', '.join(missing)}. Materialise these partitions, or run the job `full_run`."
        )


def missing_parts(store: Store, config: Config, *tables: str) -> list[str]:
    """``table/source`` for each part that has not been written."""
    return [f"{t}/{s.name}" for t in tables for s in config.sources if not store.path(t, s.name).exists()]


def _results(
    units: Iterable[Sequence[Any]], fn: Callable[..., list[Any]], workers: int, seconds: float
) -> Iterable[Any]:
    """Each item's result or :class:`Failure`, as they come."""
    for _, results in map_unordered(fn, units, workers=workers, timeout_s=seconds):
        yield from results


def _reusable(
    store: Store, source: str, files: Sequence[Mapping[str, Any]], version: str
) -> tuple[dict[str, dict[str, Any]], pa.Table]:
    """Rows of ``media`` (by clip) and ``frame_hashes`` that still describe the files as they are listed now."""
    listed = {row["clip_id"]: (row["bytes"], row["modified_ns"]) for row in files}
    known = store.rows("media", source) if store.is_current("frame_hashes", source, version) else []
    media = {
        row["clip_id"]: row for row in known if listed.get(row["clip_id"]) == (row["bytes"], row["modified_ns"])
    }
    hashes = store.read("frame_hashes", source)
    mask = pa.compute.is_in(hashes["clip_id"], value_set=pa.array(list(media), pa.string()))
    return media, hashes.filter(mask)


def _current(store: Store, source: str, version: str) -> bool:
    return store.is_current("media", source, version) and store.is_current("frame_hashes", source, version)


def _flush_probe(
    store: Store, source: str, media: Mapping[str, dict[str, Any]], hashes: pa.Table, fresh: list[Any], done: str
) -> pa.Table:
    """Write both tables, hashes first: a row of ``media`` promises that the clip's hashes are there."""
    version = fingerprint(PROBE_VERSION)
    added = pa.Table.from_pylist(fresh, schema=hashes.schema)
    order = [("clip_id", "ascending"), ("variant", "ascending"), ("t_ms", "ascending")]
    hashes = pa.concat_tables([hashes, added]).sort_by(order)
    store.write("frame_hashes", hashes, source, version)
    store.write("media", [media[clip] for clip in sorted(media)], source, done)
    return hashes


def _probe_counts(media: Mapping[str, Any], hashes: pa.Table) -> dict[str, int]:
    return {"media": len(media), "frame_hashes": hashes.num_rows}


def _statuses(media: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    counts = dict.fromkeys(("ok", "missing", "quarantined"), 0)
    for row in media.values():
        counts[row["status"]] += 1
    return counts


def _priority(config: Config) -> dict[str, int]:
    return {source.name: source.priority for source in config.sources}


def _tables(store: Store, config: Config, name: str) -> pa.Table:
    return pa.concat_tables([store.read(name, source.name) for source in config.sources])


def _content(store: Store, config: Config, name: str) -> list[str]:
    return [store.file_fingerprint(name, source.name) for source in config.sources]
