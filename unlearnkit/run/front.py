"""Phase 1 and phase 2 in a run folder, and the dial between their solutions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from torch import Tensor

from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.training import Curve
from unlearnkit.run.events import Run
from unlearnkit.run.solve import solve
from unlearnkit.solver.dial import Dial, of_curve, through
from unlearnkit.solver.landing import between
from unlearnkit.solver.phases import Bounds, boundaries, curve, epsilons, front
from unlearnkit.solver.problem import Problem, Solution
from unlearnkit.solver.workbench import Workbench


def bound(run: Run, bench: Workbench) -> Bounds:
    """Return phase 1."""
    return boundaries(bench.losses, bench.recipe.control, bench.origin, partial(solve, run, bench))


def sweep(run: Run, bench: Workbench, bounds: Bounds) -> tuple[list[Solution], list[dict[str, object]], Dial]:
    """Return phase 2 by ascending ε, each ε outside the range with why, and the dial of all others.

    Raise `UserError` where no ε is inside.
    """
    wanted = posed(bench, bounds)
    for entry in wanted.outside:
        run.event("warning", message=f"ε = {entry['epsilon']} was not run: {entry['reason']}")
    if not wanted.inside:
        missed = f"none is between {bounds.range[0]:.6g} and {wanted.loosest:.6g}"
        advice = f"give values in it, or fractions. The boundary solutions are saved in {run.folder}"
        raise UserError(f"epsilons.values: {missed}; {advice}", Exit.RECIPE)
    found, dial = swept(run, bench, bounds, wanted.start, wanted.inside)
    return found, wanted.outside, dial


class Posed(NamedTuple):
    """What phase 2 has to do once phase 1 is there."""

    inside: list[Problem]
    """By ascending ε."""
    outside: list[dict[str, object]]
    """Each ε that there is no way to, with why."""
    start: float
    """f1 of the original model on the whole forget set."""
    loosest: float
    """The largest ε that there is a way to."""


def posed(bench: Workbench, bounds: Bounds) -> Posed:
    """Return the problems of phase 2."""
    recipe, valid = bench.recipe, bounds.range
    bench.put(recipe.model.part, bounds.original)
    start = bench.sides["forget"].exact()
    loosest = max(start, valid[1])
    return Posed(*epsilons(bench.losses, recipe.control, recipe.epsilons, valid, loosest), start, loosest)


def swept(
    run: Run, bench: Workbench, bounds: Bounds, start: float, problems: Sequence[Problem]
) -> tuple[list[Solution], Dial]:
    """Return the solutions of problems of phase 2, or of a sweep that is no chain of some of them, and their dial."""
    way, original, solving = bench.recipe.sweep, bounds.original, partial(solve, run, bench)
    if isinstance(way, Curve):
        dial = of_curve(curve(bench.losses, bounds, way, start, solving), original)
        return [serve(run, bench, bounds, dial, problem, way.polish) for problem in problems], dial
    line, lands = partial(between, bench.flat, bench.sides["forget"]), bench.recipe.control.landing == "line"
    by_id = {solution.problem.id: solution for solution in front(bounds, problems, way, line, lands, start, solving)}
    found = [by_id[problem.id] for problem in problems]
    return found, through([bounds.highest, *found, bounds.lowest], original, start)


def serve(run: Run, bench: Workbench, bounds: Bounds, dial: Dial, problem: Problem, polish: int) -> Solution:
    """Return the solution of an ε at its point of the dial, after `polish` steps from there."""
    epsilon = problem.epsilon
    assert epsilon is not None
    forget = bench.sides["forget"]
    return polished(run, bench, bounds, dial, problem, lambda: dial.at(dial.find(bench.flat, forget, epsilon)), polish)


def polished(
    run: Run, bench: Workbench, bounds: Bounds, dial: Dial, problem: Problem, begin: Callable[[], Tensor], polish: int
) -> Solution:
    """Return the solution of an ε after `polish` steps from a point of the dial that `begin` finds."""
    epsilon, budget = problem.epsilon or 0.0, polish / bench.steps
    rate = min(1.0, budget) * dial.rate(epsilon)  # so that noise of few steps is small too
    stages = [replace(stage, budget=budget, rate=rate) for stage in problem.stages if polish]
    made = {**problem.made, "dial": dial.digest}
    its = replace(problem, stages=stages, served=(dial.kind, polish), made=made)
    loose = bounds.loose(epsilon, dial.range[1])
    ends = (bounds.highest.end, loose) if bench.recipe.control.landing == "line" else None
    return solve(run, bench, its, begin, ends)
