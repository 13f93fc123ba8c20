"""The Pareto front: where each solution lies and how it is drawn."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from unlearnkit.report import reading, svg
from unlearnkit.report.drawing import COLOURS, DASHED, OWN, Limits, Mark, legend, marks
from unlearnkit.report.numbers import figure, known
from unlearnkit.report.shape import Results, Solution

WORDS = {"original": "original model", "boundary": "boundary (phase 1)", "epsilon": "ε (phase 2)"}
DIAL = (Mark("_", COLOURS["accent"]), "dial: any ε between")
LETTER, MARGIN = 0.075, 0.9
"""Inches that a letter of the values of ε takes at most, and that the plot has beside its axes."""
VALID = (Mark("s", COLOURS["tint"]), "valid range of ε")
"""What a run with a dial has beside its solutions, and how it is drawn."""


class Point(NamedTuple):
    """A solution in the plane of f1 and f2."""

    id: str
    label: str
    kind: str
    f1: float
    f2: float
    dominated: bool
    epsilon: float | None

    def text(self) -> str:
        """Say where the point lies."""
        return f"{self.label}: f1 {figure(self.f1)}, f2 {figure(self.f2)}" + ", dominated" * self.dominated


@dataclass(frozen=True)
class Front:
    """The plot's limits, its points and their marks; the front stays readable as methods far off move to the frame."""

    x: Limits
    y: Limits
    points: list[Point]
    marks: dict[tuple[str, str], Mark]
    way: list[tuple[str, float, float]]
    """Id, f1 and f2 of the dial's stops, tight to loose, and of the original model; nothing without a dial."""
    valid: tuple[float, float] | None
    """The valid range of ε, where there is a dial to leave it."""

    def near(self) -> list[Point]:
        """Return the points within the frame."""
        return [p for p in self.points if (self.x.inside(p.f1), self.y.inside(p.f2)) == (p.f1, p.f2)]

    def far(self) -> list[str]:
        """Say where the points lie that are drawn on the frame."""
        return [p.text() for p in self.points if p not in self.near()]

    def legend(self) -> list[tuple[Mark, str]]:
        """Return each mark and what it stands for."""
        named = [(mark, WORDS.get(kind, kind)) for (_, kind), mark in self.marks.items()]
        return [*named, *([DIAL] if self.way else []), *([VALID] if self.valid else [])]


def front(results: Results) -> Front:
    """Lay the solutions out."""
    points = [
        Point(s["id"], s["label"], reading.kind(s), f1, f2, bool(s.get("dominated_by")), _given(s))
        for s in reading.shown(results)
        if known(f1 := s["f1"]) and known(f2 := s["f2"])
    ]
    ours = [p for p in points if p.kind in OWN]
    stops = reading.stops(results)
    passed = [*reversed(stops), reading.original(results)] if stops else []
    way = [(s["id"], f1, f2) for s in passed if known(f1 := s["f1"]) and known(f2 := s["f2"])]
    held = [v for p in ours for v in (p.f1, p.epsilon) if v is not None] + [f1 for _, f1, _ in way]
    x = Limits.around(held, [p.f1 for p in points])
    y = Limits.around([*(p.f2 for p in ours), *(f2 for *_, f2 in way)], [p.f2 for p in points])
    valid = (its["lowest"], its["highest"]) if "dial" in results and (its := results["range"]) else None
    return Front(x, y, points, marks(("", p.kind) for p in points), way, valid)


def _given(s: Solution) -> float | None:
    """Return the ε that a solution had to keep to: what a target found is no bound."""
    return None if "target" in s else s.get("epsilon")


def drawn(front: Front, width: float, height: float) -> Figure:
    """Draw a front in so many inches."""
    plot = Figure(figsize=(width, height), layout="constrained")
    axes = plot.add_subplot(xlim=front.x, ylim=front.y, xlabel="forget loss f1 (lower: more forgotten)")
    axes.set_ylabel("retain loss f2 (lower: better kept)", rotation_mode="anchor")
    words: dict[str, Any] = {"size": 8, "color": COLOURS["muted"], "va": "bottom"}
    axes.text(-0.03, 1.02, "ε", words, ha="right", transform=axes.transAxes)
    if front.valid:
        axes.axvspan(*front.valid, color=COLOURS["tint"], lw=0, zorder=0)
    if front.way:
        axes.plot(*zip(*(place for _, *place in front.way), strict=True), color=COLOURS["accent"], lw=1, zorder=2)
    for stop, f1, f2 in (one for one in front.way if one[0] != "original"):
        axes.plot(f1, f2, ".", color=COLOURS["accent"], ms=3, zorder=2, gid=f"stop/{stop}")
    ends = list[float]()  # where the last value of each row of them ends
    for p in sorted(front.points, key=lambda p: p.epsilon or 0.0):
        if p.epsilon is not None:
            axes.axvline(p.epsilon, color=COLOURS["axis"], lw=0.8, ls=DASHED, zorder=1, gid=f"bound/{p.id}")
            text = figure(p.epsilon, 3)
            half = (front.x.high - front.x.low) * LETTER * (len(text) + 1) / (width - MARGIN) / 2
            row = next((row for row, end in enumerate(ends) if end <= p.epsilon - half), len(ends))
            ends[row : row + 1] = [p.epsilon + half]
            axes.annotate(
                text, (p.epsilon, 1.02), (0, 10 * row), axes.get_xaxis_transform(), "offset points",
                ha="center", gid=f"bound/{p.id}", **words,
            )  # fmt: skip
    for p in front.points:
        x, y, (shape, colour) = front.x.inside(p.f1), front.y.inside(p.f2), front.marks["", p.kind]
        face = COLOURS["paper"] if p.dominated else colour
        axes.plot(x, y, shape, color=colour, mfc=face, clip_on=False, zorder=3, gid=f"point/{p.id}")
    # The corners of the region that nothing found here improves on.
    best = sorted((p.f1, p.f2) for p in front.near() if not p.dominated)
    corners = [corner for (_, a2), (b1, b2) in pairwise(best) for corner in ((b1, a2), (b1, b2))]
    axes.plot(*zip(*best[:1], *corners, strict=True), color=COLOURS["axis"], zorder=1)
    return plot


def picture(front: Front) -> Figure | None:
    """Draw a front with its legend; None without points."""
    if not front.points:
        return None
    far = [f"\nFar outside: {text}" for text in front.far()]
    plot = drawn(front, 6.4, 4.4 + 0.17 * len(far))
    plot.axes[0].set_xlabel(plot.axes[0].get_xlabel() + "".join(far))
    legend(plot, front.legend())
    return plot


def linked(front: Front) -> str:
    """Draw a front whose points select their solutions in the page."""
    label = "Pareto front of f1 and f2; each point selects a solution"
    return svg.inline(drawn(front, 4.6, 3.4), label, {p.id: p.text() for p in front.points})
