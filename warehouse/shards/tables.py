"""The tables ``shards`` and ``samples`` of a source, written from ``packing`` and the sidecars of its shards."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from warehouse.schema import BY_NAME
from warehouse.shards.errors import ShardError
from warehouse.shards.sidecar import Sidecar, read_sidecar
from warehouse.store import Store, fingerprint

_AS_STORED = ("offset", "size", "sha256", "codec", "width", "height", "fps", "frames")

_AGAIN = "Materialise `shards` again."


def tabulate(store: Store, source: str) -> bool:
    """Write a source's tables; returns whether they were written (else they were as they should be).

    A shard's rows are those of its sidecar. Memory is that of one shard.

    Raises:
        ShardError: a shard of ``packing`` has no sidecar, or one that its tar does not fit; names it.
    """
    tars = [store.shards / source / f"{shard}.tar" for shard in planned_shards(store, source)]
    rows = [_shard_row(store, tar) for tar in tars]
    inputs = fingerprint(rows)
    if store.is_current("shards", source, inputs) and store.is_current("samples", source, inputs):
        return False
    schema = BY_NAME["samples"].schema
    store.write("samples", pa.RecordBatchReader.from_batches(schema, _sample_batches(tars, schema)), source, inputs)
    store.write("shards", rows, source, inputs)
    return True


def planned_shards(store: Store, source: str) -> list[str]:
    """Names of the shards that ``packing`` plans for a source, sorted."""
    return sorted(store.read("packing", source, ["shard"])["shard"].unique().to_pylist())


def _shard_row(store: Store, tar: Path) -> dict[str, Any]:
    sidecar = _sidecar(tar)
    if not sidecar.fits(tar):
        raise ShardError(f"{tar}: missing, or not of {sidecar.bytes} bytes as its sidecar has it. {_AGAIN}")
    return {
        "shard": sidecar.shard,
        "source": sidecar.source,
        "rendition": sidecar.rendition,
        "path": str(tar.relative_to(store.root)),
        "samples": len(sidecar.members),
        "bytes": sidecar.bytes,
        "sha256": sidecar.sha256,
    }


def _sample_batches(tars: Sequence[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for tar in tars:
        sidecar = _sidecar(tar)
        rows = [
            {
                "clip_id": member.key,
                "source": sidecar.source,
                "shard": sidecar.shard,
                "rendition": sidecar.rendition,
                **{name: getattr(member, name) for name in _AS_STORED},
            }
            for member in sidecar.members
        ]
        yield pa.RecordBatch.from_pylist(rows, schema)


def _sidecar(tar: Path) -> Sidecar:
    sidecar = read_sidecar(tar)
    if sidecar is None:
        raise ShardError(f"{tar}: no sidecar, or an older one. {_AGAIN}")
    return sidecar
