"""What several runs, seeds and methods come to together: means, spreads, fronts and their paired differences.

Every axis is turned so that less is better before points are compared: on the retain set the better score of a metric
is better, on the forget set the worse one, which is more forgotten.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from unlearnkit import fronts
from unlearnkit.errors import Exit, UserError
from unlearnkit.report import results as shape
from unlearnkit.report.numbers import known
from unlearnkit.report.results import Results, Solution

FRONT = "epsilon-constraint"
CONFIDENCE = 0.95
OURS = ("original", "boundary", "epsilon")
"""Kinds of points that span the trade-off; all others are methods beside it."""
SAME = ("task", "forget", "retain", "model")
"""What has to be the same in two recipes for their f1 and f2 to be the same quantities."""


@dataclass(frozen=True)
class Run:
    """A finished run as its folder has it."""

    folder: Path
    results: Results
    manifest: dict[str, Any]
    recipe: dict[str, Any]

    @property
    def recipe_digest(self) -> str:
        """Tell recipes apart that differ in more than the seed."""
        kept = {key: value for key, value in self.recipe.items() if key != "seed"}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    def costs(self, key: str) -> dict[str, Any]:
        """Return what a solution cost, as far as the manifest has it."""
        return {"seconds": self.manifest.get("times", {}).get(key), **self.manifest.get("costs", {}).get(key, {})}


@dataclass(frozen=True)
class Axis:
    """A quantity that every solution has."""

    id: str
    """`f1`, `f2`, or set/split/against/metric such as `forget/validation/truth/psnr`."""
    name: str
    sign: int
    """1 where less is better, −1 where more is."""

    def of(self, solution: Solution) -> float | None:
        """Return the value of a solution, None where it has none."""
        if self.id in ("f1", "f2"):
            value: object = solution.get(self.id)
        else:
            of, split, against, metric = self.id.split("/")
            value = shape.score(solution, of, split, against, metric)
        return value if known(value) else None


@dataclass(frozen=True)
class Spread:
    """A value for each seed, None where it is not known."""

    each: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """The values that are known."""
        return [value for value in self.each if value is not None]

    @property
    def mean(self) -> float | None:
        """Their mean."""
        return statistics.fmean(self.known) if self.known else None

    @property
    def std(self) -> float | None:
        """Their sample standard deviation (n − 1); None for fewer than two."""
        return statistics.stdev(self.known) if len(self.known) > 1 else None


@dataclass(frozen=True)
class Point:
    """One solution over all seeds of its recipe."""

    key: str
    label: str
    kind: str
    """original, boundary, epsilon, or the kind of another method."""
    group: int
    """The number of its recipe among those compared."""
    solutions: tuple[Solution | None, ...]
    costs: tuple[dict[str, Any], ...]

    def on(self, axis: Axis) -> Spread:
        """Return its values on an axis."""
        return Spread(tuple(None if s is None else axis.of(s) for s in self.solutions))

    def cost(self, name: str) -> Spread:
        """Return its `seconds`, `images` or `peak_mib`."""
        return Spread(tuple(cost.get(name) for cost in self.costs))


@dataclass(frozen=True)
class Difference:
    """The ε front's value minus a method's, paired by seed, with its confidence interval (Student's t)."""

    mean: float
    low: float
    high: float

    @property
    def larger_than_noise(self) -> bool:
        """Whether 0 is outside the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Curve:
    """All points of one method in one recipe: its own trade-off."""

    method: str
    group: int
    points: tuple[Point, ...]
    hypervolume: Spread
    """Share of the area between 0 (or the least value) and the reference that its points dominate."""
    distance: Spread
    """Inverted generational distance to the front of all points of the seed, in units of that area's sides."""
    behind: Difference | None
    """Hypervolume of the ε front of the same recipe minus this; None for the front itself or a single seed."""


@dataclass(frozen=True)
class Comparison:
    """All of it, on two axes."""

    groups: list[list[Run]]
    """Runs of one recipe, by seed."""
    names: list[str]
    axes: list[Axis]
    x: Axis
    y: Axis
    points: list[Point]
    curves: list[Curve]
    reference: tuple[float, float] | None
    """Up to where hypervolumes count, on the axes as they are."""
    cautions: list[str]

    def dominated(self, point: Point) -> bool:
        """Tell whether the mean of another point is at least as good on both axes and better on one."""
        mine = turned(self.x, self.y, point.on(self.x).mean, point.on(self.y).mean)
        others = (turned(self.x, self.y, p.on(self.x).mean, p.on(self.y).mean) for p in self.points)
        return mine is not None and any(other is not None and fronts.dominates(other, mine) for other in others)


def places(run: Path) -> list[Path]:
    """Return the folder of each seed of a run, or the run's own where it has none."""
    return sorted(path.parent for path in run.glob("seed-*/recipe.resolved.json")) or [run]


def gather(folders: Iterable[Path]) -> list[Run]:
    """Read the runs of `folders`; the folder of a run with several seeds stands for all of them.

    Raise `UserError` for a folder without a finished run.
    """
    runs = []
    for given in folders:
        for folder in places(given):
            results, manifest = shape.load(folder)
            try:
                recipe = json.loads((folder / "recipe.resolved.json").read_bytes())
            except (OSError, ValueError):
                raise UserError(f"{folder}: recipe.resolved.json is not there or damaged", Exit.FOLDER) from None
            runs.append(Run(folder, results, manifest, recipe))
    return runs


def compare(runs: Sequence[Run], x: str = "f1", y: str = "f2") -> Comparison:
    """Compare all solutions of `runs` on two axes; raise `UserError` for an axis that no run has."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.recipe_digest, []).append(run)
    grouped = [sorted(found, key=lambda run: run.results["seed"]) for found in groups.values()]
    names = _names(grouped)
    axes = _axes(runs)
    first, second = (_axis(axes, wanted) for wanted in (x, y))
    points = [point for number, group in enumerate(grouped) for point in _points(number, group)]
    if len(grouped) > 1:
        points = [
            Point(p.key, f"{p.label} ({names[p.group]})", p.kind, p.group, p.solutions, p.costs) for p in points
        ]  # fmt: skip
    reference, curves = _curves(points, first, second)
    return Comparison(grouped, names, axes, first, second, points, curves, reference, _cautions(grouped, names))


def turned(x: Axis, y: Axis, at: float | None, up: float | None) -> fronts.Point | None:
    """Return a point with both coordinates turned so that less is better."""
    return None if at is None or up is None else (x.sign * at, y.sign * up)


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    names: list[str] = []
    for group in groups:
        name = group[0].results["name"]
        names.append(name if name not in names else f"{name} {sum(n.startswith(name) for n in names) + 1}")
    return names


def _axes(runs: Sequence[Run]) -> list[Axis]:
    axes = {"f1": Axis("f1", "forget loss f1", 1), "f2": Axis("f2", "retain loss f2", 1)}
    for run in runs:
        facts = run.results["metrics"]
        for of in shape.SETS:
            for split in shape.splits(run.results):
                for against in ("truth", "original"):
                    for metric in shape.metric_names(run.results):
                        better = facts.get(metric, {}).get("better")
                        sign = {"lower": 1, "higher": -1}.get(str(better))
                        if sign is None:
                            continue
                        words = f"{facts[metric].get('name', metric)}, {of} set, {split} images, against the {against}"
                        id = f"{of}/{split}/{against}/{metric}"  # noqa: A001
                        axes[id] = Axis(id, words, -sign if of == "forget" else sign)
    return list(axes.values())


def _axis(axes: Sequence[Axis], wanted: str) -> Axis:
    for axis in axes:
        if axis.id == wanted:
            return axis
    there = ", ".join(axis.id for axis in axes)
    raise UserError(f"'{wanted}' is no axis of these runs; there are: {there}", Exit.USAGE)


def _points(number: int, group: Sequence[Run]) -> Iterator[Point]:
    """Join the solutions of one recipe over its seeds: what has the same place in the recipe is one point."""
    tables = [{s["id"]: s for s in shape.shown(run.results)} for run in group]
    for key in dict.fromkeys(key for table in tables for key in table):
        found = tuple(table.get(key) for table in tables)
        any_of = next(s for s in found if s is not None)
        costs = tuple({} if s is None else run.costs(key) for run, s in zip(group, found, strict=True))
        yield Point(f"{number}/{key}", _label(any_of, len(group)), _kind(any_of), number, found, costs)


def _kind(solution: Solution) -> str:
    phase = solution.get("phase")
    return {1: "boundary", 2: "epsilon"}.get(phase or 0) or str(solution.get("method"))


def _label(solution: Solution, seeds: int) -> str:
    # ε is another value for each seed where the recipe has fractions of the range, as each seed finds its own range.
    fraction = solution.get("fraction")
    return f"ε at {fraction:.4g}" if seeds > 1 and fraction is not None else solution["label"]


def _curves(points: Sequence[Point], x: Axis, y: Axis) -> tuple[tuple[float, float] | None, list[Curve]]:
    """Return the reference of the hypervolumes, and each method's curve."""
    start = [x.sign * v for p in points if p.kind == "original" for v in p.on(x).known]
    corner = [y.sign * v for p in points if p.key.endswith("/boundary-highest") for v in p.on(y).known]
    reference = None
    if start and corner and max(start) > _least(points, x) and max(corner) > _least(points, y):
        reference = x.sign * max(start), y.sign * max(corner)
    curves = []
    for number in sorted({p.group for p in points}):
        mine = [p for p in points if p.group == number and p.kind != "original"]
        methods: dict[str, list[Point]] = {}
        for p in mine:
            methods.setdefault(FRONT if p.kind in ("boundary", "epsilon") else p.kind, []).append(p)
        measured = {m: _measured(found, points, x, y, reference) for m, found in methods.items()}
        for method, found in methods.items():
            area, distance = measured[method]
            behind = None if method == FRONT or FRONT not in measured else paired(measured[FRONT][0], area)
            curves.append(Curve(method, number, tuple(found), area, distance, behind))
    return reference, curves


def _least(points: Sequence[Point], axis: Axis) -> float:
    """Return where the measured area begins: 0 for a loss, else the best of the ε solutions and the original."""
    if axis.id in ("f1", "f2"):
        return 0.0
    ours = [p.on(axis) for p in points if p.kind in OURS]
    return min(axis.sign * value for spread in ours for value in spread.known)


def _measured(
    mine: Sequence[Point], every: Sequence[Point], x: Axis, y: Axis, reference: tuple[float, float] | None
) -> tuple[Spread, Spread]:
    """Return, for each seed, share of the area that a method's points dominate, and distance to the front of all."""
    seeds = len(mine[0].solutions)
    if reference is None:
        return Spread((None,) * seeds), Spread((None,) * seeds)
    least = [_least(every, axis) for axis in (x, y)]
    sides = [axis.sign * r - low for axis, r, low in zip((x, y), reference, least, strict=True)]

    def scaled(points: Iterable[Point], seed: int) -> list[fronts.Point]:
        found = (turned(x, y, p.on(x).each[seed], p.on(y).each[seed]) for p in points if seed < len(p.solutions))
        return [((a - least[0]) / sides[0], (b - least[1]) / sides[1]) for a, b in filter(None, found)]

    solutions = [p for p in every if p.kind != "original"]
    areas: list[float | None] = []
    distances: list[float | None] = []
    for seed in range(seeds):
        points, target = scaled(mine, seed), fronts.front(scaled(solutions, seed))
        areas.append(fronts.hypervolume(points, (1.0, 1.0)) if points else None)
        # Only the part of the front of all that the measured area holds says something about it.
        target = [point for point in target if max(point) <= 1]
        distances.append(fronts.inverted_generational_distance(points, target) if points and target else None)
    return Spread(tuple(areas)), Spread(tuple(distances))


def paired(one: Spread, other: Spread) -> Difference | None:
    """Return the mean of `one` − `other` over the seeds that have both, with its interval; None for fewer than two."""
    from scipy import stats

    found = [a - b for a, b in zip(one.each, other.each, strict=False) if a is not None and b is not None]
    if len(found) < 2:
        return None
    mean, error = statistics.fmean(found), statistics.stdev(found) / math.sqrt(len(found))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(found) - 1)) * error
    return Difference(mean, mean - reach, mean + reach)


def retrained(comparison: Comparison, group: int) -> Point | None:
    """Return the model that was trained without the forget set, where a recipe has one."""
    return next((p for p in comparison.points if p.group == group and p.kind == "retrain"), None)


def gap(point: Point, gold: Point, axis: Axis) -> Spread:
    """Return how far a solution is from the retrained model on an axis, seed by seed: 0 where they agree."""
    pairs = zip(point.on(axis).each, gold.on(axis).each, strict=True)
    return Spread(tuple(None if a is None or b is None else a - b for a, b in pairs))


def _cautions(groups: Sequence[Sequence[Run]], names: Sequence[str]) -> list[str]:
    found = []
    for group, name in zip(groups, names, strict=True):
        seeds = [run.results["seed"] for run in group]
        if len(set(seeds)) < len(seeds):
            found.append(f"{name}: two runs have the same seed, so that their spread says nothing; leave one out.")
        if len({_images(run) for run in group}) > 1:
            found.append(f"{name}: its seeds have other images; give `data.seed` or use `seeds` to keep them.")
    for (first, one), (second, other) in pairwise(zip(names, (group[0] for group in groups), strict=True)):
        changed = [key for key in SAME if one.recipe.get(key) != other.recipe.get(key)]
        if changed:
            found.append(f"{first} and {second} differ in {', '.join(changed)}: f1 and f2 are not the same losses.")
        if _images(one) != _images(other):
            found.append(f"{first} and {second} have other images, so that no difference is the method's alone.")
        if one.manifest.get("weights", {}).get("sha256") != other.manifest.get("weights", {}).get("sha256"):
            found.append(f"{first} and {second} started from other weights.")
    return found


def _images(run: Run) -> str:
    """Return what tells the images of two runs apart."""
    data = [source.get("digest") for source in run.manifest.get("data") or []]
    kept = {key: value for key, value in run.recipe["data"].items() if key not in ("memory_mib", "workers", "seed")}
    seed = run.recipe["data"].get("seed")
    return json.dumps([data, kept, run.recipe["seed"] if seed is None else seed], sort_keys=True)
