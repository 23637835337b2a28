"""Lines of an annotation file without a header: each line has to fit one pattern."""

import re
from collections.abc import Iterator
from pathlib import Path

from warehouse.sources.listing import Intake, SourceError

_SHOWN = 200
_LONGEST = 8192
"""Bytes of a line: twice the longest path that Linux takes. A longer one is not of these files, and not matched."""


def matching_lines(
    intake: Intake, file: Path, pattern: re.Pattern[str], form: str
) -> Iterator[tuple[int, re.Match[str]]]:
    """(1-based line, match) of the lines of a UTF-8 file that fit ``pattern`` as a whole, without spaces at their ends.

    Empty lines are skipped. Others that do not fit are rejected as ``malformed_row``; ``form`` says in words what was
    expected.

    Raises:
        SourceError: the file cannot be read, is empty, or none of its lines fits: it is another file.
    """
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror}). Correct its entry in sources.toml") from error
    if not any(line.strip() for line in lines):
        raise SourceError(f"{file}: is empty; expected lines of the form {form}. Fetch the file again")
    if not any(_match(pattern, line) for line in lines):
        first = next(number for number, line in enumerate(lines, 1) if line.strip())
        raise SourceError(f"{file}:{first}: no line has the form {form}; this one reads {_shown(lines[first - 1])}. "
                          "Correct the file or its entry in sources.toml")
    for number, line in enumerate(lines, 1):
        if match := _match(pattern, line):
            yield number, match
        elif line.strip():
            intake.reject(file, number, "malformed_row", f"expected {form}; read: {_shown(line)}")


def _match(pattern: re.Pattern[str], line: bytes) -> re.Match[str] | None:
    if len(line) > _LONGEST:
        return None
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    return pattern.fullmatch(text) if text and "\0" not in text else None


def _shown(line: bytes) -> str:
    return line[:_SHOWN].decode("utf-8", "backslashreplace").replace("\0", "\\x00")
