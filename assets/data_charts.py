"""Charts of what the data is made of, for the UI and the documents: SVG that stands alone."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assets.report_charts import ACCENT, INK, STYLE, bare, page_svg, standing_alone

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#3aa5a0", "#e45756", "#d6b32b", "#9d755d")
"""Those that the report has for sources (report_style.css); beyond, they come again."""
WIDTH = 6.4
BAR = 0.3
"""Inches: of the chart, and of a bar with its gap."""
NAMED = 40
"""Beyond so many classes their names are left out."""


def stacked_bars(parts: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """A bar for each key, in their order from above, with a part for each inner key; zero parts may be left out.

    ``unit`` says what is counted. A part has the same colour in all bars.
    """
    kinds = list(dict.fromkeys(kind for bar in parts.values() for kind in bar))
    names = list(parts)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + BAR * (len(names) + -(-len(kinds) // 3))), layout="constrained")
        axes = figure.add_subplot()
        left = np.zeros(len(names))
        for i, kind in enumerate(kinds):
            widths = np.array([parts[name].get(kind, 0) for name in names], dtype=float)
            axes.barh(names, widths, left=left, height=0.68, color=COLOURS[i % len(COLOURS)], label=kind)
            left += widths
        for name, whole in zip(names, left, strict=True):
            axes.annotate(
                f"{whole:,.0f}", (whole, name), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
            )
        axes.invert_yaxis()
        axes.margins(x=0.08)
        _counting(axes, unit, along_x=True)
        figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=8, labelcolor=INK)
        return standing_alone(page_svg(figure))


def class_counts(counts: Sequence[tuple[str, int]]) -> str:
    """Clips of each class, the largest first: the slope is the imbalance. Names as far as they can be read."""
    ordered = sorted(counts, key=lambda row: (-row[1], row[0]))
    named = len(ordered) <= NAMED
    sizes = [size for _, size in ordered]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1 if named else 2.4), layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(len(ordered))
        axes.bar(places, sizes, width=0.8 if named else 1.0, color=ACCENT)
        if named:
            axes.set_xticks(places, [name for name, _ in ordered], rotation=40, ha="right", rotation_mode="anchor")
        else:
            axes.set_xlabel(f"{len(ordered):,} classes, the largest first")
        _counting(axes, "clips", along_x=False)
        return standing_alone(page_svg(figure))


def distributions(values: Mapping[str, Sequence[tuple[float, int]]], step: float, unit: str) -> str:
    """How many clips have which value: for each key a line over (lower edge, count) pairs; bins ``step`` wide."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, pairs) in enumerate(values.items()):
            known = dict(pairs)
            bins = round((max(known) - min(known)) / step) + 1
            edges = min(known) + step * np.arange(bins + 1)
            counts = [next((n for edge, n in known.items() if abs(edge - low) < step / 2), 0) for low in edges[:-1]]
            axes.stairs(counts, edges, label=name, color=COLOURS[i % len(COLOURS)], linewidth=1.5)
        axes.set_xlabel(unit)
        _counting(axes, "clips", along_x=False)
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
        return standing_alone(page_svg(figure))


def _counting(axes: Axes, unit: str, along_x: bool) -> None:
    (axes.set_xlabel if along_x else axes.set_ylabel)(unit)
    axes.grid(True, axis="x" if along_x else "y", alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    (axes.xaxis if along_x else axes.yaxis).set_major_formatter(lambda value, _: f"{value:,.0f}")
    bare(axes)
