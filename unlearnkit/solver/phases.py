r"""Both phases of ε-constrained unlearning (Feng et al., ICLR 2025).

Phase 1 finds the boundaries, the highest and the lowest completeness,

$$\theta^\top = \arg\min_\theta f_2(\theta)\;\text{ s.t. } f_1(\theta)\le\inf f_1,\qquad
  \theta^\bot = \arg\min_\theta f_1(\theta)\;\text{ s.t. } f_2(\theta)\le\inf f_2,$$

and phase 2 one solution for each ε of the valid range $[f_1(\theta^\top), f_1(\theta^\bot)]$,

$$\theta^\epsilon = \arg\min_\theta f_2(\theta)\;\text{ s.t. } f_1(\theta)\le\epsilon,$$

and of each beyond it up to f1 of the original model, nearer to which than θ^⊥ is f2 falls further. They are solved one
by one (`front`), or as points of one curve of weights that is trained for all of them (`curve`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import Tensor

from unlearnkit.contracts import Loss, Part
from unlearnkit.control import ClosedForm, Stage
from unlearnkit.errors import Exit, UserError
from unlearnkit.fronts import CURVE, HIGHEST, LOWEST, METHOD
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.training import Bound, Continuation, Control, Curve, Epsilons, Independent
from unlearnkit.solver.curve import Along, fitted
from unlearnkit.solver.problem import End, Problem, Solution, Solve, Span

ENDS: dict[str, tuple[str, Literal["retain", "forget"]]] = {
    HIGHEST: ("highest completeness", "retain"),
    LOWEST: ("lowest completeness", "forget"),
}
"""Label and objective of both problems of phase 1."""

Line = Callable[[End, End, float], Tensor]
"""From the two ends of a line in weight space to its point where f1 is ε."""


def named(recipe: Recipe) -> list[str]:
    """Return the ids of the problems of both phases that a recipe names."""
    whole = [CURVE] if isinstance(recipe.sweep, Curve) else []
    return [*ENDS, *whole, *(name for name, _ in recipe.epsilons.asked)]


@dataclass(frozen=True)
class Losses:
    """f1 and f2, and the part of the model that they are lowered by."""

    forget: Loss
    retain: Loss
    part: Part


@dataclass(frozen=True)
class Bounds:
    """The boundary solutions, and the weights that both began at."""

    original: Tensor
    highest: Solution
    lowest: Solution

    @property
    def range(self) -> tuple[float, float]:
        """The valid range of ε: f1 at the highest completeness and at the lowest. Raises `UserError` for none."""
        least, most = self.highest.last.f1, self.lowest.last.f1
        if not least < most:
            raise UserError(
                f"phase 1 found no range of ε: f1 is {least:.6g} at the highest completeness and {most:.6g} at the "
                f"lowest; give training more steps or a larger control.boundary.alpha",
                Exit.DIVERGED,
            )
        return least, most

    def loose(self, epsilon: float, start: float) -> End:
        """Return the looser end of an ε: beyond the lowest completeness the original model, of which f1 is `start`."""
        return (self.original, start) if epsilon > self.lowest.last.f1 else self.lowest.end


def boundaries(losses: Losses, control: Control, original: Tensor, solve: Solve) -> Bounds:
    """Return phase 1."""
    highest, lowest = (boundary(losses, control, name, original, solve) for name in ENDS)
    return Bounds(original, highest, lowest)


def boundary(losses: Losses, control: Control, name: str, original: Tensor, solve: Solve) -> Solution:
    """Return one end of phase 1."""
    stages = [Stage(losses.forget, losses.retain, ClosedForm())]
    label, objective = ENDS[name]
    psi = (control.lowest if name == LOWEST else None) or control.boundary
    problem = Problem(name, stages, psi.build(), METHOD, 1, label, objective, part=losses.part, made={"boundary": psi})
    return solve(problem, lambda: original, None)


def bounded(losses: Losses, control: Control, bound: Bound) -> Problem:
    """Return the problem of phase 2 of one ε."""
    made = {"epsilon": control.epsilon, "multiplier": control.multiplier, "landing": control.landing}
    stage = Stage(losses.forget, losses.retain, control.multiplier.build())
    return Problem(
        bound.id, [stage], control.epsilon.build(), METHOD, 2, bound.label, epsilon=bound.epsilon,
        fraction=round(bound.fraction, 6), part=losses.part, made=made,
    )  # fmt: skip


def epsilons(
    losses: Losses, control: Control, wanted: Epsilons, valid: tuple[float, float], loosest: float
) -> tuple[list[Problem], list[dict[str, object]]]:
    """Return the problems of phase 2 by ascending ε, and each ε that there is no way to with its reason.

    `loosest` is the largest ε that there is a way to, f1 of the original model.
    """
    inside: list[Problem] = []
    outside: list[dict[str, object]] = []
    least, _ = valid
    for bound in wanted.within(*valid):
        epsilon = bound.epsilon
        if least <= epsilon <= loosest:
            inside.append(bounded(losses, control, bound))
        else:
            below = f"below {least:.6g}, f1 at the highest completeness"
            above = f"above {loosest:.6g}, f1 of the original model"
            outside.append({"epsilon": epsilon, "reason": below if epsilon < least else above})
    return inside, outside


def front(
    bounds: Bounds,
    problems: Sequence[Problem],
    sweep: Independent | Continuation,
    line: Line,
    lands: bool,
    start: float,
    solve: Solve,
) -> Iterator[Solution]:
    """Yield phase 2 in the order of the sweep; where it `lands`, each solution ends at its ε.

    `start` is f1 of the original model.
    """
    solved: Solution | None = None
    made: dict[str, object] = {"sweep": sweep, "highest": bounds.highest.digest, "lowest": bounds.lowest.digest}
    for number, problem in enumerate(sweep.order(problems)):
        stages = [replace(stage, budget=sweep.share(number)) for stage in problem.stages]
        before = {"before": solved.digest} if solved and "before" in sweep.between(number) else {}
        budgeted = replace(problem, stages=stages, made={**problem.made, **made, **before})
        loose = bounds.loose(problem.epsilon or 0.0, start)
        begin = _start(bounds, sweep.between(number), loose, solved, line, problem)
        solved = solve(budgeted, begin, (bounds.highest.end, loose) if lands else None)
        yield solved


def curve(losses: Losses, bounds: Bounds, sweep: Curve, start: float, solve: Solve) -> Solution:
    """Return the front as one curve of weights, which ends at the original model, of which f1 is `start`."""
    span = Span(sweep.degree, bounds.highest.last.f1, start)
    stage = Stage(losses.forget, losses.retain, Along(), budget=sweep.budget)
    made = {"degree": sweep.degree, "highest": bounds.highest.digest, "lowest": bounds.lowest.digest}
    lowest = span.place(bounds.lowest.last.f1)
    between = [(lowest, bounds.lowest.theta)] if 0 < lowest < 1 else []
    begin = partial(fitted, sweep.degree, [(0.0, bounds.highest.theta), *between, (1.0, bounds.original)])
    problem = Problem(CURVE, [stage], method=METHOD, phase=2, label="curve", part=losses.part, span=span, made=made)
    return solve(problem, begin, None)


def _start(
    bounds: Bounds, names: tuple[str, str], loose: End, before: Solution | None, line: Line, problem: Problem
) -> Callable[[], Tensor]:
    """Return what finds the weights that an ε begins at: those of a model, or a point between two of them."""
    tighter, looser = names
    known = {"highest": bounds.highest.end, "lowest": loose, "before": (before or bounds.highest).end}
    if tighter == looser:
        return lambda: bounds.original if tighter == "original" else known[tighter][0]
    return lambda: line(known[tighter], known[looser], problem.epsilon or 0.0)
