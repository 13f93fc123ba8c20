"""The gap to the yardstick: how far a model's scores are from those of models that never saw the forget set."""

from collections.abc import Sequence
from itertools import product

from unlearnkit.report import reading
from unlearnkit.report.numbers import known
from unlearnkit.report.shape import SETS, Apart, Gap, Results, Solution


def gap(results: Results) -> Gap | None:
    """Return it for every model, against the truth; None without a yardstick.

    Of several yardsticks the mean is taken; a yardstick itself is held against the others.
    """
    if not (gold := reading.retrained(results)):
        return None
    return {
        "to": [s["id"] for s in gold],
        "original": _apart(results, reading.original(results), gold),
        "solutions": {s["id"]: _apart(results, s, reading.retrained(results, s["id"])) for s in results["solutions"]},
    }


def _apart(results: Results, model: Solution, gold: Sequence[Solution]) -> Apart:
    found: Apart = {}
    for of, split, metric in product(SETS, reading.splits(results), results["metrics"]):
        now, *scores = (reading.score(s, of, split, "truth", metric) for s in (model, *gold))
        least = reading.yardstick(scores)
        apart = now - least if known(now) and least is not None else None
        found.setdefault(of, {}).setdefault(split, {})[metric] = apart
    return found
