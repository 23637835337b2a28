"""Reading a TOML file so that every mistake in it is reported, each with its line and key.

``tomllib`` gives values without their lines and stops at the first error. Here problems are collected in a
:class:`Document` while its tables are read key by key, and raised together.
"""

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

Key = tuple[str, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[{{1,2}}\s*({_DOTTED})\s*\]{{1,2}}\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_TOML_TYPES = {str: "a string", bool: "true or false", int: "a whole number", float: "a number",
               list: "an array", dict: "a table"}


class ConfigError(ValueError):
    """The configuration cannot be used. ``problems`` holds one line of text for each mistake."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.path = path
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {problem}" for problem in problems)]))


def dotted(key: Key) -> str:
    """A key as a person would write it: ``sources.kinetics400.kind``."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in key)


def in_toml(value: object) -> str:
    """The TOML type of a value, in words."""
    return _TOML_TYPES.get(type(value), "a date or time")


class Document:
    """A TOML file, its values and the problems found in it so far.

    Raises:
        ConfigError: the file is missing, is not UTF-8 or is not TOML (among them a table or key given twice).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._problems: list[tuple[int, str]] = []
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise ConfigError(path, [f"{path}: cannot be read ({error.strerror}). Name another file in "
                                     "REELHOUSE_SOURCES, or create this one"]) from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ConfigError(path, [f"{path.name}:{line}: byte {error.object[error.start]:#04x} is not UTF-8. "
                                     "Save the file as UTF-8"]) from error
        self._statements = _statements(text)
        try:
            self.values: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(path, [self._syntax(str(error), text)]) from error

    def _syntax(self, message: str, text: str) -> str:
        """tomllib's message with the file's name in front; a table or key given twice is said plainly."""
        found = re.search(r"\(at line (\d+), column (\d+)\)", message)
        line = int(found[1]) if found else text.count("\n") + 1
        before = [s for s in self._statements if s[0] <= line]
        if before:
            _, key, is_table = before[-1]
            earlier = [number for number, other, _ in before[:-1] if other == key]
            if earlier:
                name = f"table [{dotted(key)}]" if is_table else f"key {dotted(key)}"
                return (f"{self.path.name}:{line}: {name} is a duplicate of line {earlier[0]}. "
                        "Rename one of them or remove it")
        return f"{self.path.name}:{line}: {message}"

    def line(self, key: Key) -> int:
        """The 1-based line of a key, or else of the nearest table around it (1: the file as a whole)."""
        for length in range(len(key), 0, -1):
            for number, statement, _ in self._statements:
                if statement[:length] == key[:length]:
                    return number
        return 1

    def report(self, key: Key, message: str) -> None:
        """Note a problem with a key."""
        line = self.line(key)
        self._problems.append((line, f"{self.path.name}:{line}: {dotted(key)}: {message}"))

    def raise_problems(self) -> None:
        """Raise all that was reported, in the order of the lines; return if there was nothing."""
        if self._problems:
            raise ConfigError(self.path, [text for _, text in sorted(self._problems, key=lambda p: p[0])])

    def section(self, *key: str, required: bool = True) -> "Section":
        """The table at a key; an empty one, with a problem reported, where it is required and absent."""
        values: Any = self.values
        for part in key:
            values = values.get(part) if isinstance(values, dict) else None
        if values is None and required:
            self.report(key, f"missing. Add a table [{dotted(key)}]")
        elif values is not None and not isinstance(values, dict):
            self.report(key, f"must be a table, not {in_toml(values)}")
        return Section(self, key, values if isinstance(values, dict) else {})


class Section:
    """One table of a document. Each method reads one key; :meth:`finish` reports the keys that nobody read.

    A key that is missing (and has no default) or of a wrong type is reported, and a value of the
    right type (the default, or an empty one) is returned, so that reading can go on.
    """

    def __init__(self, document: Document, key: Key, values: dict[str, Any]) -> None:
        self.document = document
        self.key = key
        self.values = values
        self._asked: list[str] = []

    def __contains__(self, name: str) -> bool:
        self._asked.append(name)
        return name in self.values

    def report(self, name: str, message: str) -> None:
        """Note a problem with a key of this table."""
        self.document.report((*self.key, name), message)

    def _take(self, name: str, kinds: tuple[type, ...], wanted: str, required: bool) -> Any:
        """The value, or ``None`` if it is absent or of a wrong type (``True`` is not an ``int`` here)."""
        self._asked.append(name)
        if name not in self.values:
            if required:
                self.report(name, f"missing. Add it to [{dotted(self.key)}]: {wanted}")
            return None
        value = self.values[name]
        if type(value) not in kinds:
            self.report(name, f"must be {wanted}, not {in_toml(value)}")
            return None
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string that is not empty; ``None`` as default: required."""
        value = self._take(name, (str,), "a string", required=default is None)
        if value is not None and not value.strip():
            self.report(name, "is empty")
        return value or default or ""

    def number(self, name: str, default: float) -> float:
        """A number of 0 or more."""
        value = self._take(name, (int, float), "a number", required=False)
        if value is not None and not 0 <= value < float("inf"):
            self.report(name, f"must be 0 or more, not {value}")
            return default
        return default if value is None else value

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number of 1 or more; ``None`` as default: required."""
        value = self._take(name, (int,), "a whole number", required=default is None)
        if value is not None and value < 1:
            self.report(name, f"must be 1 or more, not {value}")
        return value or default or 1

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._take(name, (bool,), "true or false", required=False)
        return default if value is None else value

    def texts(self, name: str) -> tuple[str, ...]:
        """A required array of strings, none of them twice."""
        value = self._take(name, (list,), "an array of strings", required=True)
        if value is None:
            return ()
        if wrong := [item for item in value if type(item) is not str]:
            self.report(name, f"must hold strings, not {in_toml(wrong[0])}")
            return ()
        if twice := sorted({item for item in value if value.count(item) > 1}):
            self.report(name, f"names {twice[0]!r} twice")
        return tuple(dict.fromkeys(value))

    def mapping(self, name: str, required: bool = False) -> dict[str, str]:
        """A table of strings."""
        value = self._take(name, (dict,), "a table of strings", required) or {}
        for key, item in value.items():
            if type(item) is not str:
                self.document.report((*self.key, name, key), f"must be a string, not {in_toml(item)}")
        return {key: item for key, item in value.items() if type(item) is str}

    def sections(self, name: str) -> "dict[str, Section]":
        """A table of tables, which may be absent."""
        value = self._take(name, (dict,), "a table of tables", required=False) or {}
        return {key: self.document.section(*self.key, name, key) for key in value}

    def numbers(self, name: str) -> dict[str, float]:
        """A table of numbers of 0 or more."""
        numbers: dict[str, float] = {}
        for key, value in (self._take(name, (dict,), "a table of numbers", required=False) or {}).items():
            if type(value) not in (int, float) or not 0 <= value < float("inf"):
                self.document.report((*self.key, name, key), f"must be a number of 0 or more, not {value!r}")
            else:
                numbers[key] = float(value)
        return numbers

    def choices(self, name: str) -> dict[str, tuple[str, ...]]:
        """A table whose values are CSV cells: a string or whole number, or an array of them. Cells become strings."""
        cells: dict[str, tuple[str, ...]] = {}
        for key, value in (self._take(name, (dict,), "a table", required=False) or {}).items():
            items = value if isinstance(value, list) else [value]
            if wrong := [item for item in items if type(item) not in (str, int)]:
                self.document.report((*self.key, name, key), "must be a string, a whole number or an array of "
                                     f"them, as the CSV has them, not {in_toml(wrong[0])}")
            else:
                cells[key] = tuple(str(item) for item in items)
        return cells

    def finish(self) -> None:
        """Report the keys of the table that were not asked for."""
        for name in self.values:
            if name not in self._asked:
                self.report(name, f"unknown key. {suggest(name, sorted(set(self._asked)))}")


def suggest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """A sentence that leads from a wrong name to the right ones."""
    if close := get_close_matches(name, known, n=1):
        return f"Did you mean {close[0]!r}?"
    return f"Known are: {', '.join(known)}" if known else "There are none yet"


def _statements(text: str) -> list[tuple[int, Key, bool]]:
    """(line, full key, whether it is a ``[table]`` header) of the headers and assignments, top to bottom."""
    statements: list[tuple[int, Key, bool]] = []
    table: Key = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line.rstrip("\r")):
            table = _parts(header[1])
            statements.append((number, table, True))
        elif assignment := _ASSIGNMENT.match(line):
            statements.append((number, (*table, *_parts(assignment[1])), False))
    return statements


def _parts(name: str) -> Key:
    return tuple(part.strip("\"'") for part in re.findall(_PART, name))
