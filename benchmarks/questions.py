"""The worked questions of docs/questions.md, asked anew: ``python -m benchmarks.questions``.

The page is the only place where the queries stand. The command asks each of them of the catalog (that of ``make demo``,
or of ``REELHOUSE_SOURCES``), writes the answers and the pictures into the page, and prints what each took. With
``--json`` it prints the answers, and leaves the page alone.
"""

import argparse
import contextlib
import io
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from assets.data_charts import class_counts, distributions, stacked_bars
from warehouse.catalog.build import connect
from warehouse.catalog.confining import confine
from warehouse.commands.printing import print_table
from warehouse.config import load
from warehouse.store import Store, replace_file

PAGE = Path(__file__).parent.parent / "docs" / "questions.md"
# A heading, prose, the query, what it printed, and perhaps a picture of that.
_QUESTION = re.compile(
    r"^### (?P<question>.+)\n(?:(?!#+ |```).*\n)*```sql\n(?P<sql>(?:(?!```).*\n)*)```\n"
    r"\n```\n(?P<printed>(?:(?!```).*\n)*)```\n(?:\n!\[[^]]*\]\((?P<picture>[^)]+)\)\n)?",
    flags=re.MULTILINE,
)


@dataclass(frozen=True)
class Question:
    """A question of the page: its heading, its SQL, the output that the page shows, and the name of its picture."""

    question: str
    sql: str
    printed: str
    picture: str | None


@dataclass(frozen=True)
class Answer:
    """What a query answers, and the seconds that it took."""

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    seconds: float

    def printed(self) -> str:
        """As ``reelhouse sql`` prints it."""
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            print_table(self.names, self.rows)
        return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def questions(page: str) -> list[Question]:
    """The questions of the page, in their order."""
    return [Question(**found.groupdict()) for found in _QUESTION.finditer(page)]


def ask(connection: duckdb.DuckDBPyConnection, question: Question) -> Answer:
    """Ask on a connection that is confined, as ``reelhouse sql``'s are: of the catalog alone."""
    started = time.perf_counter()
    result = connection.execute(question.sql)
    names = tuple(column[0] for column in result.description or ())
    return Answer(names, tuple(result.fetchall()), time.perf_counter() - started)


def answered(page: str, answers: Mapping[str, Answer]) -> str:
    """The page with these answers (by question) in the place of those that it has."""

    def renew(found: re.Match[str]) -> str:
        start, end = (place - found.start() for place in found.span("printed"))
        return found[0][:start] + answers[found["question"]].printed() + found[0][end:]

    return _QUESTION.sub(renew, page)


def _composition(answer: Answer) -> str:
    bars: dict[str, dict[str, float]] = {}
    for collection, source, split, clips, *_ in answer.rows:
        bars.setdefault(f"{collection} {split}", {})[source] = clips
    return stacked_bars(bars, "clips")


def _classes(answer: Answer) -> str:
    return class_counts([(name, clips) for name, clips, *_ in answer.rows])


def _lengths(answer: Answer) -> str:
    lines: dict[str, list[tuple[float, int]]] = {}
    for collection, seconds, clips, *_ in answer.rows:
        lines.setdefault(collection, []).append((seconds, clips))
    return distributions(lines, 0.25, "seconds")


def _reasons(answer: Answer) -> str:
    bars: dict[str, dict[str, float]] = {}
    for collection, reason, clips, *_ in answer.rows:
        bars.setdefault(collection, {})[reason] = clips
    return stacked_bars(bars, "clips that are out")


def _contamination(answer: Answer) -> str:
    bars = {
        f"{source} {split} in {collection}": {"by id": by_id, "by content": by_content}
        for source, split, _, by_id, by_content, _, collection in answer.rows
        if by_id or by_content
    }
    return stacked_bars(bars, "evaluation clips that a listed training clip repeats")


CHARTS: dict[str, Callable[[Answer], str]] = {
    "questions_composition.svg": _composition,
    "questions_classes.svg": _classes,
    "questions_lengths.svg": _lengths,
    "questions_reasons.svg": _reasons,
    "questions_contamination.svg": _contamination,
}
"""What draws the answer of the question that shows the picture."""


def main() -> None:
    """Ask, write, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the answers as one object, and write nothing")
    options = parser.parse_args()
    page = PAGE.read_text()
    store = Store(load(check_files=False).data_root)
    with connect(store) as connection:
        confine(connection, store)
        answers = {each.question: ask(connection, each) for each in questions(page)}
    if options.json:
        printed = {name: {"seconds": a.seconds, "names": a.names, "rows": a.rows} for name, a in answers.items()}
        print(json.dumps(printed, default=str, indent=1))
        return
    for each in questions(page):
        if each.picture:
            replace_file(PAGE.with_name(each.picture), CHARTS[each.picture](answers[each.question]).encode())
    replace_file(PAGE, answered(page, answers).encode())
    print_table(("question", "rows", "ms"), [(n, len(a.rows), round(1000 * a.seconds, 1)) for n, a in answers.items()])


if __name__ == "__main__":
    main()
