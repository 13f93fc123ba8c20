"""How long the parts of a run take here, measured on a few images of each set."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from unlearnkit.control import ClosedForm, Stage
from unlearnkit.recipe.training import Training
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.workbench import Workbench

SPENT, MOST = 2.0, 8
"""Seconds after which no further step is measured, and steps at most."""


@dataclass(frozen=True)
class Pace:
    """Seconds of what a run does over and over."""

    step: float
    """One step of phase 1, its images at hand."""
    look: float
    """A look at both losses and their gradients, an image."""
    seen: float
    """Both losses alone, an image."""
    frozen: float
    """What is computed once of what is frozen, an image."""


def pace(bench: Workbench) -> Pace:
    """Return the pace of a workbench, whose student is moved; its step is the median of a few."""
    images = sum(side.count for side in bench.sides.values())

    def kept() -> None:
        for side in bench.sides.values():
            _ = side.stages, side.targets

    frozen = seconds(kept, bench.device) / images
    part, losses = bench.recipe.model.part, bench.losses
    stage = Stage(losses.forget, losses.retain, ClosedForm())
    descent = bench.begun(Problem("pace", [stage], bench.recipe.control.boundary.build(), part=part))
    descent.begin(bench.original(part))
    descent.step()  # the first one allocates what the others use again
    steps: list[float] = []
    while len(steps) < MOST and sum(steps) < SPENT and descent.advance():
        steps.append(seconds(descent.step, bench.device))
    sums = [side.whole() for side in bench.sides.values()]
    look = seconds(lambda: [one.gradient(descent.flat, 0) for one in sums], bench.device) / images
    seen = seconds(lambda: [one.value() for one in sums], bench.device) / images
    return Pace(sorted(steps)[len(steps) // 2] if steps else look * images, look, seen, frozen)


def looks(pace: Pace, sizes: Sequence[int], training: Training) -> float:
    """Return the seconds of one problem's looks at sets of so many images; landing comes on top."""
    few = [min(size, training.look.images) if training.look else size for size in sizes]
    sampled = few != [*sizes]
    return training.checks * sum(few) * (pace.look + sampled * pace.seen) + sampled * sum(sizes) * pace.seen


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long some work takes."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
