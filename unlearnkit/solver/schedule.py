"""When: budgets, the learning rate's fall, checks, and the end."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from unlearnkit.data import Chosen
from unlearnkit.recipe.training import SGD, AdamW, Training
from unlearnkit.solver.problem import TOLERANCE, Check

FALLING = 0.95
"""A stationarity residual has stopped falling when a check finds more than this part of the one before."""

ANNEALED = 0.1
"""Part of the learning rate from which on a decaying problem may end before its budget."""


def optimizer(section: AdamW | SGD, parameters: Iterable[Tensor]) -> Optimizer:
    """Return the optimiser of a section, as one fused kernel."""
    kind: type[Optimizer] = getattr(torch.optim, section.algorithm)
    return kind(parameters, fused=True, **section.model_dump(exclude={"kind"}))  # type: ignore[call-arg]


def whole_sets(training: Training, sets: Iterable[Chosen]) -> list[str]:
    """Return a note for each set that has fewer training images than a batch."""
    said = f"training.batch_size: {training.batch_size} is more than the"
    few = [(len(part.train), part.name) for part in sets if len(part.train) < training.batch_size]
    return [f"{said} {count} training images of the {name} set; each step takes all of them" for count, name in few]


def budget(training: Training, forget: int, retain: int) -> int:
    """Return the steps of one problem on sets of so many training images."""
    if training.steps is not None:
        return training.steps
    return max(1, math.ceil((training.epochs or 8) * max(forget, retain) / training.batch_size))


def decayed(step: int, steps: int, decay: float) -> float:
    """Return the learning rate's factor: 1, then a half cosine to 0 over the last part `decay` of the steps."""
    start = (1 - decay) * steps
    return 1.0 if step < start else 0.5 * (1 + math.cos(math.pi * (step - start) / max(steps - start, 1)))


def check_due(done: int, steps: int, checks: int) -> bool:
    """Tell whether one of so many checks is due after a step, the last one at the end of the budget."""
    return done == 0 or done * checks // steps > (done - 1) * checks // steps


def settled(checks: Sequence[Check], done: int, rate: float | None) -> bool:
    """Tell whether a check at this very step satisfies ε while the residual has stopped falling.

    `rate` is the learning rate's factor, None without a decay: before it is nearly down, a residual that stands still
    is mini-batch noise.
    """
    if len(checks) < 2 or checks[-1].step != done or not (rate is None or rate < ANNEALED):
        return False
    before, last = checks[-2:]
    # Well below an active bound there is still retain loss to win back.
    tight = last.gap is not None and (last.gap >= -TOLERANCE or last.lam == 0)
    return bool(last.satisfied) and tight and last.residual >= FALLING * before.residual
