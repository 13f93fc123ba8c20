"""What solutions of several runs, seeds and methods come to: fronts, hypervolumes and their paired differences."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtrit

from unlearnkit import fronts
from unlearnkit.errors import Exit, UserError
from unlearnkit.report.comparison.points import (
    EPSILON,
    LOSSES,
    Axis,
    Point,
    Run,
    Spread,
    axes,
    cautions,
    grouped,
    points,
)
from unlearnkit.report.reading import OURS

CONFIDENCE = 0.95
ROUNDING = 1e-12
"""Width of an interval that is none: shares of an area are at most 1."""


@dataclass(frozen=True)
class Difference:
    """The ε front's value minus a method's, paired by seed, with its confidence interval (Student's t)."""

    mean: float
    low: float
    high: float

    @property
    def larger_than_noise(self) -> bool | None:
        """Whether 0 is outside the interval; None where it has no width, as seeds that do not differ show no noise."""
        if math.isclose(self.low, self.high, rel_tol=ROUNDING, abs_tol=ROUNDING):
            return None
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Curve:
    """All points of one method in one recipe: its own trade-off."""

    method: str
    group: str
    points: list[Point]
    hypervolume: Spread
    """Share of the area between 0 (or the least value) and the reference that its points dominate."""
    distance: Spread
    """Inverted generational distance to the front of all points of the seed, in units of that area's sides."""
    behind: Difference | None
    """Hypervolume of the ε front of the same recipe minus this; None for the front itself or a single seed."""

    @property
    def yardstick(self) -> bool:
        """Whether its points were retrained for as long as the original: they compete with nothing."""
        return all(s is None or s.get("retrained") for point in self.points for s in point.solutions)


@dataclass(frozen=True)
class Area:
    """The rectangle in which hypervolumes count; its corners are turned so that less is better."""

    x: Axis
    y: Axis
    least: fronts.Point
    most: fronts.Point

    @property
    def reference(self) -> fronts.Point:
        """Up to where hypervolumes count, on the axes as they are."""
        return self.x.sign * self.most[0], self.y.sign * self.most[1]

    def scaled(self, points: Iterable[tuple[Point, int]]) -> list[fronts.Point]:
        """Return where points, each with the place of a seed in its recipe, lie in it, in units of its sides."""
        (left, low), (right, high) = self.least, self.most
        pairs = ((p.on(self.x).each[place], p.on(self.y).each[place]) for p, place in points)
        given = ((self.x.sign * at, self.y.sign * up) for at, up in pairs if at is not None and up is not None)
        return [((at - left) / (right - left), (up - low) / (high - low)) for at, up in given]

    def measured(self, mine: Sequence[Point], every: Sequence[Point], place: int) -> tuple[float | None, float | None]:
        """Return what share of it a method's points dominate at the place of a seed, and their distance to the front.

        That is the front of all points of that seed, which has a place of its own in each recipe.
        """
        if not (points := self.scaled((p, place) for p in mine)):
            return None, None
        group, seed = mine[0].group, mine[0].seeds[place]
        beside = [p for p in every if p.kind != "original" and seed in p.seeds]
        others = [(p, place if p.group == group else p.seeds.index(seed)) for p in beside]
        # Only the part of the front of all that the measured area holds says something about it.
        target = [point for point in fronts.front(self.scaled(others)) if max(point) <= 1]
        distance = fronts.inverted_generational_distance(points, target) if target else None
        return fronts.hypervolume(points, (1.0, 1.0)), distance


def area(points: Sequence[Point], x: Axis, y: Axis) -> Area | None:
    """Span the area from the best values to the original model's f1 and the f2 of the highest completeness."""
    right = max((x.sign * v for p in points if p.kind == "original" for v in p.on(x).known), default=-math.inf)
    high = max((y.sign * v for p in points if p.key == fronts.HIGHEST for v in p.on(y).known), default=-math.inf)
    left, low = _least(points, x), _least(points, y)
    return Area(x, y, (left, low), (right, high)) if left < right and low < high else None


def curves(points: Sequence[Point], area: Area | None) -> Iterator[Curve]:
    """Yield each method's curve, recipe by recipe, that of the ε front first."""
    for name in dict.fromkeys(p.group for p in points):
        methods: dict[str, list[Point]] = {}
        for p in points:
            if p.group == name and p.kind != "original":
                methods.setdefault(fronts.METHOD if p.kind in OURS else p.kind, []).append(p)
        ours = None
        for method, mine in sorted(methods.items(), key=lambda item: item[0] != fronts.METHOD):
            each = (area.measured(mine, points, i) if area else (None, None) for i in range(len(mine[0].seeds)))
            share, distance = map(Spread, zip(*each, strict=True))
            yield Curve(method, name, mine, share, distance, None if ours is None else paired(ours, share))
            ours = share if method == fronts.METHOD else ours


def paired(one: Spread, other: Spread) -> Difference | None:
    """Return the mean of `one` − `other` over the seeds that have both, with its interval; None for fewer than two."""
    difference = one.minus(other)
    if difference.mean is None or difference.std is None:
        return None
    seeds = len(difference.known)
    reach = float(stdtrit(seeds - 1, (1 + CONFIDENCE) / 2)) * (difference.std / math.sqrt(seeds))
    return Difference(difference.mean, difference.mean - reach, difference.mean + reach)


def _least(points: Iterable[Point], axis: Axis) -> float:
    """Return where the measured area begins: 0 for a loss, else the best of the ε solutions and the original."""
    values = (axis.sign * v for p in points if p.kind in OURS for v in p.on(axis).known)
    return 0.0 if axis in LOSSES else min(values, default=math.inf)


@dataclass(frozen=True)
class Comparison:
    """All of it, on two axes."""

    groups: dict[str, list[Run]]
    """Runs of one recipe, by seed, under its name."""
    axes: list[Axis]
    x: Axis
    y: Axis
    points: list[Point]
    area: Area | None
    """Where hypervolumes count; None where the axes span none."""
    curves: list[Curve]
    cautions: list[str]

    @property
    def title(self) -> str:
        """What is compared: recipes, or one and what it is varied over."""
        over = ", ".join(axis.id for axis in self.varied)
        names = dict.fromkeys(run.results["name"] for group in self.groups.values() for run in group)
        return f"{', '.join(names)} over {over}" if over else ", ".join(self.names)

    @property
    def varied(self) -> list[Axis]:
        """The keys of the recipe that the runs are varied over."""
        return [axis for axis in self.axes if axis.sign == 0 and axis != EPSILON]

    @property
    def repeated(self) -> bool:
        """Whether any recipe was run with several seeds."""
        return any(len(group) > 1 for group in self.groups.values())

    @property
    def names(self) -> list[str]:
        """Names of the recipes."""
        return list(self.groups)

    def dominated(self, point: Point) -> bool:
        """Tell whether the mean of another point is at least as good on both axes, of which each has a better end."""
        if 0 in (self.x.sign, self.y.sign):
            return False
        means = filter(None, map(self.mean, (point, *self.points)))
        turned = [(self.x.sign * at, self.y.sign * up) for at, up in means]
        return self.mean(point) is not None and any(fronts.dominates(other, turned[0]) for other in turned)

    def named(self, text: str, group: str) -> str:
        """Add the name of its recipe to a text where several are compared."""
        return f"{text} ({group})" if len(self.groups) > 1 else text

    def mean(self, point: Point) -> fronts.Point | None:
        """Return where a point lies on the two axes, None where it is not known on both."""
        at, up = point.on(self.x).mean, point.on(self.y).mean
        return None if at is None or up is None else (at, up)


def compare(runs: Sequence[Run], x: str = "f1", y: str = "f2") -> Comparison:
    """Compare all solutions of `runs` on two axes; raise `UserError` for an axis that no run has."""
    groups, by_id = grouped(runs), {axis.id: axis for axis in axes(runs)}
    if unknown := [axis for axis in (x, y) if axis not in by_id]:
        raise UserError(f"'{unknown[0]}' is no axis of these runs; there are: {', '.join(by_id)}", Exit.USAGE)
    joined = [point for name, group in groups.items() for point in points(name, group)]
    if len(groups) > 1:
        joined = [replace(point, label=f"{point.label} ({point.group})") for point in joined]
    held = area(joined, by_id[x], by_id[y])
    measured = list(curves(joined, held))
    return Comparison(groups, list(by_id.values()), by_id[x], by_id[y], joined, held, measured, cautions(groups))


def verdict(comparison: Comparison) -> str:
    """Say whether the ε front has the larger hypervolume, method by method, and what cannot be told apart."""
    curves = [curve for curve in comparison.curves if curve.method != fronts.METHOD and not curve.yardstick]
    if not curves:
        return "There is no other method to compare the ε solutions with; list some under compare."
    if comparison.area is None:
        return "These axes span no area between the original model and the highest completeness: no hypervolume."
    told: dict[str, list[str]] = {"larger": [], "smaller": [], "open": [], "alone": [], "same": []}
    for curve in curves:
        known, high = (curve.behind.larger_than_noise, curve.behind.high) if curve.behind else (False, 0.0)
        open_ = "open" if curve.behind else "alone"
        which = "same" if known is None else open_ if not known else "smaller" if high < 0 else "larger"
        told[which].append(comparison.named(curve.method, curve.group))
    sentences = {
        "larger": "The ε front has the larger hypervolume than {}, by more than the noise over seeds.",
        "smaller": "The ε front has the smaller hypervolume than {}, by more than the noise.",
        "open": "By hypervolume not told apart from the ε front (within the noise): {}.",
        "alone": "By hypervolume not told apart from the ε front (with one seed no noise is known): {}.",
        "same": "The seeds do not differ in how far the ε front is from {}, so that no noise is known.",
    }
    return " ".join(said.format(_listing(told[which])) for which, said in sentences.items() if told[which])


def seeds(comparison: Comparison) -> str:
    """Say which seeds the numbers are of."""
    by_name = {name: [str(run.results["seed"]) for run in group] for name, group in comparison.groups.items()}
    listed = {name: f"seed{'s' * (len(its) > 1)} {', '.join(its)}" for name, its in by_name.items()}
    alike = comparison.varied and len({*listed.values()}) == 1
    told = f"Each: {next(iter(listed.values()))}" if alike else "; ".join(f"{n}: {its}" for n, its in listed.items())
    return f"{told}.{' Numbers are means ± sample standard deviations over them.' if comparison.repeated else ''}"


def _listing(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else words[0]
