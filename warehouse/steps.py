"""The steps of the data's way: each reads tables, writes tables, and does only what is not done yet.

A step that finds its output made from its present inputs returns with ``skipped=True``. Any step may be killed at any
moment and called again. The Dagster assets are thin shells around these functions, and around those of
:mod:`warehouse.probing` and :mod:`warehouse.shards.executing`, which work on videos in many processes.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.config import Config, Source
from warehouse.curation import decisions, duplicates, labels
from warehouse.curation.preference import preference
from warehouse.schema import TEXT
from warehouse.shards import packing
from warehouse.shards.changing import changing_shards
from warehouse.shards.rendition import ORIGINAL
from warehouse.sources import read_source
from warehouse.step_result import StepResult
from warehouse.store import Store, fingerprint
from warehouse.takedown.takedowns import taken_down

DUPLICATES_VERSION = 2
"""Raise it when the search gives other results: it is run again."""


class MissingPartError(RuntimeError):
    """A step was asked to run before the steps that it needs have run for every source."""


class UnstorableError(RuntimeError):
    """A clip cannot be stored in the rendition that the configuration asks for."""


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
    hashed = zip(config.sources, _content(store, config, "frame_hashes"), strict=True)
    found = duplicates.find_duplicates(
        clips=_tables(store, config, "clips", duplicates.CLIP_COLUMNS),
        memberships=_tables(store, config, "memberships", duplicates.MEMBERSHIP_COLUMNS),
        media=_tables(store, config, "media", duplicates.MEDIA_COLUMNS),
        hash_files={source.name: (store.path("frame_hashes", source.name), content) for source, content in hashed},
        memory=store.root / "search",
        priority=_priority(config),
    )
    counts = {
        "duplicate_edges": store.write("duplicate_edges", found.edges, fingerprint=inputs),
        "duplicate_clusters": store.write("duplicate_clusters", found.clusters, fingerprint=inputs),
    }
    return StepResult(counts, figures={"pairs_compared": found.compared})


def decide(store: Store, config: Config) -> StepResult:
    """Take all decisions and write ``decisions``, and beside them ``collections``, the rules they were taken by."""
    require_parts(store, config, "media")
    inputs = fingerprint(
        decisions.RULE_VERSION,
        config.collections,
        [(s.name, s.priority, s.collections) for s in config.sources],
        [_content(store, config, name) for name in ("clips", "memberships", "media")],
        store.file_fingerprint("duplicate_edges"),
        sorted(gone := taken_down(store)),
    )
    if store.is_current("decisions", None, inputs):
        return StepResult({"decisions": store.read("decisions").num_rows}, skipped=True)
    clips, memberships, media = (_tables(store, config, name) for name in ("clips", "memberships", "media"))
    preferred = preference(memberships, media, _priority(config))
    decided = decisions.decide(config, clips, memberships, media, store.read("duplicate_edges"), preferred, gone)
    rules = [
        {"collection": c.name, "splits": list(c.splits), "taxonomy": c.taxonomy, "leakage": c.leakage}
        for c in config.collections
        if c.sql is None
    ]
    # The decisions last: where they are current, so are the rules.
    store.write("collections", rules)
    return StepResult({"decisions": store.write("decisions", decided, None, inputs)})


def label(store: Store, config: Config) -> StepResult:
    """Merge class names by taxonomy and write ``native_classes``, ``classes`` and ``labels``.

    Raises:
        TaxonomyError: the classes of the sources do not fit a taxonomy's class list.
    """
    require_parts(store, config, "memberships")
    tables = labels.label_tables(config, _tables(store, config, "memberships"))
    return StepResult({name: store.write(name, tables[name]) for name in ("native_classes", "classes", "labels")})


def plan_source(store: Store, config: Config, source: Source) -> StepResult:
    """Plan a place for each clip that some collection keeps and this source stores; write the source's ``packing``.

    Of the sources with a readable file, the first in ``sources.toml`` stores the clip, unless another already does.

    Raises:
        UnstorableError: the rendition is ``original``, and a clip is no file of its own.
    """
    with changing_shards(store, "plans shards"):
        return _plan(store, config, source)


def _plan(store: Store, config: Config, source: Source) -> StepResult:
    decided = store.read("decisions", columns=["clip_id", "keep"])
    # Taken down since the decisions were taken, a clip whose bytes are gone would be written anew.
    gone = pc.is_in(decided["clip_id"], value_set=pa.array(sorted(taken_down(store)), pa.string()))
    kept = decided["clip_id"].filter(pc.and_(decided["keep"], pc.invert(gone))).unique()
    elsewhere = []
    for name in store.parts("packing"):
        if name != source.name:
            packed = store.read("packing", name, ["clip_id", "rendition"])
            elsewhere.append(packed["clip_id"].filter(pc.equal(packed["rendition"], config.rendition)))
    # Not the size of the file, which of an interval is the whole movie's; but of `original` the file is kept.
    size = "bytes" if config.rendition == ORIGINAL else "video_bytes"
    for name in (s.name for s in config.sources if s.priority <= source.priority):
        media = store.read("media", name, ["clip_id", "status", size, "sha256", "container"])
        media = media.filter(pc.and_(pc.equal(media["status"], "ok"), pc.is_in(media["clip_id"], value_set=kept)))
        if name != source.name:
            elsewhere.append(media["clip_id"])
            continue
        if config.rendition == ORIGINAL:
            whole = pc.and_(pc.is_valid(media["sha256"]), pc.not_equal(media["container"], "images"))
            for clip in media["clip_id"].filter(pc.invert(whole)).to_pylist():
                raise UnstorableError(
                    f"source {name}: clip {clip} is an interval of a longer video or a folder of frames, and has no "
                    'bytes of its own to keep. Set `rendition = "np256"` in [reelhouse].'
                )
    stored = pc.is_in(media["clip_id"], value_set=pa.chunked_array([c for ids in elsewhere for c in ids.chunks], TEXT))
    wanted = media.filter(pc.invert(stored)).select(["clip_id", size]).rename_columns(["clip_id", "bytes"])
    existing = store.read("packing", source.name)
    rows = packing.plan_packing(source.name, config.rendition, wanted, existing, packing.SHARD_BYTES)
    if len(rows) == len(existing) and store.path("packing", source.name).exists():
        return StepResult({"packing": len(rows)}, skipped=True)
    store.write("packing", rows, source.name)
    return StepResult({"packing": len(rows)}, figures={"new": len(rows) - len(existing)})


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


def _priority(config: Config) -> dict[str, int]:
    return {source.name: source.priority for source in config.sources}


def _tables(store: Store, config: Config, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    return pa.concat_tables([store.read(name, source.name, columns) for source in config.sources])


def _content(store: Store, config: Config, name: str) -> list[str]:
    return [store.file_fingerprint(name, source.name) for source in config.sources]
