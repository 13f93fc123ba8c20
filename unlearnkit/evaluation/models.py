"""The models that are evaluated and audited: the original, each solution, and places of the dial between them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from unlearnkit.contracts import Part
from unlearnkit.solver.dial import Dial
from unlearnkit.solver.origin import digest
from unlearnkit.solver.problem import Solution
from unlearnkit.solver.workbench import Workbench

ORIGINAL = "original"


@dataclass(frozen=True)
class Model:
    """A model under evaluation or audit."""

    id: str
    part: Part
    theta: Callable[[], Tensor]
    digest: str | None
    """The hash of all that it was computed from; None of the original model."""
    stop: bool = False
    """Whether it is a place of the dial, of which losses and pictures are enough."""


def original(bench: Workbench) -> Model:
    """Return the original model."""
    return Model(ORIGINAL, bench.recipe.model.part, lambda: bench.origin, None)


def solved(solution: Solution) -> Model:
    """Return the model of a solution."""
    problem = solution.problem
    return Model(problem.id, problem.part, partial(getattr, solution, "theta"), solution.digest)


def stops(dial: Dial, count: int, part: Part) -> dict[Model, float]:
    """Return so many places of a dial, each with its t; none of a dial that leads nowhere.

    They lie as f1 does along a curve: closer together where forgetting is complete, and the original model left out.
    """
    power = 1 if dial.kind == "curve" else 2
    places = [((number + 0.5) / count) ** power for number in range(count) if dial.range[0] < dial.range[1]]
    return {
        Model(name, part, partial(dial.at, t), digest([dial.digest, t]), stop=True): t
        for name, t in zip(stop_ids(count), places, strict=False)
    }


def stop_ids(count: int) -> list[str]:
    """Return what so many places of a dial are called."""
    return [f"dial-{number:02}" for number in range(count)]
