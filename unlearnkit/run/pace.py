"""How long the parts of a run take here, measured on a few images of each set."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from unlearnkit.control import ClosedForm, Stage
from unlearnkit.recipe.training import Training
from unlearnkit.run import checkpoint
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.workbench import Workbench

SPENT, MOST = 2.0, 50
"""Seconds after which no further step is measured, and steps at most; the same of checkpoints."""
WRITTEN = 2**24
"""Entries of a checkpoint at most that are written to measure it."""
START, LAND = 3, (1, 2)
"""Passes over the forget set until an ε starts and its gap is known, and over both sets from there to where it lands;
how many a search on a line takes differs from one to the other."""


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
    saved: float
    """A checkpoint written, where temporary files are."""


def pace(bench: Workbench) -> Pace:
    """Return the pace of a workbench, whose student is moved; its step is the mean of some."""
    images = sum(side.count for side in bench.sides.values())

    def kept() -> None:
        for side in bench.sides.values():
            _ = side.stages, side.targets

    frozen = seconds(kept, bench.device) / images
    part, losses = bench.recipe.model.part, bench.losses
    stage = Stage(losses.forget, losses.retain, ClosedForm())
    descent, step, saved = paced(
        bench, Problem("pace", [stage], bench.recipe.control.boundary.build(), part=part), bench.original(part)
    )
    sums = [side.whole() for side in bench.sides.values()]
    look = seconds(lambda: [one.gradient(descent.flat, 0) for one in sums], bench.device) / images
    seen = seconds(lambda: [one.value() for one in sums], bench.device) / images
    return Pace(look * images if step is None else step, look, seen, frozen, saved)


def paced(
    bench: Workbench, problem: Problem, theta: Tensor, spent: float = SPENT
) -> tuple[Descent, float | None, float]:
    """Return a problem begun at `theta`, and mean seconds of its steps, None where it has one, and checkpoints.

    It is moved by the steps; behind `spent` seconds of them, and as many of checkpoints, no other one is measured.
    """
    descent = bench.begun(problem)
    descent.begin(theta)
    descent.warm()
    descent.step()  # the first one allocates what the others use again
    steps, saved = list[float](), list[float]()
    with TemporaryDirectory() as folder:
        while len(steps) < MOST and sum(steps) < spent and descent.advance():
            steps.append(seconds(descent.step, bench.device))
        while not saved or (len(saved) < MOST and sum(saved) < spent):
            saved.append(_saved(descent, Path(folder) / "checkpoint"))
    return descent, fmean(steps) if steps else None, fmean(saved)


def _saved(descent: Descent, path: Path) -> float:
    """Return how long a checkpoint takes to be written, of a large one by a part."""
    began = time.perf_counter()
    tensors, facts = descent.state()
    every = max(1, sum(map(Tensor.numel, tensors.values())) // WRITTEN)
    checkpoint.write(
        path, {name: value.flatten()[: -(-value.numel() // every)] for name, value in tensors.items()}, facts
    )
    return (time.perf_counter() - began) * every


def saves(steps: float, training: Training) -> float:
    """Return how often a problem of so many steps is written: on its way, before it lands, as a solution."""
    return steps // training.checkpoint_every + 2


def landing(pace: Pace, sizes: Sequence[int], training: Training, steps: bool = True) -> float:
    """Return the seconds of finding, about, where an ε starts and, behind its `steps`, where it lands."""
    forget, retain = _few(sizes, training)
    return (START * forget + (LAND[0] * forget + LAND[1] * retain) * steps) * pace.seen


def looks(pace: Pace, sizes: Sequence[int], training: Training) -> float:
    """Return the seconds of one problem's looks at sets of so many images; landing comes on top."""
    few = _few(sizes, training)
    sampled = few != [*sizes]
    return training.checks * sum(few) * (pace.look + sampled * pace.seen) + sampled * sum(sizes) * pace.seen


def _few(sizes: Sequence[int], training: Training) -> list[int]:
    return [min(size, training.look.images) if training.look else size for size in sizes]


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long some work takes."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
