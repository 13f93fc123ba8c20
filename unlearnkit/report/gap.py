"""The gap to the yardstick: how far a model's scores are from those of models that never saw the forget set."""

from collections.abc import Sequence
from itertools import product
from statistics import fmean

from unlearnkit.report import reading
from unlearnkit.report.numbers import known
from unlearnkit.report.shape import SETS, Apart, Gap, Results, Solution


def gap(results: Results) -> Gap | None:
    """Return it for every model, against the truth; None without a yardstick.

    Of several yardsticks the mean is taken; a yardstick itself is held against the others.
    """
    if not (gold := [s for s in results["solutions"] if s.get("retrained")]):
        return None
    return {
        "to": [s["id"] for s in gold],
        "original": _apart(results, reading.original(results), gold),
        "solutions": {s["id"]: _apart(results, s, [one for one in gold if one is not s]) for s in results["solutions"]},
    }


def _apart(results: Results, model: Solution, gold: Sequence[Solution]) -> Apart:
    found: Apart = {}
    for of, split, metric in product(SETS, reading.splits(results), results["metrics"]):
        scores = [reading.score(s, of, split, "truth", metric) for s in (model, *gold)]
        now, *least = [score for score in scores if known(score)] if all(map(known, scores)) else [0.0]
        found.setdefault(of, {}).setdefault(split, {})[metric] = now - fmean(least) if least else None
    return found
