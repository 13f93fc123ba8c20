"""The Pareto front: where each solution lies and how it is marked."""

from dataclasses import dataclass
from itertools import pairwise

from unlearnkit.report import results as shape
from unlearnkit.report.axis import Axis
from unlearnkit.report.numbers import figure, known
from unlearnkit.report.results import Results, Solution

WIDTH, HEIGHT = 460, 340
CROWDED = 8
"""More ε than this have no room for their values side by side."""
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 46


@dataclass(frozen=True)
class Point:
    """A solution in the plane of f1 and f2."""

    id: str
    label: str
    kind: str
    """original, boundary, epsilon, or other-N: the N-th method run for comparison."""
    f1: float
    f2: float
    dominated: bool
    epsilon: float | None

    def text(self) -> str:
        """Say where the point lies."""
        return f"{self.label}: f1 {figure(self.f1)}, f2 {figure(self.f2)}" + ", dominated" * self.dominated


@dataclass(frozen=True)
class Front:
    """The plot's axes, its points, and those too far off to be drawn in scale."""

    x: Axis
    y: Axis
    points: list[Point]

    def far(self) -> list[Point]:
        """Return the points drawn on the frame because they lie beyond it."""
        return [p for p in self.points if not self._inside(p)]

    def stairs(self) -> list[tuple[float, float]]:
        """Return the corners of the region that nothing found here improves on."""
        best = sorted((p.f1, p.f2) for p in self.points if not p.dominated and self._inside(p))
        corners = [c for (_, a2), (b1, b2) in pairwise(best) for c in ((b1, a2), (b1, b2))]
        return [*best[:1], *corners]

    def path(self) -> str:
        """Return the stairs as an SVG path."""
        corners = "L".join(f"{self.x.at(a)} {self.y.at(b)}" for a, b in self.stairs())
        return corners and "M" + corners

    def legend(self) -> dict[str, str]:
        """Return what each kind of marker stands for, in the order of the points."""
        words = {"original": "original model", "boundary": "boundary (phase 1)", "epsilon": "ε (phase 2)"}
        kinds = dict.fromkeys(p.kind for p in self.points)
        return {kind: words.get(kind) or ", ".join(p.label for p in self.points if p.kind == kind) for kind in kinds}

    def _inside(self, point: Point) -> bool:
        return self.x.holds(point.f1) and self.y.holds(point.f2)


def front(results: Results) -> Front:
    """Lay the solutions out; methods far beyond the others are moved to the frame, so that the front stays readable."""
    methods = list(dict.fromkeys(s.get("method", "") for s in shape.others(results)))
    every = shape.shown(results)
    points = [p for s in every if (p := _point(s, methods)) is not None]
    ours = [p for p in points if not p.kind.startswith("other")]
    f1 = near([*(p.f1 for p in ours), *(p.epsilon for p in ours if p.epsilon is not None)], [p.f1 for p in points])
    f2 = near([p.f2 for p in ours], [p.f2 for p in points])
    return Front(Axis.around(f1, LEFT, WIDTH - RIGHT), Axis.around(f2, HEIGHT - BOTTOM, TOP), points)


def _point(s: Solution, methods: list[str]) -> Point | None:
    if not (known(s["f1"]) and known(s["f2"])):
        return None
    phases = {1: "boundary", 2: "epsilon"}
    method = s.get("method", "")
    kind = phases.get(s.get("phase") or 0) or (f"other-{methods.index(method)}" if method in methods else "original")
    epsilon = s.get("epsilon")
    return Point(s["id"], s["label"], kind, s["f1"], s["f2"], bool(s.get("dominated_by")), epsilon)


def near(ours: list[float], everyone: list[float]) -> list[float]:
    """Return the values that an axis should hold: all of `ours`, and of the others those not far from them."""
    if not ours:
        return everyone
    room = 0.6 * (max(ours) - min(ours))
    return [*ours, *(v for v in everyone if min(ours) - room <= v <= max(ours) + room)]
