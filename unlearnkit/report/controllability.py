"""How well ε controls each figure of a run: whether it rises or falls with ε, by Spearman's rank correlation."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from unlearnkit.report import reading
from unlearnkit.report.numbers import known
from unlearnkit.report.shape import Controlled, Finding, Results, Solution

Pair = tuple[float, float]
"""ε and a figure of its solution."""


def controlled(results: Any) -> dict[str, Controlled]:
    """Return how f1, f2, each score and each figure of an audit go with ε; what fewer than three ε have is left out.

    They stand under `f1`, `f2`, set/split/against/metric and audit/figure. Targets are no ε that was asked for.
    """
    asked = [s for s in reading.epsilons(results) if "target" not in s]
    found = ((name, followed(pairs)) for name, pairs in _pairs(results, asked).items() if len(pairs) > 2)
    return {name: how for name, how in found if how is not None}


def followed(pairs: Sequence[Pair]) -> Controlled | None:
    """Return the rank correlation of pairs of ε and a figure, and whether that only rises or only falls with ε.

    None where all ε or all figures are the same, of which there is no correlation.
    """
    ordered = sorted(pairs)
    try:
        rank = statistics.correlation(*(ranks([pair[side] for pair in ordered]) for side in (0, 1)))
    except statistics.StatisticsError:
        return None
    steps = [after[1] - before[1] for before, after in pairwise(ordered)]
    return {"rank": rank, "monotone": all(step >= 0 for step in steps) or all(step <= 0 for step in steps)}


def ranks(values: Sequence[float]) -> list[float]:
    """Return the place of each value among them, of equal ones the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def _pairs(results: Results, asked: Iterable[Solution]) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = {}
    for solution in asked:
        for name, value in _figures(results, solution):
            if known(value) and known(epsilon := solution.get("epsilon")):
                found.setdefault(name, []).append((epsilon, float(value)))
    return found


def _figures(results: Results, solution: Solution) -> Iterator[tuple[str, Finding]]:
    yield "f1", solution["f1"]
    yield "f2", solution["f2"]
    for of, split, against, metric, value in reading.scores(solution):
        yield f"{of}/{split}/{against}/{metric}", value
    for audit in results.get("audits", []):
        for figure, found in audit["solutions"].get(solution["id"], {}).items():
            yield f"{audit['id']}/{figure}", found
