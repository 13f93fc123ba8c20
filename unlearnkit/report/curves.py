"""Convergence: f1, f2 and λ over the steps, all solutions in one panel each."""

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from unlearnkit.report.axis import Axis
from unlearnkit.report.numbers import known
from unlearnkit.report.results import Results, Solution

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 38

Quantity = Literal["f1", "f2", "lam"]
TITLES: dict[Quantity, str] = {"f1": "forget loss f1", "f2": "retain loss f2", "lam": "multiplier λ"}


@dataclass(frozen=True)
class Curve:
    """One solution's values on batches as a path, on the whole training sets as dots, and its ε."""

    id: str
    path: str
    dots: list[tuple[float, float]]
    bound: float | None


@dataclass(frozen=True)
class Panel:
    """One quantity of all solutions."""

    title: str
    x: Axis
    y: Axis
    curves: list[Curve]
    cut: bool
    """Whether spikes lie beyond the axis."""


def panels(results: Results) -> list[Panel]:
    """Return the three panels, or none where no history was kept."""
    trained = [s for s in results["solutions"] if s.get("history")]
    return [_panel(trained, quantity) for quantity in TITLES] if trained else []


def series(s: Solution, quantity: Quantity) -> list[tuple[int, float | None]]:
    """Return a solution's steps and what they saw of one quantity."""
    history = s.get("history")
    return list(zip(history["step"], history[quantity], strict=True)) if history else []


def checked(s: Solution, quantity: Quantity) -> list[tuple[int, float]]:
    """Return a solution's values on the whole training sets; λ is the step's own."""
    return [(c["step"], value) for c in s.get("checks") or [] if known(value := c[quantity])]


def limits(trained: list[Solution], quantity: Quantity) -> tuple[list[float], bool]:
    """Return the values an axis must hold, and whether spikes of λ, which explodes as ‖∇f1‖ vanishes, were left out."""
    values = sorted(v for s in trained for _, v in [*series(s, quantity), *checked(s, quantity)] if known(v))
    if not values:
        return [0.0, 1.0], False
    if quantity == "f1":
        return [*values, *(e for s in trained if known(e := s.get("epsilon")))], False
    roof = 3 * values[int(0.95 * (len(values) - 1))] or values[-1] or 1.0
    cut = quantity == "lam" and values[-1] > roof
    return [0.0, min(values[0], 0.0), roof if cut else values[-1] or 1.0], cut


def _panel(trained: list[Solution], quantity: Quantity) -> Panel:
    values, cut = limits(trained, quantity)
    last = max((step for s in trained for step, _ in [*series(s, quantity), *checked(s, quantity)]), default=1)
    x, y = Axis(0, last or 1, LEFT, WIDTH - RIGHT), Axis.around(values, HEIGHT - BOTTOM, TOP, pad=0.03)
    return Panel(TITLES[quantity], x, y, [_curve(s, quantity, x, y) for s in trained], cut)


def _curve(s: Solution, quantity: Quantity, x: Axis, y: Axis) -> Curve:
    pieces = []
    for drawn, group in groupby(series(s, quantity), key=lambda item: known(item[1])):
        if drawn:  # a value that is not known breaks the line
            pieces.append("M" + "L".join(f"{x.at(step)} {y.at(value)}" for step, value in group if value is not None))
    dots = [(x.at(step), y.at(value)) for step, value in checked(s, quantity)]
    epsilon = s.get("epsilon")
    bound = y.at(epsilon) if quantity == "f1" and known(epsilon) else None
    return Curve(s["id"], "".join(pieces), dots, bound)
