"""One problem of a run, from its checkpoints to its solution."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from unlearnkit.run import checkpoint, memory
from unlearnkit.run.events import Run
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.problem import End, Outcome, Problem, Solution
from unlearnkit.solver.workbench import Workbench


def solve(
    run: Run, bench: Workbench, problem: Problem, begin: Callable[[], Tensor], ends: tuple[End, End] | None
) -> Solution:
    """Return the solution of a problem: from its folder, or by descending from `begin()` or the last checkpoint.

    With the `ends` of the highest and the lowest completeness it lands on its ε (`Descent.land`).
    """
    folder = run.folder / "solutions" / problem.id
    if folder.exists():
        tensors, known = checkpoint.read(folder)
        run.event("kept", id=problem.id)
        return Solution(problem, tensors["theta"].to(bench.device), known)
    began = time.monotonic()
    memory.reset_peak(bench.device)
    descent = bench.begun(problem)
    checkpoints = run.folder / "checkpoints" / problem.id
    if (kept := checkpoint.newest(checkpoints, run.warn)) is not None:
        descent.load(*kept)
    else:
        descent.begin(begin())
        descent.warm()
    named = {name: getattr(problem, name) for name in ("id", "label", "epsilon")}
    run.event("problem", **named, step=descent.done, steps=descent.steps)
    _descend(run, bench.recipe.training.checkpoint_every, descent, checkpoints, ends)
    facts: Outcome = {
        "steps": descent.done,
        "ended": descent.ended,
        "landing": descent.landing,
        "own_losses": descent.own_losses,
        "frozen_unchanged": bench.unchanged(problem.part),
        **descent.state()[1],
    }
    theta = descent.flat.theta.detach().clone()
    checkpoint.write(folder, {"theta": theta}, facts)
    spent = run.manifest["times"].get(problem.id, 0.0) + time.monotonic() - began
    run.manifest["times"][problem.id] = round(spent, 2)
    run.manifest["costs"][problem.id] = {"images": descent.images_read(), "peak_mib": memory.peak(bench.device)}
    run.save_manifest()
    shutil.rmtree(checkpoints, ignore_errors=True)
    solution = Solution(problem, theta, facts)
    run.event("solution", id=problem.id, ended=facts["ended"], **facts["checks"][-1])
    if (shortfall := solution.shortfall()) is not None:
        run.event("warning", message=shortfall)
    run.check_signal()
    return solution


def _descend(run: Run, every: int, descent: Descent, checkpoints: Path, ends: tuple[End, End] | None) -> None:
    """Step until the problem is done, checking, telling and saving on the way, and land on ε."""

    def check() -> None:
        run.event("check", id=descent.problem.id, **vars(descent.check()))

    while not descent.converged() and descent.advance():
        with descent.decoding():
            place = descent.place
            while not descent.converged() and descent.advance() and descent.place == place:
                descent.step()
                # The check at the end comes after landing.
                if descent.due() and descent.done < descent.steps:
                    check()
                if (point := descent.latest()) is not None:
                    run.event("step", id=descent.problem.id, **point)
                if run.stop_signal is not None or descent.done % every == 0:
                    checkpoint.write(checkpoints / f"step-{descent.done:09d}", *descent.state())
                    checkpoint.rotate(checkpoints)
                run.check_signal()
    moved = ends is not None and descent.land(*ends)
    if moved or not descent.checks or descent.checks[-1].step != descent.done:
        check()
