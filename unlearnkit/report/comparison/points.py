"""Finished runs, grouped by recipe and seed, and their solutions as points on axes of choice."""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise, product
from pathlib import Path
from typing import Any

from unlearnkit.report import reading
from unlearnkit.report.numbers import known
from unlearnkit.report.shape import SETS, Results, Solution, load
from unlearnkit.seal import Sealed

SAME = ("task", "forget", "retain", "model")
"""What has to be the same in two recipes for their f1 and f2 to be the same quantities."""


@dataclass(frozen=True)
class Run:
    """A finished run as its folder has it."""

    place: Sealed
    results: Results
    manifest: dict[str, Any]
    recipe: dict[str, Any]

    @property
    def varied(self) -> dict[str, float | str]:
        """What its recipe is varied over beside the seed, by key, with its value of each."""
        return {key: value for key, value in self.manifest.get("varied", {}).items() if key != "seed"}

    @property
    def images(self) -> str:
        """Tell runs apart that differ in their images."""
        digests = [source.get("digest") for source in self.manifest.get("data") or []]
        kept = {k: v for k, v in self.recipe["data"].items() if k not in ("memory_mib", "workers") and v is not None}
        return json.dumps([digests, {"seed": self.recipe["seed"], **kept}], sort_keys=True)


def places(run: Path) -> list[Path]:
    """Return the folder of each run of a recipe that is varied, or the run's own where it is one."""
    inside = run.glob("*/recipe.resolved.json") if (run / "recipe.yaml").is_file() else ()
    return sorted(path.parent for path in inside) or [run]


def gather(places: Iterable[Sealed]) -> list[Run]:
    """Read finished runs; raise `UserError` for what is not as it was."""
    return [Run(place, *load(place), place.json("recipe.resolved.json")) for place in places]


def grouped(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs of each recipe, by seed, under its name; one whose name is taken gets a number.

    Of a recipe that is varied the values are the name, in their order, with that of the recipe beside others.
    """
    recipes: dict[str, list[Run]] = {}
    for run in runs:
        recipes.setdefault(json.dumps(run.recipe | {"seed": None, "vary": None}, sort_keys=True), []).append(run)
    names = {group[0].results["name"] for group in recipes.values()}
    groups: dict[str, list[Run]] = {}
    for group in sorted(
        recipes.values(), key=lambda group: [(isinstance(v, str), v) for v in group[0].varied.values()]
    ):
        of, values = group[0].results["name"], [f"{key} = {value}" for key, value in group[0].varied.items()]
        name = ", ".join([of] * (len(names) > 1 or not values) + values)
        wanted = chain([name], (f"{name} {number}" for number in count(2)))
        groups[next(free for free in wanted if free not in groups)] = sorted(group, key=lambda run: run.results["seed"])
    return groups


def cautions(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """Say what makes the runs hard to compare, and what each of them warned of."""
    lines = []
    for name, group in groups.items():
        if len({run.results["seed"] for run in group}) < len(group):
            lines.append(f"{name}: two runs have the same seed, so that their spread says nothing; leave one out.")
        if len({run.images for run in group}) > 1:
            lines.append(f"{name}: its seeds have other images; give `data.seed` or use `seeds` to keep them.")
    for (first, (one, *_)), (second, (other, *_)) in pairwise(groups.items()):
        if changed := [key for key in SAME if one.recipe.get(key) != other.recipe.get(key)]:
            lines.append(f"{first} and {second} differ in {', '.join(changed)}: f1 and f2 are not the same losses.")
        if one.images != other.images:
            lines.append(f"{first} and {second} have other images, so that no difference is the method's alone.")
        if one.manifest.get("weights", {}).get("sha256") != other.manifest.get("weights", {}).get("sha256"):
            lines.append(f"{first} and {second} started from other weights.")
    for name, group in groups.items():
        for run in group:
            which = f"{name}, seed {run.results['seed']}" if len(group) > 1 else name
            lines += [f"{which}: {warning}" for warning in run.manifest.get("warnings", [])]
    return list(dict.fromkeys(lines))


@dataclass(frozen=True)
class Axis:
    """A quantity that every solution has."""

    id: str
    """`f1`, `f2`, or set/split/against/metric such as `forget/validation/truth/psnr`."""
    name: str
    sign: int
    """1 where less is better, −1 where more is, 0 where neither is."""
    words: tuple[str, ...] = ()
    """Of a key that is varied over something else than numbers, its values: each stands at its place among them."""

    def of(self, solution: Solution, manifest: Mapping[str, Any]) -> float | None:
        """Return the value of a solution of a run, None where it has none."""
        value: object = manifest.get("varied", {}).get(self.id) if self.sign == 0 else None
        value = solution.get(self.id) if value is None else value
        if self.words:
            return float(self.words.index(str(value))) if str(value) in self.words else None
        value = reading.score(solution, *self.id.split("/")) if "/" in self.id else value
        return value if known(value) else None


LOSSES = Axis("f1", "forget loss f1", 1), Axis("f2", "retain loss f2", 1)
GAP = Axis("gap", "gap (f1 − ε)/ε", 1)
EPSILON = Axis("epsilon", "ε", 0)


@dataclass(frozen=True)
class Spread:
    """A value for each seed, None where it is not known."""

    each: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """The values that are known."""
        return [value for value in self.each if value is not None]

    @property
    def partial(self) -> bool:
        """Whether it is known in some seeds alone."""
        return 0 < len(self.known) < len(self.each)

    @property
    def mean(self) -> float | None:
        """Their mean."""
        return statistics.fmean(self.known) if self.known else None

    @property
    def std(self) -> float | None:
        """Their sample standard deviation (n − 1); None for fewer than two."""
        return statistics.stdev(self.known) if len(self.known) > 1 else None

    def minus(self, other: "Spread") -> "Spread":
        """Return the differences, seed by seed."""
        pairs = zip(self.each, other.each, strict=False)
        return Spread(tuple(None if a is None or b is None else a - b for a, b in pairs))


@dataclass(frozen=True)
class Point:
    """One solution over all seeds of its recipe."""

    key: str
    """Its id in results.json."""
    label: str
    kind: str
    """original, boundary, epsilon, or the kind of another method."""
    group: str
    """The name of its recipe among those compared."""
    solutions: tuple[Solution | None, ...]
    manifests: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    """Of the runs, in the order of all that is told of each."""

    @property
    def alone(self) -> str:
        """Its label without the name of its recipe."""
        return self.label.removesuffix(f" ({self.group})")

    def on(self, axis: Axis) -> Spread:
        """Return its values on an axis."""
        pairs = zip(self.solutions, self.manifests, strict=True)
        return Spread(tuple(None if s is None else axis.of(s, manifest) for s, manifest in pairs))

    def cost(self, name: str) -> Spread:
        """Return its `seconds`, `images` or `peak_mib`, as far as the manifests have them."""
        known = [(m.get("times", {}).get(self.key), m.get("costs", {}).get(self.key, {})) for m in self.manifests]
        return Spread(tuple({"seconds": seconds, **costs}.get(name) for seconds, costs in known))


def axes(runs: Iterable[Run]) -> list[Axis]:
    """Return every axis that a run has: losses, ε, what is varied, and the metrics that say which way is better."""
    runs = list(runs)
    by_id = {axis.id: axis for axis in (*LOSSES, EPSILON, *varied(runs))}
    for results in (run.results for run in runs):
        better = {metric: facts.get("better") for metric, facts in results["metrics"].items()}
        signs = {metric: 1 if end == "lower" else -1 for metric, end in better.items() if end in ("lower", "higher")}
        for place in product(SETS, reading.splits(results), ("truth", "original"), signs):
            of, split, against, metric = place
            images = "training" if split == "train" else split
            title = f"{reading.name(results, metric)}, {of} set, {images} images, against the {against}"
            by_id["/".join(place)] = Axis("/".join(place), title, -signs[metric] if of == "forget" else signs[metric])
    return list(by_id.values())


def varied(runs: Iterable[Run]) -> list[Axis]:
    """Return an axis for each key that runs are varied over."""
    values: dict[str, list[float | str]] = {}
    for run in runs:
        for key, value in run.varied.items():
            values.setdefault(key, []).append(value)
    words = {key: sorted({str(v) for v in its}) for key, its in values.items() if not all(map(known, its))}
    return [Axis(key, key, 0, tuple(words.get(key, ()))) for key in values]


def points(name: str, group: Sequence[Run]) -> Iterator[Point]:
    """Join the solutions of one recipe over its seeds: what has the same place in the recipe is one point."""
    tables = [{s["id"]: s for s in reading.shown(run.results)} for run in group]
    manifests, seeds = tuple(run.manifest for run in group), tuple(run.results["seed"] for run in group)
    for key in dict.fromkeys(key for table in tables for key in table):
        solutions = tuple(table.get(key) for table in tables)
        some = next(filter(None, solutions))
        yield Point(key, some["label"], reading.kind(some), name, solutions, manifests, seeds)
