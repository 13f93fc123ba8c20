"""One problem on its way down its stages: where it is, what it has seen, and all that continuing needs."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from unlearnkit.control import LAM_MAX, Mixture, Stage, dot, largest, residual
from unlearnkit.recipe.training import Training
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.landing import land
from unlearnkit.solver.problem import Check, DivergedError, End, History, Problem, State, gap
from unlearnkit.solver.schedule import check_due, decayed, optimizer, settled
from unlearnkit.solver.shares import Sum
from unlearnkit.solver.side import Side
from unlearnkit.solver.step import Taken, ahead, alone, apart, joint, update

NEAR = 0.02
"""Distance from the original weights, as a part of their norm, within which no loss is computed in bf16: there the
retain loss is a difference of nearly equal tensors, whose rounding outweighs its gradient."""

Start = Callable[[Stage, int, Tensor], Tensor]
"""From a stage, its number and the weights it finds to those that it starts from."""


class Descent:
    """The state of one problem on its way down its stages."""

    def __init__(
        self, problem: Problem, flat: Flat, sides: Mapping[str, Side], training: Training, steps: int,
        start: Start = lambda stage, number, theta: theta, close: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        """Take `sides` (forget, retain) as what f1 and f2 are measured by; stages may take steps on other losses.

        `steps` is the budget that stages have parts of. `close` tells whether the student is `NEAR` the original
        weights, where steps in bf16 are taken in fp32.
        """
        self.problem, self.flat, self.sides, self.training, self.start = problem, flat, sides, training, start
        self.close = None if training.precision == "fp32" else close
        self.objective = sides[problem.objective]
        self.constraint = sides["retain" if problem.objective == "forget" else "forget"]
        self.budgets = [stage.steps(steps) for stage in problem.stages]
        self.losses = [_losses(stage, sides) for stage in problem.stages]
        """Of each stage, by name, the losses that it takes steps on; the images of one that is absent are not read."""
        self.stops = [
            None if (until := stage.until) is None else (sides["forget"].under(until.loss), until.least)
            for stage in problem.stages
        ]
        """Of each stage a loss on the forget set, and the value of it from which on no step is taken."""
        self.near = False
        self.salient: Tensor | None = None
        """Which entries of the weights the stage moves, None for all."""
        self.place = self.since = self.done = 0
        self.optimizer = self._optimizer()
        self.ends: list[dict[str, int | bool]] = []
        """Of each stage that has ended its `steps`, and whether it was `stopped` before they were spent."""
        self.checks: list[Check] = []
        self.landing: dict[str, float | bool] | None = None
        """Where it was before it landed, f1 and its gap on the whole forget set, and whether it moved."""
        self.history = History()
        self.returned = False
        """Whether it ended where it began, which was better."""
        self.table: list[tuple[float, float]] = []
        """Of a curve, f1 on the whole forget set at places over t, once it is at its end."""
        self._recent: list[Tensor] = []
        self._sums: dict[tuple[str, bool], Sum] = {}

    @property
    def trained(self) -> Parameter:
        """What the optimiser moves."""
        return self.flat.theta

    @property
    def stage(self) -> Stage:
        """The stage under way, or the last one."""
        return self.problem.stages[self._number]

    @property
    def rule(self) -> Mixture | None:
        """The rule of the stage, if it has one."""
        return self.stage.rule if self.budgets else None

    @property
    def steps(self) -> int:
        """Steps of the whole problem, if no stage to come ends early."""
        return self.since + sum(self.budgets[self.place :])

    @property
    def rate(self) -> float:
        """The learning rate's factor at the step to come."""
        return decayed(self.done - self.since, self.budgets[self._number], self._training.decay)

    def _as(self, stage: Stage) -> Training:
        """Return how a stage is trained."""
        return self.training.model_copy(update=dict(stage.settings)) if stage.settings else self.training

    @property
    def _training(self) -> Training:
        return self._as(self.stage) if self.budgets else self.training

    def _optimizer(self) -> Optimizer:
        return optimizer(self._training.optimizer, [self.trained])

    @property
    def _number(self) -> int:
        return min(self.place, len(self.budgets) - 1)

    def begin(self, theta: Tensor) -> None:
        """Start from the weights `theta`."""
        self.flat.set(self.start(self.stage, self._number, theta) if self.budgets else theta)
        self.salient = self._salient()
        self._look_around()

    def _salient(self) -> Tensor | None:
        wanted = self.stage.salient if self.budgets else None
        if wanted is None:
            return None
        _, gradient = self.sides["forget"].under(wanted.loss).whole().gradient(self.flat, 1)
        return largest(gradient, wanted.part)

    def advance(self) -> bool:
        """Go on to the next stage where one is at its end; tell whether there is a step to take."""
        while self.place < len(self.budgets):
            taken = self.done - self.since
            spent = taken >= self.budgets[self.place]
            if not spent and not self._enough():
                return True
            self._record()
            self.ends.append({"steps": taken, "stopped": not spent})
            self.place, self.since = self.place + 1, self.done
            if self.place < len(self.budgets):
                self.optimizer = self._optimizer()
                self.begin(self.flat.theta.detach().clone())
        return False

    def _enough(self) -> bool:
        """Tell whether the stage's stop rule holds on the batch to come, or its rule says that it is over."""
        rule, stop = self.rule, self.stops[self._number]
        if rule is not None and rule.over():
            return True
        if stop is None:
            return False
        side, least = stop
        return bool(self._sum(side).value() >= least)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Decode the batches of the steps to come ahead of time inside the block, where memory does not hold them."""
        with ExitStack() as stack:
            for side in self.losses[self._number].values():
                numbers = range(self.done, self.since + self.budgets[self._number])
                stack.enter_context(side.expect(self.problem.phase, numbers))
            yield

    def step(self) -> None:
        """Take one step by the stage's rule."""
        rule, taken = self.rule, self._taken()
        lr = self._training.optimizer.lr * self.stage.rate * self.rate
        self._recent.append(update(self.trained, self.optimizer, taken, lr, self.salient))
        if rule is not None and rule.watches:
            rule.watch(taken.objective, self._loss(self.objective.name).value())
        self._sums.clear()
        self.done += 1
        if self.done % self.every == 0 or self.done == self.steps:
            self._record()

    def _taken(self) -> Taken:
        stage, rule = self.stage, self.rule
        if rule is None:
            (only,) = self.losses[self._number]
            return alone(self.flat, self._loss(only), constraint=only == self.constraint.name)
        losses = self._loss(self.objective.name), self._loss(self.constraint.name)
        if stage.lookahead:
            return ahead(self.flat, *losses, rule, self.problem, stage.lookahead)
        return (joint if rule.joint else apart)(self.flat, *losses, rule, self.problem)

    def _loss(self, name: str) -> Sum:
        """Return the stage's loss of that name on the batch of this step, which is made once for all looks at it."""
        kept = name, self.near
        if kept not in self._sums:
            self._sums[kept] = self._sum(self.losses[self._number][name])
        return self._sums[kept]

    def _sum(self, side: Side) -> Sum:
        return side.sum(self.problem.phase, self.done, precise=self.near)

    def images_read(self) -> int:
        """Return how many images its steps took so far, each as often as it was in a batch."""
        taken = [*(int(end["steps"]) for end in self.ends), self.done - self.since]
        sizes = (self._as(stage).batch_size for stage in self.problem.stages)
        return sum(n * len(losses) * size for n, losses, size in zip(taken, self.losses, sizes, strict=False))

    def _look_around(self) -> None:
        """Find out whether the weights are near the original ones."""
        if self.close is not None:
            self.near = self.close()

    def _record(self) -> None:
        """Move the window's mean to the host; raise `DivergedError` naming the first step that was not finite."""
        if not self._recent:
            return
        window = torch.stack(self._recent).cpu()
        self._recent.clear()
        bad = (~window.isfinite().all(1)).nonzero()
        if len(bad):
            raise DivergedError(self.problem.id, self.done - len(window) + int(bad[0]))
        self._look_around()
        h, f, lam, _ = window.mean(0).tolist()
        seen = {self.constraint.name: h, self.objective.name: f}
        f1, f2 = (seen[name] if name in self.losses[self._number] else None for name in ("forget", "retain"))
        for values, value in zip(vars(self.history).values(), (self.done, f1, f2, lam), strict=True):
            values.append(value)

    def check(self, whole: bool = False) -> Check:
        """Look at both losses and the stationarity residual on the training sets, or on the images of `training.look`.

        With `whole`, and where the problem would be at its end, f1 and f2 are those of the whole sets all the same.
        """
        h, constraint = self.constraint.look().gradient(self.flat, 1)
        f, objective = self.objective.look().gradient(self.flat, 0)
        least, lam = residual(dot(constraint, constraint), dot(objective, constraint), dot(objective, objective))
        f1, f2 = (float(f), float(h)) if self.problem.objective == "forget" else (float(h), float(f))
        within: list[float | None] = [None, None]
        if sampled := any(side.sampled for side in self.sides.values()):
            (f1, within[0]), (f2, within[1]) = (self.sides[name].seen() for name in ("forget", "retain"))
        self._checked(Check(self.done, f1, f2, self._gap(f1), float(least), float(lam), *within))
        if sampled and (whole or self.converged()):
            f1, f2 = (self.sides[name].exact() for name in ("forget", "retain"))
            self._checked(Check(self.done, f1, f2, self._gap(f1), *astuple(self.checks.pop())[4:6]))
        return self.checks[-1]

    def _gap(self, f1: float) -> float | None:
        return None if self.problem.epsilon is None else gap(f1, self.problem.epsilon)

    def _checked(self, check: Check) -> None:
        if not all(map(math.isfinite, filter(None, vars(check).values()))):
            raise DivergedError(self.problem.id, self.done)
        self.checks.append(check)

    def look(self, whole: bool = False) -> tuple[str, dict[str, Any]]:
        """Look at both sets as `check` does, and return an event's kind and facts that tell of it."""
        return "check", self.check(whole).facts()

    def checked(self, whole: bool = False) -> bool:
        """Tell whether the sets, or the `whole` of them, were looked at behind this very step."""
        return bool(self.checks) and self.checks[-1].step == self.done and not (whole and self.checks[-1].sampled)

    def land(self, highest: End, lowest: End) -> bool:
        """Move to where f1 on the whole forget set is ε, and tell whether it moved (`landing.land`)."""
        assert self.problem.epsilon is not None
        forget, retain = self.sides["forget"], self.sides["retain"]
        self.landing = land(self.flat, forget, retain, self.optimizer, self.problem.epsilon, highest, lowest)
        return bool(self.landing["moved"])

    def worse(self) -> bool:
        """Tell whether it was better where it began, by the first check and the last."""
        first, last = self.checks[0], self.checks[-1]
        return not last.satisfied or bool(first.satisfied and first.f2 <= last.f2)

    def back(self, theta: Tensor) -> None:
        """End at `theta`, where it began."""
        self.flat.set(theta)
        self.landing, self.returned = None, True
        self.check(whole=True)

    def due(self) -> bool:
        """Tell whether a check is due at this step: `training.checks` of them, the last at the end of the budget.

        What is trained from scratch is looked at there alone, as runs share what has never been held against f1.
        """
        return not self.problem.scratch and check_due(self.done, self.steps, self.training.checks)

    def converged(self) -> bool:
        """Tell whether a check at this very step satisfies ε while the residual has stopped falling."""
        rate = self.rate if self.budgets and self.training.decay else None
        return settled(self.checks, self.done, rate)

    @property
    def ended(self) -> str:
        """Why it is at its end: `satisfied`, `stopped` by a rule, the `budget`, or `found` without a step."""
        if self.converged() and not self.returned:
            return "satisfied"
        if self.returned or not self.budgets:
            return "found"
        return "stopped" if self.ends and self.ends[-1]["stopped"] else "budget"

    def warm(self) -> None:
        """Start a rule that asks for it at the λ of the whole training sets, which mini-batch noise does not bias."""
        if (rule := self.rule) is not None and rule.warms:
            lam = min((self.checks[-1] if self.checked() else self.check()).lam, LAM_MAX)
            rule.warm(torch.tensor(lam, dtype=torch.float64, device=self.flat.theta.device))

    def latest(self) -> dict[str, float | None] | None:
        """Return the newest window of the history if this step closed one."""
        if not self.history.step or self.history.step[-1] != self.done:
            return None
        return {name: values[-1] for name, values in vars(self.history).items()}

    @property
    def every(self) -> int:
        """Steps of one window of the history: a hundred windows a problem."""
        return max(1, self.steps // 100)

    @property
    def own_losses(self) -> bool:
        """Whether steps are taken on other losses than f1 and f2."""
        return any(side is not self.sides[name] for losses in self.losses for name, side in losses.items())

    def state(self) -> tuple[dict[str, Tensor], State]:
        """Return everything that continuing bit for bit needs: tensors and facts."""
        tensors = {"theta": self.trained.data}
        tensors |= {f"rule.{name}": value for name, value in (self.rule.state if self.rule else {}).items()}
        for name, value in self.optimizer.state[self.trained].items():
            tensors[f"optimizer.{name}"] = value
        if self._recent:
            tensors["recent"] = torch.stack(self._recent)
        if self.salient is not None:
            tensors["salient"] = self.salient
        return tensors, {
            "done": self.done,
            "stage": self.place,
            "since": self.since,
            "stages": self.ends,
            "near": self.near,
            "checks": [check.facts() for check in self.checks],
            "history": asdict(self.history),
        }

    def load(self, tensors: Mapping[str, Tensor], facts: State) -> None:
        """Continue from a saved state."""
        here = {name: value.to(self.flat.theta.device) for name, value in tensors.items()}
        self.done, self.place, self.since = facts["done"], facts["stage"], facts["since"]
        self.ends, self.near = facts["stages"], facts["near"]
        self.trained.data.copy_(here["theta"])
        if self.rule is not None:
            self.rule.load(_below("rule.", here))
        if state := _below("optimizer.", here):
            self.optimizer.state[self.trained] = state
        self._recent, self.salient = list(here.get("recent", ())), here.get("salient")
        self.checks = [Check(**check) for check in facts["checks"]]
        self.history = History(**facts["history"])


def _losses(stage: Stage, sides: Mapping[str, Side]) -> dict[str, Side]:
    given = {"forget": stage.forget, "retain": stage.retain}
    found = {name: sides[name].under(loss) for name, loss in given.items() if loss is not None}
    if stage.seed is None and not stage.settings:
        return found
    return {name: side.anew(stage.seed, stage.settings) for name, side in found.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
