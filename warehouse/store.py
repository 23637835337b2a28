"""The Parquet files under a data root: the truth that the catalog indexes.

Each step writes whole files, to a temporary name and then renamed, so a reader sees the old file or the
new one. A file carries the *fingerprint* of what it was made from; a step whose output already has the
fingerprint of its present inputs has nothing to do.
"""

import fcntl
import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.schema import BY_NAME

FINGERPRINT = b"reelhouse.fingerprint"

_log = logging.getLogger(__name__)


def fingerprint(*inputs: Any) -> str:
    """Hex digest of JSON-serialisable inputs (``Path`` and dataclass fields as ``str``), stable between runs."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes ``path`` at the end, by a rename; not if an error is raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` through a temporary file in the same folder and a rename."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def in_turn(lock: Path, doing: str = "") -> Iterator[None]:
    """Wait until no other process holds this lock file; the operating system frees it if the holder is killed.

    Args:
        doing: what takes so long that others should be told whom they wait for ("writes shards"): their log says it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            if holder := file.read():
                _log.warning("%s: waiting for %s", lock, holder)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        if doing:
            file.write(f"process {os.getpid()} on {platform.node()}, which {doing}")
            file.flush()
        yield


def with_fingerprint(data: pa.Table, fingerprint: str) -> pa.Table:
    """The table with a fingerprint in its metadata."""
    return data.replace_schema_metadata({FINGERPRINT: fingerprint.encode()})


def fingerprint_of(schema: pa.Schema) -> str | None:
    """The fingerprint in the metadata of a file's schema."""
    found = (schema.metadata or {}).get(FINGERPRINT)
    return None if found is None else found.decode()


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, or these of its columns in this order, without the metadata of its schema."""
    # Not by its path: pyarrow would take `source=x` in it for a partition column. And not a file object of Python's: a
    # process that ends soon after may abort, when Arrow's threads let go of the object (apache/arrow#34314).
    with pa.OSFile(str(path)) as file:
        return pq.read_table(file, columns=columns and list(columns)).replace_schema_metadata(None)


class Store:
    """The tables and folders under one data root.

    ``tables/NAME.parquet`` or, for tables written in parts, ``tables/NAME/PART.parquet``;
    ``shards/``, ``runs/`` and ``warehouse.duckdb`` beside them.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self.tables = self.root / "tables"
        self.shards = self.root / "shards"
        self.runs = self.root / "runs"
        self.catalog = self.root / "warehouse.duckdb"

    def path(self, table: str, part: str | None = None) -> Path:
        """Path of a table's Parquet file. ``part`` is required exactly where the table has parts."""
        if (BY_NAME[table].part is None) != (part is None):
            raise ValueError(f"table {table!r} is written per {BY_NAME[table].part}, got part {part!r}")
        return self.tables / f"{table}.parquet" if part is None else self.tables / table / f"{part}.parquet"

    def write(
        self,
        table: str,
        rows: Iterable[Mapping[str, Any]] | pa.Table | pa.RecordBatchReader,
        part: str | None = None,
        fingerprint: str = "",
    ) -> int:
        """Replace a table (or one part of it); returns the number of rows.

        Raises ``pa.ArrowInvalid`` or ``ValueError`` if a value does not fit its column, or is NULL where it may not be.
        """
        schema = BY_NAME[table].schema
        if isinstance(rows, pa.RecordBatchReader):
            tables: Iterable[pa.Table] = (pa.Table.from_batches([batch]) for batch in rows)
        else:
            tables = [rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)]
        count, stored = 0, with_fingerprint(schema.empty_table(), fingerprint).schema
        with replacing(self.path(table, part)) as file, pq.ParquetWriter(file, stored, compression="zstd") as writer:
            for data in tables:
                data = data.cast(schema)
                for field in schema:
                    if not field.nullable and data[field.name].null_count:
                        raise ValueError(f"table {table!r}: column {field.name!r} may not be NULL")
                writer.write_table(data.replace_schema_metadata(stored.metadata))
                count += data.num_rows
        return count

    def is_current(self, table: str, part: str | None, fingerprint: str) -> bool:
        """Whether the file exists, has the table's columns of today, and was made from inputs with this fingerprint."""
        path = self.path(table, part)
        if not path.exists():
            return False
        schema = pq.read_schema(path)
        return fingerprint_of(schema) == fingerprint and schema.names == BY_NAME[table].schema.names

    def file_fingerprint(self, table: str, part: str | None = None) -> str:
        """Fingerprint of a file's *content* (to be an input of the next step); empty if there is no file."""
        path = self.path(table, part)
        if not path.exists():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

    def parts(self, table: str) -> list[str]:
        """Names of the parts that a table has, sorted."""
        folder = self.tables / table
        return sorted(p.stem for p in folder.glob("*.parquet")) if folder.is_dir() else []

    def read(self, table: str, part: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """One part of a table, or the whole of it; an empty table where nothing has been written.

        ``columns``: these alone are read, in this order.
        """
        schema = BY_NAME[table].schema
        if part is None and BY_NAME[table].part is not None:
            tables = [self.read(table, name, columns) for name in self.parts(table)]
            if tables:
                return pa.concat_tables(tables)
        elif (path := self.path(table, part)).exists():
            return read_parquet(path, columns)
        return schema.empty_table().select(columns if columns is not None else schema.names)

    def count(self, table: str, part: str | None = None) -> int:
        """Number of rows of a table or one part of it; 0 where nothing has been written."""
        path = self.path(table, part)
        return pq.read_metadata(path).num_rows if path.exists() else 0

    def rows(self, table: str, part: str | None = None) -> list[dict[str, Any]]:
        """:meth:`read` as a list of dictionaries."""
        return self.read(table, part).to_pylist()
