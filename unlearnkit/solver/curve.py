r"""The whole front as one curve of weights, trained at once.

$$\theta(t) = \sum_{k=0}^{d} \binom{d}{k} t^k (1-t)^{d-k}\,\varphi_k,\qquad
  \epsilon(t) = \epsilon_0 + t^2\,(\epsilon_1 - \epsilon_0),\qquad t\in[0, 1],$$

goes from ε₀, f1 at the highest completeness, to ε₁, f1 of the original model, which stays the control point φ_d. Every
step draws one t, takes both gradients at θ(t) on a batch each, and moves all other control points:

$$g = \frac{\nabla f_2 + \lambda(t)\nabla f_1}{\lVert\nabla f_2\rVert + \lambda(t)\lVert\nabla f_1\rVert},\qquad
  \nabla_{\varphi_k} = \binom{d}{k} t^k (1-t)^{d-k}\, g.$$

log λ is piecewise linear over t and follows the relative gap (f1 − ε(t))/ε(t) of the batches. Curves of weights between
two models are those of Garipov et al. (NeurIPS 2018); whole Pareto fronts as one subspace are those of Dimitriadis et
al. (ICML 2023); ε(t) in place of a weighted sum is ours (docs/adr/0011-the-front-as-one-curve.md).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from unlearnkit.control import LAM_MAX, Facts, Multiplier, dot
from unlearnkit.recipe.training import Training
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.problem import Problem, Span, State
from unlearnkit.solver.side import Side
from unlearnkit.solver.step import Taken, apart

PLACES = 9
"""Places over t between which log λ is linear, and at which f1 is looked at when the curve is at its end."""

GAIN = 0.5
"""What a relative gap of one moves log λ by."""

LAM_MIN = 1e-6
"""Bound on λ from below, so that it can grow again."""

TINY = 1e-30
"""Length, or squared one, below which gradients count as none."""

SAMPLES = 25
"""Places at which a polyline is held against the curve that is fitted to it."""

LAST = 0.98
"""The largest t that is drawn: beyond it hardly any of a step reaches a control point."""

GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples modulo 1 are spread evenly at every length."""


def bernstein(degree: int, t: float) -> list[float]:
    """Return the weights of the control points at t, [degree + 1]; they add up to 1."""
    return [math.comb(degree, k) * t**k * (1 - t) ** (degree - k) for k in range(degree + 1)]


def at(points: Tensor, original: Tensor, t: float) -> Tensor:
    """Return θ(t) of control points, one after the other in a vector, of which the original weights are the last."""
    rows = points.view(-1, len(original))
    *weights, last = bernstein(len(rows), t)
    return torch.stack([weight * row for weight, row in zip(weights, rows, strict=True)]).sum(0) + last * original


def fitted(degree: int, corners: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Return the control points whose curve is nearest to the polyline through `corners`, (t, θ) from t = 0 to 1.

    The last corner stays the last control point, which is left out, as in `at`. Nearest is meant in least squares.
    """
    last = corners[-1][1]
    places = torch.linspace(0, 1, SAMPLES).tolist()
    weights = torch.tensor([bernstein(degree, t) for t in places], dtype=torch.float64)
    solving = torch.linalg.pinv(weights[:, :-1])
    points = torch.zeros(degree, len(last), device=last.device)
    for place, t in enumerate(places):
        (a, theta), (b, other) = next(pair for pair in pairwise(corners) if t <= pair[1][0])
        rest = torch.lerp(theta, other, (t - a) / (b - a)) - float(weights[place, -1]) * last
        points += torch.outer(solving[:, place].to(rest), rest)
    return points.view(-1)


class Along(Multiplier):
    """λ as a function of t: log λ is linear between places, and moves by the relative gap of each batch."""

    t = 0.0
    """Where on the curve the step to come is."""

    def lam(self, facts: Facts) -> Tensor:
        """Return λ(t) and move the two places beside t."""
        assert facts.epsilon is not None
        logs = self.state["log"]
        place = min(int(self.t * (PLACES - 1)), PLACES - 2)
        share = self.t * (PLACES - 1) - place
        hat = torch.tensor([1 - share, share], dtype=logs.dtype).to(logs.device)
        beside = logs[place : place + 2]
        lam = (hat * beside).sum().exp()
        error = ((facts.loss - facts.epsilon) / abs(facts.epsilon)).clamp(-1, 1)
        moved = (beside + GAIN * hat * error).clamp(math.log(LAM_MIN), math.log(LAM_MAX))
        self.state["log"] = torch.cat([logs[:place], moved, logs[place + 2 :]])
        return lam

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        """Return the weights of both gradients, so that no t takes longer steps than another where they agree."""
        norm, _, objective = facts.gradients()
        lam = self.lam(facts)
        length = (objective.sqrt() + lam * norm.sqrt()).clamp(min=TINY)
        return 1 / length, lam / length


class CurveDescent(Descent):
    """The state of a curve on its way: what it trains are its control points, one after the other in a vector."""

    def __init__(
        self, problem: Problem, span: Span, flat: Flat, sides: Mapping[str, Side], training: Training, steps: int,
        origin: Tensor, close: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        """Take the original weights `origin` as its last control point, and `close` as a `Descent`."""
        self.span, self.last = span, origin
        self.points = Parameter(origin.repeat(span.degree))
        super().__init__(problem, flat, sides, training, steps, close=close)
        self._near = [False] * PLACES

    @property
    def trained(self) -> Parameter:
        """The control points that the optimiser moves."""
        return self.points

    @property
    def rule(self) -> Along:
        """The rule of its one stage."""
        rule = self.stage.rule
        assert isinstance(rule, Along)
        return rule

    def begin(self, theta: Tensor) -> None:
        """Start from the control points `theta`."""
        self.points.data.copy_(theta)
        self._look_around()

    def warm(self) -> None:
        """Start λ where the two gradients are of one length, on a batch at each place."""
        ratios = []
        for place in range(PLACES):
            self._go(min(place / (PLACES - 1), LAST))
            _, across = self._loss("forget").gradient(self.flat, 1)
            _, gradient = self._loss("retain").gradient(self.flat, 0)
            ratios.append((dot(gradient, gradient) / dot(across, across).clamp(min=TINY)).sqrt())
        self.rule.state["log"] = torch.stack(ratios).clamp(LAM_MIN, LAM_MAX).log()

    def state(self) -> tuple[dict[str, Tensor], State]:
        """Return what a `Descent` does, and where on the curve it steps in full precision."""
        tensors, facts = super().state()
        return tensors, {**facts, "near_at": self._near}

    def load(self, tensors: Mapping[str, Tensor], facts: State) -> None:
        """Continue from a saved state."""
        super().load(tensors, facts)
        self._near = facts["near_at"]

    def _go(self, t: float) -> None:
        """Put the model at θ(t)."""
        self.flat.set(at(self.points.data, self.last, t))
        self.near = self._near[round(t * (PLACES - 1))]

    def _taken(self) -> Taken:
        self.rule.t = t = LAST * ((self.done * GOLDEN) % 1)
        self._go(t)
        problem = replace(self.problem, epsilon=self.span.epsilon(t))
        taken = apart(self.flat, self._loss("retain"), self._loss("forget"), self.rule, problem)
        weights = torch.tensor(bernstein(self.span.degree, t)[:-1], dtype=taken.gradient.dtype).to(self.last.device)
        return replace(taken, gradient=torch.outer(weights, taken.gradient).view(-1))

    def _look_around(self) -> None:
        if self.close is not None:
            for place in range(PLACES):
                self.flat.set(at(self.points.data, self.last, place / (PLACES - 1)))
                super()._look_around()
                self._near[place] = self.near

    def due(self) -> bool:
        """Tell that no look is due on its way: a curve is looked at as a whole when it is at its end."""
        return False

    def checked(self, whole: bool = False) -> bool:
        """Tell whether it was looked at as a whole."""
        return bool(self.table)

    def look(self, whole: bool = False) -> tuple[str, dict[str, Any]]:
        """Look at f1 on the whole forget set at places over t."""
        for t in (place / (PLACES - 1) for place in range(PLACES)):
            self.flat.set(at(self.points.data, self.last, t))
            self.table.append((t, self.sides["forget"].exact()))
        return "curve", {"steps": self.done, "f1": [f1 for _, f1 in self.table]}
