"""Convergence: f1, f2 and λ over the steps, all solutions in one panel each."""

import math
from collections.abc import Sequence
from typing import Literal

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unlearnkit.report import reading, svg
from unlearnkit.report.drawing import DASHED
from unlearnkit.report.numbers import known
from unlearnkit.report.shape import Results, Solution

Quantity = Literal["f1", "f2", "lam"]
Value = tuple[int, float | None]
SHADES = colormaps["viridis"]
TITLES: dict[Quantity, str] = {"f1": "forget loss f1", "f2": "retain loss f2", "lam": "multiplier λ"}


def picture(results: Results) -> Figure | None:
    """Draw the three panels side by side with a legend; None where no history was kept."""
    if not (trained := _trained(results)):
        return None
    plot = Figure(figsize=(11, 3.6), layout="constrained")
    for i, (quantity, title) in enumerate(TITLES.items()):
        _draw(plot.add_subplot(1, 3, i + 1, title=title), trained, quantity)
    lines = [line for line in plot.axes[0].lines if str(line.get_gid()).startswith("line/")]
    plot.legend(lines, [s["label"] for s in trained], loc="outside right center")
    return plot


def panels(results: Results) -> list[tuple[str, str, bool]]:
    """Return title and drawing of each panel, and whether spikes in it are cut; nothing where no history was kept."""
    trained, drawn = _trained(results), []
    for quantity, title in TITLES.items() if trained else ():
        plot = Figure(figsize=(4.4, 2.4), layout="constrained")
        cut = _draw(plot.add_subplot(), trained, quantity)
        drawn.append((title, svg.inline(plot, f"{title} over the steps of every solution"), cut))
    return drawn


def legend(results: Results) -> list[tuple[str, str]]:
    """Return label and colour of each solution that has a line in the panels."""
    trained = _trained(results)
    return [(s["label"], to_hex(SHADES(place / len(trained)))) for place, s in enumerate(trained)]


def _trained(results: Results) -> list[Solution]:
    return [s for s in reading.shown(results) if (history := s.get("history")) and history["step"]]


def _draw(axes: Axes, trained: Sequence[Solution], quantity: Quantity) -> bool:
    """Draw values on batches as a line, on the whole training sets as dots, and each ε; tell whether spikes are cut."""
    curves = [_curves(s, quantity) for s in trained]
    values = sorted(value for pair in curves for points in pair for _, value in points if known(value))
    # λ explodes as ‖∇f1‖ vanishes.
    roof = 3 * values[int(0.95 * (len(values) - 1))] or values[-1] if values and quantity == "lam" else math.inf
    cut = bool(values) and values[-1] > roof
    for place, (s, pair) in enumerate(zip(trained, curves, strict=True)):
        colour = SHADES(place / len(trained))
        if quantity == "f1" and known(epsilon := s.get("epsilon")):
            axes.axhline(epsilon, color=colour, lw=0.8, ls=DASHED, gid=f"epsilon-line/{s['id']}")
        for points, kind, form in zip(pair, ("line", "dots"), ("-", "o"), strict=True):
            # A value that is not known breaks the line.
            up = [min(value, roof) if known(value) else math.nan for _, value in points]
            (line,) = axes.plot([step for step, _ in points], up, form, color=colour, lw=1.2, ms=4)
            line.set(gid=f"{kind}/{s['id']}", clip_on=False, in_layout=False)
        if bars := [(step, value - half, value + half) for step, value, half in _intervals(s, quantity)]:
            axes.vlines(*zip(*bars, strict=True), color=colour, lw=1.2, gid=f"dots/{s['id']}")
    if quantity != "f1":
        axes.update_datalim([(0, 0)])
    axes.margins(x=0, y=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.set(xlabel="step", xlim=(0, None), ylim=(None, roof if cut else None))
    return cut


def barred(results: Results) -> bool:
    """Tell whether there are looks at some of the images, whose values come with intervals."""
    return any(True for s in _trained(results) for quantity in TITLES for _ in _intervals(s, quantity))


def _intervals(s: Solution, quantity: Quantity) -> list[tuple[int, float, float]]:
    """Return step, value and half-width of each look at some of the images."""
    if quantity == "lam":
        return []
    within: Literal["f1_within", "f2_within"] = "f1_within" if quantity == "f1" else "f2_within"
    looks = ((check["step"], check[quantity], check.get(within)) for check in s.get("checks", []))
    return [(step, value, half) for step, value, half in looks if value is not None and half is not None]


def _curves(s: Solution, quantity: Quantity) -> tuple[list[Value], list[Value]]:
    """Return a solution's values on batches and on the whole training sets, by step; λ is the step's own."""
    history = s.get("history")
    on_batches = list(zip(history["step"], history[quantity], strict=True)) if history else []
    return on_batches, [(check["step"], check[quantity]) for check in s.get("checks", []) if known(check[quantity])]
