r"""Both phases of ε-constrained unlearning (Feng et al., ICLR 2025).

Phase 1 finds the boundaries, the highest and the lowest completeness,

$$\theta^\top = \arg\min_\theta f_2(\theta)\;\text{ s.t. } f_1(\theta)\le\inf f_1,\qquad
  \theta^\bot = \arg\min_\theta f_1(\theta)\;\text{ s.t. } f_2(\theta)\le\inf f_2,$$

and phase 2 one solution for each ε of the valid range $[f_1(\theta^\top), f_1(\theta^\bot)]$,

$$\theta^\epsilon = \arg\min_\theta f_2(\theta)\;\text{ s.t. } f_1(\theta)\le\epsilon.$$
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from unlearnkit.contracts import Loss, Part
from unlearnkit.control import ClosedForm, Stage
from unlearnkit.errors import Exit, UserError
from unlearnkit.fronts import HIGHEST, LOWEST, METHOD
from unlearnkit.recipe.training import Continuation, Control, Epsilons, Independent
from unlearnkit.solver.problem import End, Problem, Solution, Solve

Line = Callable[[End, End, float], Tensor]
"""From the two ends of a line in weight space to its point where f1 is ε."""


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


def boundaries(losses: Losses, control: Control, original: Tensor, solve: Solve) -> Bounds:
    """Return phase 1."""
    psi = control.boundary.build(), (control.lowest or control.boundary).build()
    stages = [Stage(losses.forget, losses.retain, ClosedForm())]
    highest = Problem(HIGHEST, stages, psi[0], METHOD, 1, "highest completeness", "retain", part=losses.part)
    lowest = Problem(LOWEST, stages, psi[1], METHOD, 1, "lowest completeness", "forget", part=losses.part)
    return Bounds(original, solve(highest, lambda: original, None), solve(lowest, lambda: original, None))


def epsilons(
    losses: Losses, control: Control, wanted: Epsilons, valid: tuple[float, float]
) -> tuple[list[Problem], list[dict[str, object]]]:
    """Return the problems of phase 2 by ascending ε, and each ε outside the valid range with its reason."""
    inside: list[Problem] = []
    outside: list[dict[str, object]] = []
    least, most = valid
    for fraction, epsilon in wanted.within(*valid):
        if least <= epsilon <= most:
            stage = Stage(losses.forget, losses.retain, control.multiplier.build())
            label, place = f"ε = {epsilon:.4g} ({fraction:.0%})", round(fraction, 6)
            inside.append(
                Problem(
                    f"epsilon-{len(inside)}", [stage], control.epsilon.build(), METHOD, 2, label,
                    epsilon=epsilon, fraction=place, part=losses.part,
                )
            )  # fmt: skip
        else:
            where = "below" if epsilon < least else "above"
            outside.append({"epsilon": epsilon, "reason": f"{where} the valid range {least:.6g} to {most:.6g}"})
    return inside, outside


def front(
    bounds: Bounds,
    problems: Sequence[Problem],
    sweep: Independent | Continuation,
    line: Line,
    lands: bool,
    solve: Solve,
) -> Iterator[Solution]:
    """Yield phase 2 in the order of the sweep; where it `lands`, each solution ends at its ε."""
    solved: Solution | None = None
    ends = bounds.highest.end, bounds.lowest.end
    for number, problem in enumerate(sweep.order(problems)):
        budgeted = replace(problem, stages=[replace(stage, budget=sweep.share(number)) for stage in problem.stages])
        begin = _start(bounds, sweep.between(number), solved, line, problem)
        solved = solve(budgeted, begin, ends if lands else None)
        yield solved


def _start(
    bounds: Bounds, names: tuple[str, str], before: Solution | None, line: Line, problem: Problem
) -> Callable[[], Tensor]:
    """Return what finds the weights that an ε begins at: those of a model, or a point between two of them."""
    tighter, looser = names
    known = {"highest": bounds.highest, "lowest": bounds.lowest, "before": before or bounds.highest}
    if tighter == looser:
        return lambda: bounds.original if tighter == "original" else known[tighter].theta
    return lambda: line(known[tighter].end, known[looser].end, problem.epsilon or 0.0)
