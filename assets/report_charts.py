"""The report's charts, as SVG to be put into the page: text and axes take the page's colours, light or dark. Or as
pictures that stand alone, which know of no page: in a shade that can be read on light and dark.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

# Matplotlib knows no CSS: these two colours are exchanged in the finished SVG.
INK, ACCENT = "#0a0b0c", "#0a0b0d"
CSS = {INK: "currentColor", ACCENT: "var(--accent)"}
ALONE = {INK: "#7a8290", ACCENT: "#4c86d8"}
HEAT = (0.26, 0.47, 0.85)
POINTS = 100
"""A curve is drawn through at most so many points; what lies between shows as a band from least to most."""
LABELLED_CLASSES = 32
"""Beyond, names and counts in a confusion matrix would be unreadable."""


def loss_chart(progress: Sequence[Mapping[str, Any]], reference: float | None, reference_name: str) -> str:
    """Loss against step, with a dashed line at ``reference``. SVG text."""
    steps = np.array([row["step"] for row in progress], dtype=float)
    losses = np.array([row["loss"] for row in progress], dtype=float)
    parts = np.array_split(np.arange(len(losses)), min(POINTS, len(losses)))
    x = [steps[part].mean() for part in parts]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.1, 2.5), layout="constrained")
        axes = figure.add_subplot()
        least, most = ([pick(losses[part]) for part in parts] for pick in (np.min, np.max))
        axes.fill_between(x, least, most, color=ACCENT, alpha=0.2, linewidth=0)
        axes.plot(x, [losses[part].mean() for part in parts], color=ACCENT, linewidth=1.6)
        if reference is not None:
            axes.axhline(reference, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.7)
            axes.annotate(
                reference_name, (1, reference), xycoords=("axes fraction", "data"), xytext=(-3, 3),
                textcoords="offset points", ha="right", va="bottom", fontsize=8,
            )  # fmt: skip
            axes.margins(y=0.12)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.grid(True, axis="y", alpha=0.15, linewidth=0.6)
        bare(axes)
        return page_svg(figure)


def validation_chart(steps: Sequence[int], scores: Mapping[str, Sequence[float]]) -> str:
    """Top-1 in 0..1 at each checkpoint, a line for each model by its name ("" for one alone). SVG text."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.1, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for name, values in scores.items():
            axes.plot(steps, values, color=ACCENT, linewidth=1.6, marker="o", markersize=3)
            axes.annotate(
                name, (steps[-1], values[-1]), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
            )
        axes.set_xlabel("step")
        axes.set_ylabel("top-1 of validation clips")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(bottom=0)
        axes.grid(True, axis="y", alpha=0.15, linewidth=0.6)
        bare(axes)
        return page_svg(figure)


def confusion_chart(class_names: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """True classes down, predicted ones across; a cell's colour is its share of the true class. SVG text."""
    counts = np.array(confusion)
    classes = len(counts)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    colours = np.empty((classes, classes, 4))
    colours[..., :3], colours[..., 3] = HEAT, 0.04 + 0.96 * shares
    labelled = classes <= LABELLED_CLASSES
    side = 2.2 + 0.36 * classes if labelled else 7.0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(side, side * 0.86), layout="constrained")
        axes = figure.add_subplot()
        axes.pcolormesh(colours, rasterized=not labelled)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if labelled:
            places = np.arange(classes) + 0.5
            axes.set_xticks(places, class_names, rotation=40, ha="right", rotation_mode="anchor")
            axes.set_yticks(places, class_names)
            for (true, predicted), count in np.ndenumerate(counts):
                if count:
                    colour = "white" if shares[true, predicted] > 0.5 else INK
                    axes.text(predicted + 0.5, true + 0.5, str(count), ha="center", va="center", color=colour)
        axes.tick_params(length=0)
        bare(axes)
        axes.spines[:].set_visible(False)
        return page_svg(figure)


# Text stays text, and a `$` in a class name is no formula.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reelhouse",
    "text.parse_math": False,
    "font.size": 8.5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def bare(axes: Axes) -> None:
    """Take away what shows no data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.patch.set_visible(False)


def standing_alone(svg: str) -> str:
    """A chart of the report as the text of an SVG file, for where no page gives it colours and a font."""
    for css, colour in zip(CSS.values(), ALONE.values(), strict=True):
        svg = svg.replace(css, colour)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" font-family="sans-serif"'
    svg = svg.replace("<svg", f'<svg {names} width="{width}pt" height="{height}pt"', 1)
    return svg.replace(" href=", " xlink:href=")


def page_svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element that is as wide as its place in the page and refers to nothing outside."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", transparent=True, metadata=nothing, dpi=200)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Names of namespaces, which HTML does not need, look like addresses to load.
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg, count=2).replace("xlink:href", "href")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for colour, css in CSS.items():
        svg = svg.replace(colour, css)
    # In a page, this style would be that of all elements, and the page has a font.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    return re.sub(r" font-family: [^;\"]*;", "", svg)
