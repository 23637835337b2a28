"""Reading the Parquet files of ``frame_hashes`` in order, a block at a time, so that memory does not grow with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MIN_QUALITY = 0.01
"""Frames with a smaller spread of grey levels are neither searched with nor compared: of real ones about 1 in 700."""

VARIANTS = ("full", "trimmed", "inset", "centre", "centre_90")
"""What the search reads, by number; the first ``SEARCHED_IN`` are what is searched *in*, all are searched *with*."""

SEARCHED_IN = 3

_COLUMNS = ["clip_id", "variant", "t_ms", "quality", "h0", "h1", "h2", "h3"]
_BATCH_ROWS = 1 << 19


@dataclass(frozen=True)
class HashRows:
    """Rows of whole clips in the file's order: by clip, variant and time.

    Attributes:
        clip: number of the clip among the ids asked for, int32 (n,).
        variant: place in ``VARIANTS``, int8 (n,).
        t_ms: int64 (n,).
        hashes: uint64 (n, 4).
    """

    clip: np.ndarray
    variant: np.ndarray
    t_ms: np.ndarray
    hashes: np.ndarray

    def __len__(self) -> int:
        return len(self.clip)

    def part(self, choice: np.ndarray | slice) -> "HashRows":
        """These rows alone."""
        return HashRows(self.clip[choice], self.variant[choice], self.t_ms[choice], self.hashes[choice])


def clip_ids(path: Path) -> np.ndarray:
    """The distinct clip ids of a file, ascending, as bytes (n,)."""
    found = [np.empty(0, "S32")]
    with pq.ParquetFile(path, read_dictionary=["clip_id"]) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=["clip_id"]):
            found.append(np.unique(_bytes(batch.column(0).dictionary)))
    return np.unique(np.concatenate(found))


def read_hash_rows(path: Path, ids: np.ndarray) -> Iterator[HashRows]:
    """Rows with enough quality of the clips ``ids``, a block of whole clips at a time.

    Args:
        path: a part of ``frame_hashes``, in the order in which :mod:`warehouse.probing` writes it.
        ids: the clips wanted, as bytes (n,), ascending and distinct. Row groups that hold none are not read.

    Raises:
        ValueError: the file is not in order.
    """
    rest: HashRows | None = None
    with pq.ParquetFile(path, read_dictionary=["clip_id", "variant"]) as file:
        groups = [group for group in range(file.num_row_groups) if _holds_any(file.metadata.row_group(group), ids)]
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=_COLUMNS):
            rows = _chosen(batch, ids)
            rows = rows if rest is None else _joined(rest, rows)
            if len(rows) == 0:
                continue
            _check_order(path, rows)
            # The last clip may go on in the next batch.
            last = int(np.searchsorted(rows.clip, rows.clip[-1]))
            rest = rows.part(slice(last, None))
            if last:
                yield rows.part(slice(0, last))
    if rest is not None:
        yield rest


def _holds_any(group: pq.RowGroupMetaData, ids: np.ndarray) -> bool:
    statistics = group.column(0).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    first, last = statistics.min.encode(), statistics.max.encode()
    return bool(np.searchsorted(ids, last, "right") > np.searchsorted(ids, first, "left"))


def _chosen(batch: pa.RecordBatch, ids: np.ndarray) -> HashRows:
    columns = dict(zip(_COLUMNS, batch.columns, strict=True))
    named = _bytes(columns["clip_id"].dictionary)
    place = np.searchsorted(ids, named)
    found = np.take(ids, place, mode="clip") == named if len(ids) else np.zeros(len(named), bool)
    number = np.where(found, place, -1).astype(np.int32)
    clip = number[columns["clip_id"].indices.to_numpy()]
    codes = [VARIANTS.index(name) if name in VARIANTS else -1 for name in columns["variant"].dictionary.to_pylist()]
    variant = np.array(codes, np.int8)[columns["variant"].indices.to_numpy()]
    keep = np.flatnonzero((clip >= 0) & (variant >= 0) & (columns["quality"].to_numpy() >= MIN_QUALITY))
    hashes = np.stack([columns[f"h{i}"].to_numpy()[keep] for i in range(4)], axis=1)
    return HashRows(clip[keep], variant[keep], columns["t_ms"].to_numpy()[keep], hashes)


def _bytes(names: pa.Array) -> np.ndarray:
    return np.array(names.to_pylist() or [], dtype="S32")


def _joined(first: HashRows, second: HashRows) -> HashRows:
    return HashRows(*(np.concatenate([getattr(first, name), getattr(second, name)])
                      for name in ("clip", "variant", "t_ms", "hashes")))  # fmt: skip


def _check_order(path: Path, rows: HashRows) -> None:
    same = (rows.clip[1:] == rows.clip[:-1]) & (rows.variant[1:] == rows.variant[:-1])
    if np.any(rows.clip[1:] < rows.clip[:-1]) or np.any(same & (rows.t_ms[1:] <= rows.t_ms[:-1])):
        raise ValueError(
            f"{path}: rows are not in the order of clip_id, variant and t_ms. Delete the file: it is made again."
        )
