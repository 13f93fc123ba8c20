"""A constrained problem, what is looked at on its way, and its solution."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

import torch
from torch import Tensor

from unlearnkit.contracts import OwnLoss, Part, Psi
from unlearnkit.control import Constant, Stage
from unlearnkit.errors import Exit, UserError
from unlearnkit.solver.origin import digest

TOLERANCE = 0.02
"""Largest relative gap (f1 − ε)/ε of a solution that satisfies its ε."""

End = tuple[Tensor, float]
"""One end of a line: weights, and f1 there on the whole forget set."""


class DivergedError(UserError):
    """A loss or a gradient was not finite."""

    def __init__(self, problem: str, step: int) -> None:
        super().__init__(
            f"{problem}: loss or gradient became non-finite at step {step}; the update was not applied. Resume with "
            f"a lower rate, --set training.optimizer.lr=...: what was solved before it is solved again",
            Exit.DIVERGED,
        )
        self.step = step


def unasked(loss: Tensor, epsilon: float | None, squared_norm: Tensor, objective_norm: Tensor) -> Tensor:
    """Return ψ = 0: no decrease is asked of the constraint."""
    return torch.zeros_like(loss)


@dataclass(frozen=True)
class Span:
    """What a curve of weights goes over: ε(t) = ε₀ + t² (ε₁ − ε₀), t from 0 to 1."""

    degree: int
    tight: float
    """ε₀."""
    loose: float
    """ε₁, f1 of the original model."""

    def epsilon(self, t: float) -> float:
        """Return ε(t)."""
        return self.tight + t**2 * (self.loose - self.tight)

    def place(self, epsilon: float) -> float:
        """Return the t of an ε, 0 below and 1 above them all."""
        return math.sqrt(min(max(0.0, (epsilon - self.tight) / (self.loose - self.tight)), 1.0))


@dataclass(frozen=True)
class Problem:
    """One constrained problem: min of `objective` s.t. the other loss is at most ε (its infimum without one)."""

    id: str
    stages: Sequence[Stage]
    """How it is solved, one after the other."""
    psi: Psi = unasked
    method: str = ""
    phase: Literal[1, 2] | None = None
    label: str = ""
    objective: Literal["retain", "forget"] = "retain"
    epsilon: float | None = None
    fraction: float | None = None
    part: Part = "encoder"
    """What it trains."""
    retrained: bool = False
    """True where its solution never saw the forget set and took as many steps as the original model: a yardstick."""
    brief: tuple[int, int | None] | None = None
    """Of one that took fewer, its steps and those of the original, None where these are not known."""
    served: tuple[str, int] | None = None
    """Of a point of the dial, the dial's kind and the steps that were taken from there."""
    span: Span | None = None
    """Of the front as one curve, what it goes over; None for a single solution."""
    made: Mapping[str, object] = field(default_factory=dict)
    """The sections that made it, and what else of the recipe and of other solutions it depends on, by name."""

    def steps(self, each: int) -> int:
        """Return its steps at most where `training` gives a problem `each` of them."""
        return sum(stage.steps(each) for stage in self.stages)

    @property
    def anew(self) -> bool:
        """Whether nothing of the original's weights is in it."""
        return any(stage.fresh == 1 for stage in self.stages)

    @property
    def scratch(self) -> bool:
        """Whether it starts from fresh weights and descends on the model's own loss alone, of one set or of both."""
        match self.stages:
            case [only]:
                losses = [loss for loss in (only.forget, only.retain) if loss is not None]
                plain = all(isinstance(loss, OwnLoss) and loss.sign == 1 for loss in losses)
                beside = only.noise or only.lookahead or only.until or only.salient
                return self.anew and plain and not beside and isinstance(only.rule, Constant | None)
        return False

    @property
    def keeps(self) -> bool:
        """Whether it goes back to where it began where that satisfies ε at a lower objective: a point is polished."""
        return self.served is not None and bool(self.stages)


Solve = Callable[[Problem, Callable[[], Tensor], tuple[End, End] | None], "Solution"]
"""From a problem, the weights that it begins at where it was not begun before, and the ends that it lands between, to
its solution."""


@dataclass(frozen=True)
class Check:
    """What holds on the whole training sets after so many steps, or on the images of `training.look`."""

    step: int
    f1: float
    f2: float
    gap: float | None
    """(f1 − ε)/ε, absent without ε."""
    residual: float
    """min over λ ≥ 0 of ‖∇f + λ∇h‖."""
    lam: float
    """The λ that attains it."""
    f1_within: float | None = None
    """Half-width of a 95 % interval of f1 on the whole set, absent where it is of the whole set."""
    f2_within: float | None = None
    """The same of f2."""

    @property
    def sampled(self) -> bool:
        """Whether f1 or f2 is not of the whole set."""
        return self.f1_within is not None or self.f2_within is not None

    def facts(self) -> dict[str, Any]:
        """Return it as plain data; what says how sure it is stands there where it is not of the whole sets."""
        widths = ("f1_within", "f2_within")
        return {name: value for name, value in vars(self).items() if name not in widths or value is not None}

    @property
    def satisfied(self) -> bool | None:
        """Whether f1 is within `TOLERANCE` of ε or below it; None without ε."""
        return None if self.gap is None else self.gap <= TOLERANCE


@dataclass
class History:
    """Losses on the batches and λ, every so many steps; None for a loss that no step is taken on."""

    step: list[int] = field(default_factory=list)
    f1: list[float | None] = field(default_factory=list)
    f2: list[float | None] = field(default_factory=list)
    lam: list[float | None] = field(default_factory=list)


class State(TypedDict):
    """What a descent saves beside its tensors: its steps and where its stage began, its checks and its history."""

    done: int
    stage: int
    since: int
    stages: list[dict[str, int | bool]]
    near: bool
    near_at: NotRequired[list[bool]]
    """Of a curve, the same at places over t."""
    checks: list[dict[str, Any]]
    history: dict[str, list[Any]]


class Outcome(State):
    """What is saved beside a solution's weights."""

    steps: int
    ended: str
    landing: dict[str, float | bool] | None
    table: list[tuple[float, float]]
    """Of a curve, f1 on the whole forget set at places over t."""
    notice: str | None
    """Of a curve, what whoever holds its file has to know."""
    own_losses: bool
    frozen_unchanged: bool
    origin: dict[str, Any]
    """All that it was computed from."""


@dataclass(frozen=True)
class Solution:
    """A solved problem: its weights, and what is known of it."""

    problem: Problem
    theta: Tensor
    facts: Outcome

    def shortfall(self) -> str | None:
        """Return a warning line where the solution does not satisfy its ε."""
        if not self.facts["checks"] or self.last.satisfied is not False:
            return None
        assert self.last.gap is not None
        return (
            f"{self.problem.label}: not satisfied after {self.facts['steps']} steps: f1 is {self.last.f1:.6g}, "
            f"{self.last.gap:+.1%} off (allowed: {TOLERANCE:.0%})"
        )

    @property
    def digest(self) -> str:
        """The hash of all that it was computed from."""
        return digest(self.facts["origin"])

    @property
    def last(self) -> Check:
        """The check at its end."""
        return Check(**self.facts["checks"][-1])

    @property
    def end(self) -> End:
        """Its weights with f1, as an end of a line."""
        return self.theta, self.last.f1


def gap(f1: float, epsilon: float) -> float:
    """Return (f1 − ε)/|ε|."""
    return (f1 - epsilon) / abs(epsilon)
