"""What Dagster's UI shows of an asset beside its numbers: tables and pictures as Markdown, and columns explained."""

import base64
import re
from collections.abc import Sequence
from typing import Any

import dagster as dg

from warehouse.schema import BY_NAME


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A table: columns of numbers to the right, thousands apart in whole ones; NULL is an empty cell."""
    numeric = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(names))]
    lines = [[_cell(name) for name in names], ["---:" if right else "---" for right in numeric]]
    lines += [[_cell(value) for value in row] for row in rows]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


class Image(str):
    """Markdown of a picture that is part of the text; goes into a cell as it is."""

    __slots__ = ()


def image(data: bytes, kind: str, name: str) -> Image:
    """A picture; ``kind``: jpeg or svg+xml. By ``name``, a clip id, it is found in Dagster's records."""
    return Image(f"![{_cell(name)}](data:image/{kind};base64,{base64.b64encode(data).decode()})")


def chart(svg: str) -> dg.MarkdownMetadataValue:
    """A chart; SVG text that is complete in itself."""
    return dg.MetadataValue.md(image(svg.encode(), "svg+xml", "chart"))


def tiles(pictures: Sequence[tuple[object, str]], columns: int) -> dg.MarkdownMetadataValue:
    """A contact sheet: pictures (or in words why there is none) with the words below each, row after row."""
    lines = [f"|{'  |' * columns}", f"|{' --- |' * columns}"]
    for start in range(0, len(pictures), columns):
        row = pictures[start : start + columns]
        empty = [""] * (columns - len(row))
        lines += [f"| {' | '.join([*map(_cell, cells), *empty])} |" for cells in zip(*row, strict=True)]
    return dg.MetadataValue.md("\n".join(lines))


def columns(name: str, *others: str) -> dict[str, Any]:
    """Metadata of an asset that writes these tables: their columns, as :mod:`warehouse.schema` describes them.

    Dagster shows the columns of the first in a place of its own, and those of the others beside the asset's figures.
    """
    return {"dagster/column_schema": _schema(name), **{f"columns of {other}": _schema(other) for other in others}}


def _schema(name: str) -> dg.TableSchema:
    described = BY_NAME[name]
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name,
                str(c.type),
                c.doc,
                dg.TableColumnConstraints(nullable=c.nullable, unique=described.key == (c.name,)),
            )
            for c in described.columns
        ],
        constraints=dg.TableConstraints(other=[f"one row is {described.row}", f"key: {', '.join(described.key)}"]),
    )


def _cell(value: object) -> str:
    """Text that stays inside its cell and is no markup, whatever names of files and classes hold."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Image):
        return value
    return " ".join(re.sub(r"([\\|\[`])", r"\\\1", str(value)).replace("<", "&lt;").split())
