"""What has been probed of a source since its tables were last written: files that are added and never rewritten.

A source's ``frame_hashes`` may be tens of gigabytes, and probing takes days: to write that table anew every half
minute would take longer than probing. So what is new goes to numbered files,
``DATA_ROOT/probing/SOURCE/NUMBER.{frame_hashes,media}.parquet``, and at the end all is merged, once, on disk.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from warehouse.connections import open_duckdb
from warehouse.schema import BY_NAME
from warehouse.store import Store, fingerprint_of, read_parquet, replacing, with_fingerprint

MEMORY = "2GB"
"""What merging may take; beyond, it sorts on disk."""

_HASHES, _MEDIA = BY_NAME["frame_hashes"].schema, BY_NAME["media"].schema
# Of the file that a row is in; 0 is the table itself.
_NUMBER = pa.field("number", pa.int64())


class ProbeJournal:
    """The files of one source. Those of another ``version`` of probing, or another schema, count for nothing.

    A row of ``media`` promises that the clip's hashes are there: they are written first.
    """

    def __init__(self, store: Store, source: str, version: str) -> None:
        self.store, self.source, self.version = store, source, version
        self.folder = store.root / "probing" / source
        there = sorted(int(path.name.partition(".")[0]) for path in self.folder.glob("*.media.parquet"))
        self._last = there[-1] if there else 0
        self.numbers = [number for number in there if self._counts(number)]

    def _path(self, table: str, number: int) -> Path:
        return self.folder / f"{number:06d}.{table}.parquet"

    def _counts(self, number: int) -> bool:
        schema = pq.read_schema(self._path("media", number))
        return fingerprint_of(schema) == self.version and schema.names == [*_MEDIA.names, _NUMBER.name]

    def append(self, media: Sequence[Mapping[str, Any]], frame_hashes: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of some clips."""
        self._last += 1
        self._write("frame_hashes", self._last, pa.Table.from_pylist(list(frame_hashes), schema=_HASHES))
        self._write("media", self._last, pa.Table.from_pylist(list(media), schema=_MEDIA))
        self.numbers.append(self._last)

    def _write(self, table: str, number: int, rows: pa.Table) -> None:
        rows = with_fingerprint(_numbered(rows, number), self.version)
        with replacing(self._path(table, number)) as file:
            pq.write_table(rows, file, compression="zstd")

    def rows(self, known: pa.Table) -> pa.Table:
        """Rows of ``media``, those in ``known`` and those added: of a clip that was probed twice the later.

        Beside the table's columns there is ``number``, of the file that a row is in.
        """
        parts = [_numbered(known, 0)]
        for number in self.numbers:
            parts.append(read_parquet(self._path("media", number)))
        rows = pa.concat_tables(parts)
        last = rows.group_by("clip_id").aggregate([(_NUMBER.name, "max")])
        place = pc.index_in(rows["clip_id"], value_set=last["clip_id"])
        return rows.filter(pc.equal(rows[_NUMBER.name], last[f"{_NUMBER.name}_max"].take(place)))

    def forget(self, error_class: str) -> int:
        """Drop the rows of ``media`` with this error class that were added; returns their number."""
        count = 0
        for number in self.numbers:
            rows = read_parquet(self._path("media", number))
            others = pc.fill_null(pc.not_equal(rows["error_class"], error_class), True)
            kept = rows.filter(others)
            if kept.num_rows < rows.num_rows:
                self._write("media", number, kept.drop_columns(_NUMBER.name))
                count += rows.num_rows - kept.num_rows
        return count

    def merge(self, rows: pa.Table) -> int:
        """Write both tables of the source from :meth:`rows` and empty the journal; returns the number of hashes.

        It may be killed at any moment and called again with the same rows.
        """
        present = self.store.path("frame_hashes", self.source)
        self.folder.mkdir(parents=True, exist_ok=True)
        with open_duckdb(memory_limit=MEMORY, temp_directory=str(self.folder / "duckdb")) as con:
            con.register("owner", rows.select(["clip_id", _NUMBER.name]))
            parts = [f"SELECT *, 0 AS {_NUMBER.name} FROM empty"]
            con.register("empty", _HASHES.empty_table())
            if present.exists():
                con.register("present", ds.dataset([str(present)]))
                parts.append(f"SELECT {', '.join(_HASHES.names)}, 0 AS {_NUMBER.name} FROM present")
            if self.numbers:
                files = [str(self._path("frame_hashes", number)) for number in self.numbers]
                con.register("added", ds.dataset(files))
                parts.append("FROM added")
            hashes = con.sql(f"""
                SELECT {", ".join(_HASHES.names)} FROM ({" UNION ALL BY NAME ".join(parts)})
                SEMI JOIN owner USING (clip_id, {_NUMBER.name}) ORDER BY clip_id, variant, t_ms
            """).to_arrow_reader()
            count = self.store.write("frame_hashes", hashes, self.source, self.version)
        media = rows.drop_columns(_NUMBER.name).sort_by("clip_id")
        self.store.write("media", media, self.source, self.version)
        shutil.rmtree(self.folder)
        self.numbers = []
        return count


def _numbered(rows: pa.Table, number: int) -> pa.Table:
    return rows.append_column(_NUMBER, pa.repeat(pa.scalar(number, _NUMBER.type), rows.num_rows))
