"""The clips of an opened snapshot: rows of Arrow, of which each becomes an object when it is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

_BATCH = 65_536


@dataclass(frozen=True)
class Sample:
    """A clip of a snapshot, and the byte range that holds its encoded video.

    ``class_id`` is ``None`` for an unlabelled clip; ``fps``, ``frames``, ``width`` and ``height`` are as stored.
    """

    clip_id: str
    source: str
    split: str
    class_id: int | None
    weight: float
    stride: int
    shard: Path
    offset: int
    size: int
    sha256: str
    codec: str
    fps: float
    frames: int
    width: int
    height: int


@dataclass(frozen=True)
class Tombstone:
    """The place in a snapshot of a clip that has been taken down, kept so that the order of all others stays."""

    clip_id: str
    weight: float


class Places(Sequence[Any]):
    """Samples, and tombstones, in the order of a snapshot: 150 bytes each while nobody looks at them.

    Args:
        root: the data root, which shards are relative to.
        rows: columns named as the fields of :class:`Sample`, where ``shard`` is a path below ``root``, and ``gone``:
            whether the clip has been taken down.
    """

    def __init__(self, root: Path, rows: pa.Table) -> None:
        names = ("source", "split", "shard", "codec")
        for name in names:
            column = rows[name].combine_chunks().dictionary_encode()
            rows = rows.set_column(rows.column_names.index(name), name, column)
        self._root, self._rows = root, rows.combine_chunks()

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    @overload
    def __getitem__(self, place: int) -> Sample | Tombstone: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample | Tombstone]: ...
    def __getitem__(self, place: int | slice) -> Sample | Tombstone | list[Sample | Tombstone]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = place + len(self) if place < 0 else place
        if not 0 <= number < len(self):
            raise IndexError(f"place {place} of {len(self)}")
        return next(self._read(self._rows.slice(number, 1)))

    def __iter__(self) -> Iterator[Sample | Tombstone]:
        for start in range(0, len(self), _BATCH):
            yield from self._read(self._rows.slice(start, _BATCH))

    def _read(self, rows: pa.Table) -> Iterator[Sample | Tombstone]:
        paths: dict[str, Path | None] = {}
        columns = {name: rows[name].to_pylist() for name in rows.column_names}
        gone = columns.pop("gone")
        shards = columns["shard"]
        for path in set(shards):
            paths[path] = None if path is None else self._root / path
        columns["shard"] = [paths[path] for path in shards]
        names = list(columns)
        for taken_down, row in zip(gone, zip(*columns.values(), strict=True), strict=True):
            fields = dict(zip(names, row, strict=True))
            yield Tombstone(fields["clip_id"], fields["weight"]) if taken_down else Sample(**fields)
