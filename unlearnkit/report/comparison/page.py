"""The comparison as a page, as Markdown and as plots."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unlearnkit.report import svg
from unlearnkit.report.comparison.compare import Comparison, seeds, verdict
from unlearnkit.report.comparison.grids import Grid
from unlearnkit.report.comparison.panels import panels
from unlearnkit.report.comparison.points import Axis
from unlearnkit.report.drawing import COLOURS, OWN, Limits, Mark, asset, legend, marks, styled
from unlearnkit.report.front import WORDS
from unlearnkit.report.html import rendered
from unlearnkit.report.markdown import plain, table
from unlearnkit.report.numbers import figure, unbroken
from unlearnkit.report.strips import Strip


def limits(comparison: Comparison, axis: Axis) -> Limits:
    """Hold the ε solutions and the original model, and what is not far from them."""
    values = [(p.kind, value) for p in comparison.points for value in p.on(axis).known]
    return Limits.around([value for kind, value in values if kind in OWN], [value for _, value in values])


def _sort(comparison: Comparison, kind: str, group: str) -> str:
    """Return what a solution is called in the legend: one kind of solutions of all that is varied looks alike."""
    word = WORDS.get(kind, kind)
    return word if comparison.varied else comparison.named(word, group)


def scatter(comparison: Comparison) -> Figure:
    """Draw means over the seeds as markers, single seeds as dots, and what one method's knob gave as a line."""
    plot = Figure(figsize=(7.4, 5.4), layout="constrained")
    x, y = limits(comparison, comparison.x), limits(comparison, comparison.y)
    axes = plot.add_subplot(xlim=x, ylim=y, xlabel=comparison.x.name, ylabel=comparison.y.name)
    looks, marked, far = marks((_sort(comparison, p.kind, p.group), p.kind) for p in comparison.points), {}, []
    for curve in comparison.curves:
        knob = [p for p in curve.points if p.kind != "boundary"]
        means = sorted(filter(None, map(comparison.mean, knob)))
        if len(means) > 1:
            axes.plot(
                *zip(*means, strict=True),
                color=looks[_sort(comparison, knob[0].kind, curve.group), knob[0].kind].colour,
                lw=0.8,
                zorder=1,
            )
    for point in comparison.points:
        if (mean := comparison.mean(point)) is None:
            continue
        sort = _sort(comparison, point.kind, point.group)
        (at, up), (shape, colour) = mean, looks[sort, point.kind]
        marked[sort] = Mark(shape, colour), sort
        if (x.inside(at), y.inside(up)) != (at, up):
            far.append(f"{point.label}: {figure(at)}, {figure(up)}")
        face = COLOURS["paper"] if comparison.dominated(point) else colour
        axes.plot(x.inside(at), y.inside(up), shape, color=colour, mfc=face, clip_on=False)
        each = zip(point.on(comparison.x).each, point.on(comparison.y).each, strict=True)
        seeds = [pair for pair in each if None not in pair]
        if len(seeds) > 1:
            axes.plot(*zip(*seeds, strict=True), ".", color=colour, ms=3, alpha=0.6)
    legend(plot, marked.values())
    if far:
        axes.set_xlabel(axes.get_xlabel() + "\nDrawn on the frame, far outside: " + "\n".join(far), fontsize=7)
    return plot


def page(comparison: Comparison, grids: Sequence[Grid], pictures: Sequence[tuple[str, Sequence[Strip]]]) -> str:
    """Return comparison.html; `pictures` are of one run of each recipe, by the recipe's name."""
    with styled():
        still = svg.inline(scatter(comparison), f"Every solution: {comparison.x.name} and {comparison.y.name}")
        over = [(axis.name, svg.inline(plot, f"Figures over {axis.name}")) for axis, plot in panels(comparison).items()]
    return rendered(
        "comparison", name=comparison.title, data=_data(comparison),
        style=asset("report.css") + asset("comparison.css"), verdict=verdict(comparison), cautions=comparison.cautions,
        still=still, over=over, seeds=seeds(comparison), several=len(comparison.names) > 1,
        repeated=comparison.repeated, single=any(len(runs) == 1 for runs in comparison.groups.values()),
        tables=[(grid, grid.text()) for grid in grids],
        pictures=[(name, strips) for name, strips in pictures if strips],
    )  # fmt: skip


def markdown(comparison: Comparison, grids: Sequence[Grid], plots: Sequence[Path]) -> str:
    """Return comparison.md; plots are linked relative to it."""
    blocks = [f"# Comparison: {plain(comparison.title)}", plain(verdict(comparison))]
    blocks += [f"- **Caution:** {plain(caution)}" for caution in comparison.cautions]
    blocks += [plain(seeds(comparison)), *(f"![{path.stem}](plots/{path.name})" for path in plots)]
    for grid in grids:
        shown = grid.text()
        blocks += [f"## {plain(grid.title)}", plain(grid.said), table(shown), *(f"- {plain(n)}" for n in shown.notes)]
    return "\n\n".join(blocks) + "\n"


def _data(comparison: Comparison) -> dict[str, Any]:
    """Return what the page's script draws: every axis, and every point on all of them."""
    looks = marks((_sort(comparison, p.kind, p.group), p.kind) for p in comparison.points)
    axes = [
        asdict(a) | {"limits": (held := limits(comparison, a)), "ticks": list(enumerate(a.words)) or held.ticks()}
        for a in comparison.axes
    ]
    points = [
        {
            "label": unbroken(p.label),
            "pictures": f"{p.group}/{p.key}",
            "kind": _sort(comparison, p.kind, p.group),
            "key": p.key,
            "joined": None if p.kind in ("original", "boundary") else comparison.named(p.kind, p.group),
            **svg.look(looks[_sort(comparison, p.kind, p.group), p.kind]),
            "values": {axis.id: p.on(axis).each for axis in comparison.axes},
        }
        for p in comparison.points
    ]
    return {"axes": axes, "x": comparison.x.id, "y": comparison.y.id, "points": points}
