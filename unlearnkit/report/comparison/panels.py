"""Small plots side by side: figures over ε and over what is varied, means over the seeds in bands."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from unlearnkit.report import reading
from unlearnkit.report.comparison.compare import Comparison
from unlearnkit.report.comparison.points import EPSILON, LOSSES, Axis, Point
from unlearnkit.report.drawing import COLOURS, DASHED, METHODS

ACROSS, BAND = 3, 0.4
"""Plots in a row, and how opaque all bands of one are together."""


def panels(comparison: Comparison) -> dict[Axis, Figure]:
    """Return a plot over ε, where there are some, and one over each key that is varied."""
    drawn = {EPSILON: _over_epsilon(comparison)} | {axis: _over(comparison, axis) for axis in comparison.varied}
    return {axis: plot for axis, plot in drawn.items() if plot is not None}


def file(axis: Axis) -> str:
    """Return the name of the plot over an axis."""
    return f"over-{re.sub('[^A-Za-z0-9._-]+', '-', axis.id)}.png"


def _over_epsilon(comparison: Comparison) -> Figure | None:
    """Draw each figure over ε, a line a recipe; the dial of one of one seed is dashed where f2 is drawn."""
    lines = {
        name: [p for p in comparison.points if p.group == name and p.kind == "epsilon" and p.on(EPSILON).known]
        for name in comparison.names
    }
    if max(map(len, lines.values())) < 2:
        return None
    plot, places = _grid(comparison, LOSSES[1:], EPSILON.name)
    colours = dict(zip(lines, _colours(len(lines)), strict=False))
    for figure, axes in places:
        for name, points in lines.items():
            _line(axes, points, EPSILON, figure, colours[name], BAND / len(lines))
            if figure == LOSSES[1] and len(comparison.groups[name]) == 1:
                way = [(s["f1"] or 0.0, s["f2"] or 0.0) for s in reading.stops(comparison.groups[name][0].results)]
                axes.plot([f1 for f1, _ in way], [f2 for _, f2 in way], color=colours[name], lw=0.7, ls=DASHED)
    return _told(plot, colours if len(colours) > 1 else {})


def _over(comparison: Comparison, over: Axis) -> Figure | None:
    """Draw each figure over a key that is varied, a line for what is the same solution in all runs."""
    lines: dict[tuple[object, ...], list[Point]] = {}
    for p in (p for p in comparison.points if p.kind != "original"):
        beside = [p.manifests[0]["varied"].get(other.id) for other in comparison.varied if other != over]
        lines.setdefault((p.key, *beside), []).append(p)
    keys = dict.fromkeys(key for key, *_ in lines)
    if not keys:
        return None
    colours = dict(zip(keys, _colours(len(keys)), strict=False))
    plot, places = _grid(comparison, LOSSES, over.id)
    for figure, axes in places:
        for (key, *_), points in lines.items():
            _line(axes, points, over, figure, colours[key], BAND / len(lines))
        if over.words:
            axes.set_xticks(range(len(over.words)), [textwrap.fill(word, 14) for word in over.words])
    labels = {p.key: p.alone for p in comparison.points}
    return _told(plot, {labels[str(key)]: colour for key, colour in colours.items()})


def _grid(comparison: Comparison, losses: Sequence[Axis], across: str) -> tuple[Figure, list[tuple[Axis, Axes]]]:
    """Return a plot with a place for each figure: losses, and metrics on validation images against the truth."""
    metrics = (a for a in comparison.axes if a.id.split("/")[1:3] == ["validation", "truth"])
    shown = [*losses, *(a for a in metrics if any(p.on(a).known for p in comparison.points))]
    rows = -(-len(shown) // ACROSS)
    plot = Figure(figsize=(9.6, 0.6 + 2.5 * rows), layout="constrained")
    places = [plot.add_subplot(rows, ACROSS, number, xlabel=across) for number in range(1, len(shown) + 1)]
    for figure, axes in zip(shown, places, strict=True):
        axes.set_title(figure.name.removesuffix(", validation images, against the truth"), fontsize=8.5)
    return plot, list(zip(shown, places, strict=True))


def _line(axes: Axes, points: Iterable[Point], across: Axis, up: Axis, colour: str, alpha: float) -> None:
    """Join means over the seeds, in a band of their standard deviation."""
    pairs = ((p.on(across).mean, p.on(up)) for p in points)
    known = sorted((x, y.mean, y.std or 0.0) for x, y in pairs if x is not None and y.mean is not None)
    if known:
        x, mean, std = zip(*known, strict=True)
        axes.plot(x, mean, "o-", color=colour, ms=3, lw=1)
        if any(std):
            low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=colour, alpha=alpha, lw=0)


def _colours(count: int) -> Iterator[str]:
    """Return as many colours: those of the page as far as they go, else a scale from the first to the last."""
    if count <= len(METHODS):
        return iter([COLOURS["accent"], *METHODS[: count - 1]])
    scale = colormaps["viridis"]
    return (to_hex(scale(0.9 * place / (count - 1))) for place in range(count))


def _told(plot: Figure, colours: dict[str, str]) -> Figure:
    """Say below a plot what its colours stand for."""
    handles = [Line2D([], [], color=colour, marker="o", ms=3, lw=1, label=name) for name, colour in colours.items()]
    if handles:
        plot.legend(handles=handles, loc="outside lower center", ncols=max(1, 90 // max(map(len, colours))))
    return plot
