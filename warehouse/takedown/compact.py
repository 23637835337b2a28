"""Taking the bytes of clips that were taken down out of the shards, and out of what shows their pictures.

In this order, each a whole file and a rename: the prints that the bytes are searched by afterwards (they cannot be made
once the bytes are gone); the rows of ``packing`` (from here on the plan is that of the compacted shards, whoever
executes it); the tars, each with its sidecar; ``features``; ``samples`` and ``shards``; the catalog. Killed anywhere,
the same call finds what is still to be done by what still names the clips.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warehouse.catalog.build import build_catalog
from warehouse.shards.changing import changing_shards
from warehouse.shards.rewriting import rewrite_without
from warehouse.shards.sidecar import read_sidecar, sidecar_path
from warehouse.shards.tables import tabulate
from warehouse.store import Store, fingerprint_of
from warehouse.takedown.features import remove_features
from warehouse.takedown.stretches import prints_of
from warehouse.takedown.takedowns import taken_down

_CLIP_ID = re.compile(rb'"([0-9a-f]{32})"')


@dataclass(frozen=True)
class Compacted:
    """What was done: paths of the tars written anew and of those emptied, and of the files that features were taken out
    of, relative to the data root."""

    rewritten: tuple[str, ...]
    emptied: tuple[str, ...]
    features: tuple[str, ...]


def compact(store: Store) -> Compacted:
    """Write the shards that hold clips taken down anew without them; all other shards stay untouched.

    While a job plans or writes shards, or another compacts them, it waits (and logs for whom); so do they.

    Raises:
        ShardError: a shard is damaged, or one of the same source is planned and not written; names it.
    """
    with changing_shards(store, "compacts shards"):
        return _compact(store, taken_down(store))


def _compact(store: Store, gone: Set[str]) -> Compacted:
    rewritten: list[str] = []
    emptied: list[str] = []
    by_source = {source: list(_holding(store, source, gone)) for source in store.parts("packing")}
    _keep_prints(store, [tar for tars in by_source.values() for tar in tars], gone)
    for source, tars in by_source.items():
        _unplan(store, source, gone)
        for tar in tars:
            for leftover in tar.parent.glob(f"{tar.stem}.*.tmp"):  # of writers that were killed
                leftover.unlink()
            if not sidecar_path(tar).exists():
                # Never finished: the step `shards` would write it anew, and now does so without the clips.
                tar.unlink(missing_ok=True)
                continue
            left = rewrite_without(tar, gone)
            (rewritten if left.members else emptied).append(str(tar.relative_to(store.root)))
    features = tuple(str(path.relative_to(store.root)) for path in remove_features(store, gone))
    # After all tars: a source of which a shard is not written yet stops here, and the bytes are out all the same.
    for source, tars in by_source.items():
        if tars or not _tables_agree(store, source):
            tabulate(store, source)
    build_catalog(store)
    return Compacted(tuple(rewritten), tuple(emptied), features)


def _holding(store: Store, source: str, gone: Set[str]) -> Iterator[Path]:
    """The tars of a source that hold clips taken down, or that some table or sidecar still says to."""
    wanted = pa.array(sorted(gone), pa.string())
    shards: set[str] = set()
    for table in ("packing", "samples"):
        rows = store.read(table, source, ["shard", "clip_id"])
        shards.update(rows.filter(pc.is_in(rows["clip_id"], value_set=wanted))["shard"].to_pylist())
    for sidecar in (store.shards / source).glob("*.json"):
        named = {found.decode() for found in _CLIP_ID.findall(sidecar.read_bytes())}
        if not gone.isdisjoint(named):
            shards.add(sidecar.stem)
    for shard in sorted(shards):
        tar = store.shards / source / f"{shard}.tar"
        if tar.exists() or sidecar_path(tar).exists():
            yield tar


def _keep_prints(store: Store, tars: Iterable[Path], gone: Set[str]) -> None:
    """Add the prints of the clips that are about to lose their bytes to ``content_prints``."""
    rows = store.rows("content_prints")
    known = {(row["clip_id"], row["rendition"]) for row in rows}
    new = []
    for tar in tars:
        sidecar = read_sidecar(tar)
        # Where the two do not fit, the tar was written before a kill: the prints have been made before that.
        if sidecar is None or not sidecar.fits(tar):
            continue
        with tar.open("rb") as file:
            for member in sidecar.members:
                if member.key in gone and (member.key, sidecar.rendition) not in known:
                    file.seek(member.offset)
                    each = {"clip_id": member.key, "rendition": sidecar.rendition}
                    new += [each | found for found in prints_of(file.read(member.size))]
    if new:
        store.write("content_prints", rows + new)


def _unplan(store: Store, source: str, gone: Set[str]) -> None:
    """Take clips out of a source's plan; the positions of the others stay."""
    rows = store.read("packing", source)
    kept = rows.filter(pc.invert(pc.is_in(rows["clip_id"], value_set=pa.array(sorted(gone), pa.string()))))
    if len(kept) < len(rows):
        store.write("packing", kept, source)


def _tables_agree(store: Store, source: str) -> bool:
    """Whether a source's ``samples`` and ``shards`` are of one writing: a kill may have come between them."""
    paths = [store.path(table, source) for table in ("samples", "shards")]
    found = {fingerprint_of(pq.read_schema(path)) if path.exists() else None for path in paths}
    return len(found) == 1


def remove_pictures(store: Store, named_in: Iterable[Path]) -> list[Path]:
    """Delete what shows pictures of clips taken down and is made anew by others; returns what was deleted.

    These are the pages of the report, and a run's sheets of reconstructions with the TensorBoard events that repeat
    them (the curves of which are in the run's ``metrics.jsonl`` too). Each says by clip id what it shows.

    Args:
        named_in: files under the data root that name a clip taken down.
    """
    removed: dict[Path, None] = {}
    for path in named_in:
        inside = path.relative_to(store.root).parts
        if len(inside) == 1 and path.suffix == ".html":
            path.unlink(missing_ok=True)
            removed[path] = None
        elif len(inside) > 3 and inside[0] == "runs" and inside[2] in ("pictures", "tensorboard"):
            folder = store.runs / inside[1] / inside[2]
            shutil.rmtree(folder, ignore_errors=True)
            removed[folder] = None
    return list(removed)
