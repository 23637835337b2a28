"""Rows of an annotation CSV, one line each, whatever stands in the file.

The file is UTF-8 (with or without a byte order mark), comma separated, with a header. A record is one line: a
quoted field may hold commas and quotes, but no line break, so that one stray quote costs one row and not
the rest of the file. Empty lines are skipped.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from warehouse.sources.listing import Intake, SourceError


class AnnotationCsv:
    """A CSV file with its header read.

    Raises:
        SourceError: the file cannot be read, is empty, or its header lacks a needed column or repeats one.
    """

    def __init__(self, file: Path, needed: Sequence[str]) -> None:
        self.file = file
        try:
            self._lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
        except OSError as error:
            raise SourceError(
                f"{file}: cannot be read ({error.strerror}). Correct its entry in sources.toml"
            ) from error
        self._first = next((i for i, line in enumerate(self._lines) if line.strip()), len(self._lines))
        if self._first == len(self._lines):
            raise SourceError(f"{file}: is empty; expected a header with {', '.join(needed)}. Fetch it again")
        header = _fields(self._lines[self._first])
        if isinstance(header, str):
            raise SourceError(f"{file}:{self._first + 1}: the header {header}. Save the file as UTF-8 CSV")
        self.columns = tuple(column.strip() for column in header)
        if missing := [column for column in needed if column not in self.columns]:
            raise SourceError(f"{file}:{self._first + 1}: no column {missing[0]!r}; the columns are "
                              f"{', '.join(map(repr, self.columns))}. Correct the file or its entry in sources.toml")
        if twice := [column for column in needed if self.columns.count(column) > 1]:
            raise SourceError(f"{file}:{self._first + 1}: two columns are named {twice[0]!r}. Rename one")

    def rows(self, intake: Intake) -> Iterator[tuple[int, dict[str, str]]]:
        """(1-based line, column → text as written); lines that do not parse are rejected as ``malformed_row``."""
        for number, line in enumerate(self._lines[self._first + 1 :], self._first + 2):
            if not line.strip():
                continue
            fields = _fields(line)
            if not isinstance(fields, str) and len(fields) != len(self.columns):
                fields = f"has {len(fields)} fields, expected {len(self.columns)} ({','.join(self.columns)})"
            if isinstance(fields, str):
                read = line[:200].decode("utf-8", "backslashreplace").replace("\0", "\\x00")
                intake.reject(self.file, number, "malformed_row", f"the line {fields}; read: {read}")
            else:
                yield number, dict(zip(self.columns, fields, strict=True))


def _fields(line: bytes) -> list[str] | str:
    """The fields of a line, or a text that says why it has none."""
    if b"\0" in line:
        return "holds a NUL byte"
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start + 1}"
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        return f"is not CSV ({error})"
