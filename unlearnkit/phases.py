"""Boundary and ε solutions: one loop over `Descent.step`.

Phase 1, highest completeness: min f2 s.t. f1 ≤ inf f1; lowest completeness: the same with the roles of f1 and f2
exchanged. Phase 2, for each ε: min f2 s.t. f1 ≤ ε (Feng et al., ICLR 2025).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import scipy.optimize
import torch
from torch import Tensor

from unlearnkit.contracts import Psi, View
from unlearnkit.control import LAM_MAX, Facts, Mixture, direction, dot, residual
from unlearnkit.data import batch_index
from unlearnkit.errors import Exit, UserError
from unlearnkit.flat import Flat
from unlearnkit.recipe.recipe import Continuation, Independent, Training
from unlearnkit.sides import Side
from unlearnkit.stages import Stage

TOLERANCE = 0.02
"""Largest relative gap (f1 − ε)/ε of a solution that satisfies its ε."""

FALLING = 0.95
"""A stationarity residual has stopped falling when a check finds more than this part of the one before."""

ANNEALED = 0.1
"""Part of the learning rate from which on a decaying problem may end before its budget."""

LANDED = 0.002
"""Largest relative gap of a point that is looked for on a line between two solutions."""

RESTORATIONS = 4
"""Steps down the gradient of f1 that landing from above takes before it turns to the highest completeness."""

LEAST_SCALE = 0.01
"""Part of the optimiser's mean scale of a gradient that no coordinate's scale is taken to be below."""

LOOKS = 20
"""Looks at the whole forget set after which the search on a line ends where it is."""

NEAR = 0.02
"""Distance from the original weights, as a part of their norm, within which no loss is computed in bf16: there the
retain loss is a difference of nearly equal tensors, whose rounding outweighs its gradient."""

DIFFERENCE = 0.01
"""Length of the step of the central differences through which a look-ahead is differentiated."""

End = tuple[Tensor, float]
"""One end of a line: weights, and f1 there on the whole forget set."""


class DivergedError(UserError):
    """A loss or a gradient was not finite."""

    def __init__(self, problem: str, step: int) -> None:
        super().__init__(
            f"{problem}: loss or gradient became non-finite at step {step}; the update was not applied. "
            f"Lower training.optimizer.lr and resume: the run continues from the last checkpoint",
            Exit.DIVERGED,
        )
        self.step = step


@dataclass(frozen=True)
class Check:
    """What holds on the whole training sets after so many steps."""

    step: int
    f1: float
    f2: float
    gap: float | None
    """(f1 − ε)/ε, absent without ε."""
    residual: float
    """min over λ ≥ 0 of ‖∇f + λ∇h‖."""
    lam: float
    """The λ that attains it."""

    @property
    def satisfied(self) -> bool | None:
        """Whether f1 is within `TOLERANCE` of ε or below it; None without ε."""
        return None if self.gap is None else self.gap <= TOLERANCE


@dataclass(frozen=True)
class Problem:
    """One constrained problem: min of `objective` s.t. the other loss is at most ε (its infimum without one)."""

    id: str
    method: str
    phase: Literal[1, 2] | None
    label: str
    objective: Literal["retain", "forget"]
    psi: Psi
    epsilon: float | None = None
    fraction: float | None = None
    part: Literal["encoder", "all"] = "encoder"
    """What it trains."""


@dataclass(frozen=True)
class Leg:
    """A stage on its way: one stretch of steps with an optimiser and a learning-rate schedule of its own."""

    sides: Mapping[str, Side]
    """By name (forget, retain) the losses it takes steps on; the images of one that is absent are not read."""
    rule: Mixture | None
    """How the gradients of two losses are mixed."""
    steps: int
    """Steps at most."""
    until: tuple[Side, float] | None = None
    """A loss on the batch, and the value of it from which on no step is taken."""
    start: Callable[[Tensor], Tensor] | None = None
    """What is done to the weights before the first step."""
    lookahead: float = 0.0
    """Rate of the step on the objective that the constraint's loss is taken after."""

    @property
    def looks_again(self) -> bool:
        """Whether a step looks at a batch more than once."""
        return self.lookahead > 0 or (self.rule is not None and self.rule.watches)


def legs_of(
    stages: Sequence[Stage], sides: Mapping[str, Side], steps: int, start: Callable[[Stage, int, Tensor], Tensor]
) -> list[Leg]:
    """Return the legs of a method's stages on the sets of `sides`, where `steps` is the budget of one problem.

    `start` takes a stage, its number and the weights it finds, and returns those that it starts from.
    """
    legs = []
    for number, stage in enumerate(stages):
        given = {"forget": stage.forget, "retain": stage.retain}
        own = {name: sides[name].under(loss) for name, loss in given.items() if loss is not None}
        until = None if stage.until is None else (sides["forget"].under(stage.until.loss), stage.until.least)
        begun = partial(start, stage, number) if stage.fresh or stage.noise else None
        legs.append(Leg(own, stage.rule, max(1, round(stage.budget * steps)), until, begun, stage.lookahead))
    return legs


@dataclass
class History:
    """Losses on the batches and λ, every so many steps; None for a loss that no step is taken on."""

    step: list[int] = field(default_factory=list)
    f1: list[float | None] = field(default_factory=list)
    f2: list[float | None] = field(default_factory=list)
    lam: list[float | None] = field(default_factory=list)


class Descent:
    """The state of one problem on its way down its legs; `step` is the update rule."""

    def __init__(
        self,
        problem: Problem,
        legs: Sequence[Leg],
        flat: Flat,
        forget: Side,
        retain: Side,
        training: Training,
        origin: Tensor | None = None,
    ) -> None:
        """Take `forget` and `retain` as what f1 and f2 are measured by; the legs may take steps on other losses.

        `origin` are the original weights of what it trains; steps in bf16 are taken in fp32 near them.
        """
        self.problem, self.legs, self.flat, self.training = problem, legs, flat, training
        self.sides = {"forget": forget, "retain": retain}
        self.objective = self.sides[problem.objective]
        self.constraint = retain if problem.objective == "forget" else forget
        self.origin = None if training.precision == "fp32" else origin
        self.near = False
        self.optimizer = training.optimizer.build([flat.theta])
        self.place = self.since = self.done = 0
        self.ends: list[dict[str, object]] = []
        """Of each leg that has ended its `steps`, and whether it was `stopped` before they were spent."""
        self.checks: list[Check] = []
        self.landing: dict[str, float | bool] | None = None
        """Where it was before it landed, f1 and its gap on the whole forget set, and whether it moved."""
        self.history = History()
        self._recent: list[Tensor] = []
        self._batches: dict[str, tuple[View, Sequence[Tensor]]] = {}

    @property
    def leg(self) -> Leg:
        """The leg under way, or the last one."""
        return self.legs[min(self.place, len(self.legs) - 1)]

    @property
    def steps(self) -> int:
        """Steps of the whole problem, if no leg to come ends early."""
        return self.since + sum(leg.steps for leg in self.legs[self.place :])

    def begin(self, theta: Tensor) -> None:
        """Start from the weights `theta`."""
        self.flat.set(theta if self.leg.start is None else self.leg.start(theta))
        self._look_around()

    def advance(self) -> bool:
        """Go on to the next leg where one is at its end; tell whether there is a step to take."""
        while self.place < len(self.legs):
            taken = self.done - self.since
            spent = taken >= self.leg.steps
            if not spent and not self._enough():
                return True
            self._record()
            self.ends.append({"steps": taken, "stopped": not spent})
            self.place, self.since = self.place + 1, self.done
            if self.place < len(self.legs):
                self.optimizer = self.training.optimizer.build([self.flat.theta])
                self.begin(self.flat.theta.detach().clone())
        return False

    def _enough(self) -> bool:
        """Tell whether the leg's stop rule holds on the batch to come, or its rule says that it is over."""
        leg = self.leg
        if leg.rule is not None and leg.rule.over():
            return True
        if leg.until is None:
            return False
        side, least = leg.until
        with torch.no_grad():
            loss = side.value(self._rows(side, self.done), self.problem.phase, self.done, precise=self.near)
            return bool(loss >= least)

    def _rows(self, side: Side, step: int) -> Tensor:
        return batch_index(step, side.count, self.training.batch_size, side.seed, self.problem.phase, side.name)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Decode the batches of the steps to come ahead of time inside the block, where memory does not hold them."""
        with ExitStack() as stack:
            for side in self.leg.sides.values():
                steps = range(self.done, self.since + self.leg.steps)
                stack.enter_context(side.images.expect(map(partial(self._rows, side), steps)))
            yield

    def step(self) -> None:
        r"""Take one step: $g = w\nabla f + \lambda\nabla h$ is handed to the optimiser as its gradient."""
        constraint, objective, lam, gradient = self._mixed()
        facts_of_step = torch.stack([constraint.double(), objective.double(), lam.double(), dot(gradient, gradient)])
        # The fused optimisers skip an update on the device where found_inf is set, so no host synchronisation is due.
        self.optimizer.found_inf = (~facts_of_step.isfinite().all()).float()  # type: ignore[attr-defined]
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        for group in self.optimizer.param_groups:
            rate = decayed(self.done - self.since, self.leg.steps, self.training.decay)
            group["lr"] = self.training.optimizer.lr * rate
        self.flat.theta.grad = gradient
        self.optimizer.step()
        if self.leg.rule is not None and self.leg.rule.watches:
            with torch.no_grad():
                self.leg.rule.watch(objective, self._loss(self.objective.name)())
        self._batches.clear()
        self.done += 1
        self._recent.append(facts_of_step)
        if self.done % self.every == 0 or self.done == self.steps:
            self._record()

    def _mixed(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return h, f, λ and the direction of the batch; a loss that the leg does not have is 0."""
        sides, rule, value = self.leg.sides, self.leg.rule, self._loss
        f, h = self.objective.name, self.constraint.name
        if rule is None:
            (only,) = sides
            loss, gradient = self.flat.backward(0, [value(only)])
            zero, one = torch.zeros_like(loss), torch.ones_like(loss)
            return (zero, loss, zero, gradient) if only == f else (loss, zero, one, gradient)
        if rule.joint and not self.leg.lookahead:
            found: dict[str, Tensor] = {}

            def joint() -> Tensor:
                found["h"], found["f"] = value(h)(), value(f)()
                weight, found["lam"] = rule.weights(
                    Facts(
                        found["h"].detach(), self.problem.epsilon, self.problem.psi,
                        objective_loss=found["f"].detach(),
                    )
                )  # fmt: skip
                objective = found["f"] if weight is None else weight * found["f"]
                return objective + found["lam"] * found["h"]

            _, gradient = self.flat.backward(0, [joint])
            return found["h"].detach(), found["f"].detach(), found["lam"], gradient
        if self.leg.lookahead:
            constraint, constraint_gradient, objective, gradient = self._ahead(value(h), value(f))
        else:
            constraint, constraint_gradient = self.flat.backward(1, [value(h)])
            objective, gradient = self.flat.backward(0, [value(f)])
        facts = Facts(
            constraint.double(), self.problem.epsilon, self.problem.psi,
            squared_norm=dot(constraint_gradient, constraint_gradient),
            product=dot(gradient, constraint_gradient),
            objective_norm=dot(gradient, gradient),
            objective_loss=objective.double(),
        )  # fmt: skip
        weight, lam = rule.weights(facts)
        return constraint, objective, lam, direction(gradient, constraint_gradient, lam, weight)

    def images_read(self) -> int:
        """Return how many images its steps took so far, each as often as it was in a batch."""
        taken = [*(int(str(end["steps"])) for end in self.ends), self.done - self.since][: len(self.legs)]
        sides = (len(leg.sides) for leg in self.legs)
        return self.training.batch_size * sum(steps * count for steps, count in zip(taken, sides, strict=False))

    def _loss(self, name: str) -> Callable[[], Tensor]:
        """Return the leg's loss of that name on the batch of this step, which is made once for all looks at it."""
        side = self.leg.sides[name]
        rows = self._rows(side, self.done)
        if not self.leg.looks_again:
            return lambda: side.value(rows, self.problem.phase, self.done, precise=self.near)
        if name not in self._batches:
            self._batches[name] = side.batch(rows, self.problem.phase, self.done)
        return lambda: side.at(*self._batches[name], precise=self.near)

    def _ahead(
        self, constraint: Callable[[], Tensor], objective: Callable[[], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r"""Return $h(\theta - \alpha\nabla f(\theta))$ and its gradient, f and its gradient.

        $$\nabla_\theta h(\theta - \alpha\nabla f) = v - \alpha\nabla^2 f(\theta)\,v,\qquad
          v = \nabla h(\theta - \alpha\nabla f),$$

        with the product by central differences of ∇f at θ ± rv, r = 0.01/‖v‖ (Liu, Simonyan and Yang, ICLR 2019).
        """
        theta, alpha = self.flat.theta.detach().clone(), self.leg.lookahead
        f, found = self.flat.backward(0, [objective])
        gradient = found.clone()
        self.flat.set(theta - alpha * gradient)
        h, ahead = self.flat.backward(1, [constraint])
        reach = (DIFFERENCE / dot(ahead, ahead).sqrt().clamp(min=1e-12)).to(theta.dtype)
        curved = torch.zeros_like(theta)
        for sign in (1, -1):
            self.flat.set(theta + sign * reach * ahead)
            curved.add_(self.flat.backward(0, [objective])[1], alpha=sign)
        self.flat.set(theta)
        return h, ahead.sub_(curved * (alpha / (2 * reach))), f, gradient

    def _look_around(self) -> None:
        """Find out whether the weights are near the original ones."""
        if self.origin is not None:
            self.near = bool((self.flat.theta - self.origin).norm() < NEAR * self.origin.norm())

    def _record(self) -> None:
        """Move the window's mean to the host; raise `DivergedError` naming the first step that was not finite."""
        if not self._recent:
            return
        window = torch.stack(self._recent).cpu()
        self._recent.clear()
        bad = (~window.isfinite().all(1)).nonzero()
        if len(bad):
            step = self.done - len(window) + int(bad[0])
            raise DivergedError(self.problem.id, step)
        self._look_around()
        h, f, lam, _ = window.mean(0).tolist()
        seen = {self.constraint.name: h, self.objective.name: f}
        f1, f2 = (seen[name] if name in self.leg.sides else None for name in ("forget", "retain"))
        for values, value in zip(vars(self.history).values(), (self.done, f1, f2, lam), strict=True):
            values.append(value)

    def check(self) -> Check:
        """Look at both losses and the stationarity residual on the whole training sets."""
        h, constraint = self.flat.backward(1, self.constraint.terms())
        f, objective = self.flat.backward(0, self.objective.terms())
        least, lam = residual(dot(constraint, constraint), dot(objective, constraint), dot(objective, objective))
        f1, f2 = (float(f), float(h)) if self.problem.objective == "forget" else (float(h), float(f))
        epsilon = self.problem.epsilon
        gap = None if epsilon is None else relative_gap(f1, epsilon)
        check = Check(self.done, f1, f2, gap, float(least), float(lam))
        self.checks.append(check)
        return check

    def land(self, highest: End, lowest: End) -> bool:
        r"""Move along a line to where f1 on the whole forget set is ε, and tell whether it moved.

        $$\theta \leftarrow \theta + t(\theta_b - \theta),\qquad f_1(\theta + t(\theta_b - \theta)) = \epsilon,$$

        from below ε with the lowest completeness as θ_b, and from above as in `_lowered`. It stays where it is at ε to
        `LANDED`, and from below where f2 would not fall.
        """
        forget, retain, epsilon = self.sides["forget"], self.sides["retain"], self.problem.epsilon
        assert epsilon is not None
        here = (self.flat.theta.detach().clone(), forget.exact())
        gap = relative_gap(here[1], epsilon)
        moved = abs(gap) > LANDED
        if moved and gap > 0:
            self.flat.set(self._lowered(here, highest))
        elif moved:
            f2 = retain.exact()
            self.flat.set(between(self.flat, forget, here, lowest, epsilon))
            moved = retain.exact() < f2
            if not moved:
                self.flat.set(here[0])
        self.landing = {"f1": here[1], "gap": gap, "moved": moved}
        return moved

    def _lowered(self, here: End, highest: End) -> Tensor:
        r"""Return weights near `here` where f1 on the whole forget set is ε, which is below f1 there.

        Steps of feasibility restoration, each the shortest in the optimiser's metric that reaches ε to first order,

        $$\theta \leftarrow \theta - \frac{f_1 - \epsilon}{\nabla f_1^\top D\nabla f_1}D\nabla f_1,\qquad
          D = 1/\sqrt{v},$$

        with v the optimiser's mean of squared gradients, or D = 1 without one; where f1 does not fall, the line to the
        highest completeness. Both end by a search on the line between the last two points.
        """
        forget, epsilon = self.sides["forget"], self.problem.epsilon
        assert epsilon is not None
        squares = self.optimizer.state[self.flat.theta].get("exp_avg_sq")
        scale = torch.ones_like(self.flat.theta) if squares is None else squares.sqrt()
        scale = scale + LEAST_SCALE * scale.mean()
        for _ in range(RESTORATIONS):
            _, gradient = self.flat.backward(1, forget.terms())
            steep = gradient / scale
            self.flat.set(here[0] - (here[1] - epsilon) / dot(gradient, steep).to(steep.dtype) * steep)
            ahead = self.flat.theta.detach().clone(), forget.exact()
            if not ahead[1] < here[1]:
                break
            if relative_gap(ahead[1], epsilon) <= LANDED:
                return between(self.flat, forget, ahead, here, epsilon)
            here = ahead
        return between(self.flat, forget, highest, here, epsilon)

    def due(self) -> bool:
        """Tell whether a check is due at this step: `training.checks` of them, the last at the end of the budget."""
        return self.done == 0 or self.done * self.training.checks // self.steps > (
            (self.done - 1) * self.training.checks // self.steps
        )

    def converged(self) -> bool:
        """Tell whether a check at this very step satisfies ε while the residual has stopped falling."""
        # Before the learning rate is nearly down, a residual that stands still is mini-batch noise.
        rate = decayed(self.done - self.since, self.leg.steps, self.training.decay)
        annealed = not self.training.decay or rate < ANNEALED
        if len(self.checks) < 2 or self.checks[-1].step != self.done or not annealed:
            return False
        last, before = self.checks[-1], self.checks[-2]
        # Well below an active bound there is still retain loss to win back.
        tight = last.gap is not None and (last.gap >= -TOLERANCE or last.lam == 0)
        return bool(last.satisfied) and tight and last.residual >= FALLING * before.residual

    def warm(self, check: Check) -> None:
        """Start the rule at the λ of the whole training sets, which mini-batch noise does not bias."""
        assert self.leg.rule is not None
        self.leg.rule.warm(torch.tensor(min(check.lam, LAM_MAX), dtype=torch.float64, device=self.flat.theta.device))

    def latest(self) -> dict[str, float | None] | None:
        """Return the newest window of the history if this step closed one."""
        if not self.history.step or self.history.step[-1] != self.done:
            return None
        return {name: values[-1] for name, values in vars(self.history).items()}

    @property
    def every(self) -> int:
        """Steps of one window of the history: a hundred windows a problem."""
        return max(1, self.steps // 100)

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that continuing bit for bit needs: tensors and facts."""
        tensors = {"theta": self.flat.theta.data}
        state = {} if self.leg.rule is None else self.leg.rule.state
        tensors |= {f"rule.{name}": value for name, value in state.items()}
        for name, value in self.optimizer.state[self.flat.theta].items():
            tensors[f"optimizer.{name}"] = value
        if self._recent:
            tensors["recent"] = torch.stack(self._recent)
        places = {"done": self.done, "stage": self.place, "since": self.since, "stages": self.ends, "near": self.near}
        facts = {**places, "checks": [asdict(check) for check in self.checks], "history": asdict(self.history)}
        return tensors, facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        device = self.flat.theta.device
        self.done, self.place, self.since = facts["done"], facts["stage"], facts["since"]
        self.ends, self.near = facts["stages"], facts["near"]
        self.flat.set(tensors["theta"].to(device))
        if self.leg.rule is not None:
            self.leg.rule.load(
                {name[5:]: value.to(device) for name, value in tensors.items() if name.startswith("rule.")}
            )
        state = {name[10:]: value.to(device) for name, value in tensors.items() if name.startswith("optimizer.")}
        if state:
            self.optimizer.state[self.flat.theta] = state
        self._recent = list(tensors["recent"].to(device)) if "recent" in tensors else []
        self.checks = [Check(**check) for check in facts["checks"]]
        self.history = History(**facts["history"])


@dataclass(frozen=True)
class Solution:
    """A solved problem: its weights, and what is known of it."""

    problem: Problem
    theta: Tensor
    facts: Mapping[str, Any]

    def shortfall(self) -> str | None:
        """Return a warning line where the solution does not satisfy its ε."""
        if self.last.satisfied is not False:
            return None
        assert self.last.gap is not None
        return (
            f"{self.problem.label}: not satisfied after {self.facts['steps']} steps: f1 is {self.last.f1:.6g}, "
            f"{self.last.gap:+.1%} off (allowed: {TOLERANCE:.0%})"
        )

    @property
    def last(self) -> Check:
        """The check at its end."""
        return Check(**self.facts["checks"][-1])

    @property
    def end(self) -> End:
        """Its weights with f1, as an end of a line."""
        return self.theta, self.last.f1


def decayed(step: int, steps: int, decay: float) -> float:
    """Return the learning rate's factor: 1, then a half cosine to 0 over the last part `decay` of the steps."""
    start = (1 - decay) * steps
    return 1.0 if step < start else 0.5 * (1 + math.cos(math.pi * (step - start) / max(steps - start, 1)))


def relative_gap(f1: float, epsilon: float) -> float:
    """Return (f1 − ε)/|ε|."""
    return (f1 - epsilon) / abs(epsilon)


def budget(training: Training, forget: int, retain: int) -> int:
    """Return the steps of one problem."""
    if training.steps is not None:
        return training.steps
    return max(1, math.ceil((training.epochs or 8) * max(forget, retain) / training.batch_size))


def epsilon_steps(sweep: Independent | Continuation, steps: int, number: int) -> int:
    """Return the steps of the ε that a sweep solves as its `number`-th, from 0, where one problem has `steps`."""
    share = sweep.budget if isinstance(sweep, Continuation) and number else 1.0
    return max(1, round(share * steps))


def between(flat: Flat, forget: Side, low: End, high: End, epsilon: float) -> Tensor:
    """Return the point between two weight vectors where f1 on the whole forget set is ε, to `LANDED` of it.

    f1 is at most ε at `low` and at least ε at `high`; where it is not, the end that is nearer to ε is returned.
    Brent's method takes two or three looks at the set, as f1 is nearly a straight line between two solutions.
    """

    def relative(f1: float) -> float:
        gap = relative_gap(f1, epsilon)
        return 0.0 if abs(gap) <= LANDED else gap

    gaps = {0.0: relative(low[1]), 1.0: relative(high[1])}

    def gap(share: float) -> float:
        if share not in gaps:
            flat.set(torch.lerp(low[0], high[0], share))
            gaps[share] = relative(forget.exact())
        return gaps[share]

    if gaps[0.0] < 0 < gaps[1.0]:
        scipy.optimize.brentq(gap, 0.0, 1.0, maxiter=LOOKS, disp=False)
    nearest = min(gaps, key=lambda share: abs(gaps[share]))
    return torch.lerp(low[0], high[0], nearest)
