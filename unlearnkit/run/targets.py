"""What a recipe wants in place of an ε: looked for on the dial, and then a solution like any other."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import scipy  # whose packages are imported when they are used
from torch import Tensor

from unlearnkit.contracts import Aim, Failed, Part, Target
from unlearnkit.errors import Exit, UserError
from unlearnkit.evaluation import kept
from unlearnkit.evaluation.candidates import Measured
from unlearnkit.evaluation.instruments import Instruments, tell, tried
from unlearnkit.evaluation.measure import Gauge
from unlearnkit.recipe.sections import TargetSection
from unlearnkit.recipe.training import Bound
from unlearnkit.run.events import Run
from unlearnkit.run.tasks import targeted
from unlearnkit.solver.dial import Dial
from unlearnkit.solver.phases import bounded
from unlearnkit.solver.problem import Problem, Solution
from unlearnkit.solver.workbench import Workbench

LOOKS = 12
"""Models that are measured after those of a dial's own places."""

Serve = Callable[[Problem, Callable[[], Tensor], int], Solution]
"""From a problem, what finds its weights, and steps of polish, to its solution."""


@dataclass(frozen=True)
class Wanted:
    """One of `epsilons.targets`, ready to be looked for."""

    place: int
    id: str
    label: str
    section: TargetSection
    target: Target


def wanted(bench: Workbench, tools: Instruments) -> list[Wanted]:
    """Return the targets of a recipe; raise `UserError` where one asks for what the recipe does not have."""
    found: list[Wanted] = []
    retrained = any(method.retrained for method in bench.methods)
    for place, (name, section) in enumerate(targeted(bench.recipe).items()):
        at = f"epsilons.targets[{place}]"
        try:
            target = section.build(bench.base, bench.device, list(tools.metrics))
        except UserError as error:
            raise UserError(f"{at}: {error}", error.code) from None
        if target.retrained and not retrained:
            lacking = "there is no retrained model of as many steps as the original had"
            raise UserError(f"{at}: {lacking}; add {{kind: retrain}} to `compare`", Exit.RECIPE)
        _, label = section.name() or ("", target.label)
        found.append(Wanted(place, name, label, section, target))
    return found


class Search:
    """The search on a dial, whose models are measured at most once."""

    def __init__(
        self, run: Run, gauge: Gauge, dial: Dial, valid: tuple[float, float], gold: Sequence[Solution], serve: Serve
    ) -> None:
        """Measure by `gauge` on a dial, beside the retrained models `gold`."""
        self.run, self.gauge, self.dial, self.valid, self.serve = run, gauge, dial, valid, serve
        self.facts = [*gauge.facts, dial.digest, [one.digest for one in gold], list(valid)]
        self.gold = {one.problem.id: (one.problem.part, one.theta) for one in gold}
        self.original = self._at(lambda: gauge.bench.origin)
        self.beside = [self._at(partial(getattr, one, "theta"), one.problem.part) for one in gold]

    def _at(self, theta: Callable[[], Tensor], part: Part | None = None) -> Measured:
        return Measured(self.gauge, part or self.gauge.bench.recipe.model.part, theta, self.valid, self.gold)

    def found(self, one: Wanted) -> tuple[Solution, str] | None:
        """Return the solution of a target, with what a reader has to know of it; None where none can be found."""
        run, bench, target, (low, high) = self.run, self.gauge.bench, one.target, self.valid
        name = f"evaluations/{one.id}.target.json"
        sections = {"target": one.section.model_copy(update={"polish": 0}), "metrics": bench.recipe.evaluate.metrics}
        origin = kept.origin(bench, None, sections, self.facts)
        spot = kept.load(run.folder, name, origin, run)
        if spot is None:
            run.event("target", id=one.id, label=one.label)
            aim = partial(_aimed, target, original=self.original, beside=self.beside)
            looked = tried(partial(_looked_for, target, self.dial, self._at, self.original, aim))
            if isinstance(looked, Failed):
                _lost(run, one, looked, "it was not looked for")
                return None
            kept.save(run.folder / name, origin, spot := looked)
        bound = Bound(one.id, one.label, (spot["epsilon"] - low) / (high - low), spot["epsilon"])
        problem = bounded(bench.losses, bench.recipe.control, bound)
        return self.serve(problem, partial(self.dial.at, spot["t"]), one.section.polish), spot["note"]

    def rows(self, targets: Sequence[Wanted]) -> list[tuple[Solution, dict[str, Any]]]:
        """Return the solution of each target with what results.json says of it; what cannot be met has the nearest."""
        found = []
        for one in targets:
            if (its := self.found(one)) is None:
                continue
            solution, note = its
            model = self._at(partial(getattr, solution, "theta"))
            said = tried(partial(_measured, one.target, model, self.original, self.beside))
            if isinstance(said, Failed):
                _lost(self.run, one, said, "what was found was not measured")
                continue
            aim, error = said
            row = {
                "place": one.place, "kind": one.section.kind, "label": one.target.label, "wanted": aim.wanted,
                "value": aim.value, "error": error, "unit": aim.unit, "met": _met(one.target, aim), "note": note,
            }  # fmt: skip
            self.run.event("aimed", id=one.id, **{name: row[name] for name in ("wanted", "value", "met", "note")})
            found.append((solution, row))
        return found


def _measured(target: Target, *models: Any) -> tuple[Aim, float | None]:
    return _aimed(target, *models), target.error(*models)


def _lost(run: Run, one: Wanted, failed: Failed, what: str) -> None:
    """Tell of a target that has no solution."""
    run.warn(f"epsilons.targets[{one.place}], {one.label}: {what}: {failed.reason}")
    tell(run, f"target {one.id}", failed)


def _aimed(target: Target, model: Measured, original: Measured, beside: Sequence[Measured]) -> Aim:
    """Return what a target measures of a model; raise `ValueError` for what is no answer."""
    found = target.aim(model, original, beside)
    if not isinstance(found, Aim) or not (math.isfinite(found.value) and math.isfinite(found.miss)):
        raise ValueError(f"aim() returned {found}; expected an Aim of finite numbers")
    return found


def _met(target: Target, aim: Aim) -> bool:
    return target.least or aim.miss <= (aim.close if target.exact else 0.0)


def _looked_for(
    target: Target, dial: Dial, at: Callable[[Callable[[], Tensor]], Measured], original: Measured,
    aim: Callable[[Measured], Aim],
) -> dict[str, Any]:  # fmt: skip
    """Return t and ε of the place that a target is served at, and what a reader has to know of it.

    The dial's own places come first; between the last that meets the target and the next, Brent's method looks for
    where it is met just so.
    """
    models = {t: original if t == 1.0 else at(partial(dial.at, t)) for t, _ in dial.knots}
    for t, f1 in dial.knots:
        models[t].__dict__["f1"] = f1  # known already
    aims: dict[float, Aim] = {}

    def look(t: float) -> Aim:
        if t not in models:
            models[t] = at(partial(dial.at, t))
        if t not in aims:
            aims[t] = aim(models[t])
        return aims[t]

    def off(t: float) -> float:
        found = look(t)
        room = found.close if target.exact else found.close / 2
        miss = found.miss if target.exact else found.miss + room  # where it ends it has to be met
        return 0.0 if abs(miss) <= room else miss

    def told(t: float, note: str) -> dict[str, Any]:
        aim = look(t)
        return {"t": t, "epsilon": aim.wanted if target.exact else models[t].f1, "note": note}

    ways = [t for t, _ in dial.knots]
    if target.least:
        best = min(ways, key=lambda t: look(t).value)
        place = ways.index(best)
        around = ways[max(0, place - 1)], ways[min(len(ways) - 1, place + 1)]
        scipy.optimize.minimize_scalar(
            lambda t: look(float(t)).value, bounds=around, method="bounded", options={"maxiter": LOOKS}
        )
        return told(min(aims, key=lambda t: aims[t].value), "")
    order = ways[::-1] if target.loosest else ways
    first = next((t for t in order if _met(target, look(t))), None)
    if first is None:
        best = min(aims, key=lambda t: aims[t].miss)
        note = "it cannot be met between the highest completeness and the original model; this is the nearest to it"
        return told(best, note)
    if first != order[0]:
        before = order[order.index(first) - 1]
        if off(first) < 0 < off(before):
            scipy.optimize.brentq(off, first, before, maxiter=LOOKS, disp=False)
    met = [t for t in aims if _met(target, aims[t])]
    best = (max if target.loosest else min)(met)
    note = "the original model meets it" if best == 1.0 else ""
    return told(best, note)
