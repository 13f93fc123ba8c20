"""What a report reads of results: its solutions in the order shown, their kinds, scores and metrics."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from statistics import fmean
from typing import cast

from unlearnkit.errors import Exit, UserError
from unlearnkit.fronts import HIGHEST, LOWEST
from unlearnkit.report.numbers import known
from unlearnkit.report.shape import Results, Score, Singles, Solution

OURS = ("original", "boundary", "epsilon")
"""The kinds of solutions that span the trade-off; all others are methods beside it."""
ARROWS = {"higher": " ↑", "lower": " ↓"}


def kind(solution: Solution) -> str:
    """Tell what a solution is: original, boundary, epsilon, or the method that ran for comparison."""
    return {1: "boundary", 2: "epsilon"}.get(solution.get("phase") or 0) or str(solution.get("method"))


def original(results: Results) -> Solution:
    """Return the original model as if it were a solution."""
    return cast("Solution", {"id": "original", "label": "original model", "method": "original", **results["original"]})


def fill(results: Results) -> Solution | None:
    """Return what needs no model as if it were a solution; None in results from before it was measured."""
    return cast("Solution", {"id": "", "method": "fill", **results["fill"]}) if "fill" in results else None


def retrained(results: Results, model: str = "") -> list[Solution]:
    """Return the models that were trained without the forget set, but for that of an id."""
    return [s for s in results["solutions"] if s.get("retrained") and s["id"] != model]


def yardstick(values: Sequence[object]) -> float | None:
    """Return what a figure is held against, of its values under the retrained models: the mean; None if one lacks."""
    numbers = [value for value in values if known(value)]
    return fmean(numbers) if 0 < len(values) == len(numbers) else None


def first(gold: Sequence[Solution]) -> list[tuple[str, Solution]]:
    """Return the first of retrained models under a name that says of how many, none where there is none."""
    return [(f"{s['label']} (first of {len(gold)})" if len(gold) > 1 else s["label"], s) for s in gold[:1]]


def seen(results: Results, of: str) -> str:
    """Return the split of a set that pictures are of: validation, or train where it has no validation images."""
    return "validation" if results["sets"].get(of, {}).get("validation") else "train"


def seen_images(results: Results, of: str) -> str:
    """Say of which of a set's images pictures are."""
    return "validation images" if seen(results, of) == "validation" else "training images"


def singles(results: Results, of: str) -> Singles | None:
    """Return the scores of the single images that pictures are of, where there are some."""
    return cast("dict[str, Singles]", results.get("each") or {}).get(of)


def epsilons(results: Results) -> list[Solution]:
    """Return the solutions of phase 2, loose to tight."""
    return sorted((s for s in results["solutions"] if s.get("phase") == 2), key=lambda s: -(s.get("epsilon") or 0.0))


def targets(results: Results) -> list[Solution]:
    """Return the solutions that were looked for by a target, in the recipe's order."""
    return [s for s in results["solutions"] if "target" in s]


def others(results: Results) -> list[Solution]:
    """Return the solutions of the methods that ran for comparison."""
    return [s for s in results["solutions"] if s.get("phase") is None]


def solved(results: Results) -> list[Solution]:
    """Return the models that span the trade-off, from nothing forgotten to the most complete forgetting."""
    lowest, highest = ([s for s in results["solutions"] if s["id"] == end] for end in (LOWEST, HIGHEST))
    looser, inside, tighter = list[Solution](), list[Solution](), list[Solution]()
    for s in epsilons(results):
        place = s.get("fraction") or 0.0
        (looser if place > 1 else tighter if place < 0 else inside).append(s)
    return [original(results), *looser, *lowest, *inside, *highest, *tighter]


def stops(results: Results) -> list[Solution]:
    """Return the places of the dial between solutions, loose to tight, as if they were solutions."""
    dial = results.get("dial")
    return [cast("Solution", stop) for stop in sorted(dial["stops"], key=lambda stop: -stop["f1"])] if dial else []


def shown(results: Results) -> list[Solution]:
    """Return everything that a report shows: the models that span the trade-off, then the methods beside them."""
    return [*solved(results), *others(results)]


def splits(results: Results) -> list[str]:
    """Return the splits that were measured, validation first."""
    measured = {split for s in results["solutions"] for splits in s.get("metrics", {}).values() for split in splits}
    return [split for split in ("validation", "train") if split in measured]


def score(solution: Solution, of: str, split: str, against: str, metric: str) -> Score:
    """Look one score up; what was not measured is None."""
    return solution.get("metrics", {}).get(of, {}).get(split, {}).get(against, {}).get(metric)


def under(place: int, results: Results, solution: Solution | None) -> Solution | None:
    """Return a solution as it is under a further task: with what was measured there, and without losses."""
    if solution is None:
        return None
    task, of = results["tasks"][place], solution["id"]
    found = task["original"] if of == "original" else task["solutions"].get(of, {})
    metrics = {name: {seen(results, name): its} for name, its in found.items()}
    return cast("Solution", {**solution, "f1": None, "f2": None, "metrics": metrics})


def name(results: Results, metric: str) -> str:
    """Return a metric's name as people write it."""
    return str(results["metrics"].get(metric, {}).get("name", metric))


def unit(results: Results, metric: str) -> str:
    """Return a metric's unit, or nothing."""
    return results["metrics"].get(metric, {}).get("unit") or ""


def arrow(results: Results, metric: str) -> str:
    """Point to the better scores of a metric; nothing where neither end is better."""
    return ARROWS.get(results["metrics"].get(metric, {}).get("better", ""), "")


def scores(solution: Solution) -> Iterator[tuple[str, str, str, str, Score]]:
    """Yield every score of a solution with its set, split, what it is against and its metric."""
    for of, splits in solution.get("metrics", {}).items():
        for split, against in splits.items():
            for target, values in against.items():
                for metric, value in values.items():
                    yield of, split, target, metric, value


def chosen(results: Results, epsilon: str) -> Solution:
    """Return the solution that a user means; raise `UserError` listing them all."""
    if (row := meant(results, epsilon)) is not None:
        return row
    listed = "\n".join(f"  {row['id']:18} {row['label']}" for row in results["solutions"])
    raise UserError(f"--epsilon {epsilon}: there is no such solution; there are:\n{listed}", Exit.USAGE)


def meant(results: Results, epsilon: str) -> Solution | None:
    """Return the solution of an id, a value of ε or a percentage of its range, None where there is none."""
    value = percent = math.nan  # which is near no ε
    with suppress(ValueError):
        if epsilon.strip().endswith("%"):
            percent = float(epsilon.strip(" %"))
        else:
            value = float(epsilon)
    for row in results["solutions"]:
        near = row["epsilon"] is not None and abs(value - row["epsilon"]) <= 5e-4 * abs(row["epsilon"])
        near = near or row["id"] == f"epsilon-at-{percent / 100!r}".removesuffix(".0")
        if near or epsilon in (row["id"], row["id"].removeprefix("boundary-")):
            return row
    return None
