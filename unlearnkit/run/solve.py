"""One problem of a run, from its checkpoints to its solution."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from torch import Tensor

from unlearnkit.disk import remove_folder
from unlearnkit.errors import Exit, Stopped, UserError
from unlearnkit.evaluation import kept
from unlearnkit.run import checkpoint, memory, scratch
from unlearnkit.run.events import Run
from unlearnkit.seal import MANIFEST, read_formatted
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.dial import NOTICE
from unlearnkit.solver.origin import Origin, differences, digest, told
from unlearnkit.solver.problem import End, Outcome, Problem, Solution
from unlearnkit.solver.workbench import Workbench


def solve(
    run: Run, bench: Workbench, problem: Problem, begin: Callable[[], Tensor], ends: tuple[End, End] | None
) -> Solution:
    """Return the solution of a problem: from its folder, or by descending from `begin()` or the last checkpoint.

    What was stored is used where it was computed from the same, or else solved again. With the `ends` of the highest
    and the lowest completeness the solution lands on its ε (`Descent.land`).
    """
    folder, origin = run.folder / "solutions" / problem.id, bench.origin_of(problem)
    if (found := _kept(run, folder, problem, origin) or _beside(run, folder, problem, origin)) is not None:
        return Solution(problem, found.theta.to(bench.device), found.facts)
    began, before = time.monotonic(), 0.0
    memory.reset_peak(bench.device)
    descent = bench.begun(problem)
    if problem.keeps:
        begin = cache(begin)
        begin()  # now, as its search moves the weights
    checkpoints = run.folder / "checkpoints" / problem.id
    saved, hashed = checkpoint.newest(checkpoints, run.warn), digest(origin)
    shared, end = bench.origin_of_scratch(problem) if problem.scratch else None, None
    if saved is not None and saved[1].pop("origin") == hashed:
        before = saved[1].pop("seconds")
        descent.load(*saved)
    elif shared is not None and (end := scratch.known(run, problem.id, shared)) is not None:
        descent.load(*end)
    else:
        remove_folder(checkpoints)
        descent.begin(begin())
        if problem.keeps:
            descent.check(whole=True)
        descent.warm()
    named = {name: getattr(problem, name) for name in ("id", "label", "epsilon")}
    run.event("problem", **named, step=descent.done, steps=descent.steps)

    def save() -> None:
        tensors, facts = descent.state()
        apart = {"origin": hashed, "seconds": before + time.monotonic() - began}
        checkpoint.write(checkpoints / f"step-{descent.done:09d}", tensors, {**facts, **apart})
        checkpoint.rotate(checkpoints)

    if problem.keeps and ends and descent.checks[0].satisfied:
        ends = (begin(), descent.checks[0].f1), ends[1]
    _descend(run, bench.recipe.training.checkpoint_every, descent, save, ends)
    if problem.keeps and descent.worse():
        descent.back(begin())
    if shared is not None and end is None:
        scratch.keep(run, shared, descent)
    facts: Outcome = {
        "steps": descent.done,
        "ended": descent.ended,
        "landing": descent.landing,
        "table": descent.table,
        "notice": NOTICE if problem.span else None,
        "own_losses": descent.own_losses,
        "frozen_unchanged": bench.unchanged(problem.part),
        "origin": origin,
        **descent.state()[1],
    }
    theta = descent.trained.detach().clone()
    checkpoint.write(folder, {"theta": theta}, facts)
    run.manifest["times"][problem.id] = round(before + time.monotonic() - began, 2)
    run.manifest["costs"][problem.id] = {"images": descent.images_read(), "peak_mib": memory.peak(bench.device)}
    run.save_manifest()
    remove_folder(checkpoints)
    solution = Solution(problem, theta, facts)
    if problem.span is None:
        run.event("solution", id=problem.id, ended=facts["ended"], **facts["checks"][-1])
    if (shortfall := solution.shortfall()) is not None:
        run.event("warning", message=shortfall)
    return solution


def _kept(run: Run, folder: Path, problem: Problem, origin: Origin) -> Solution | None:
    """Return what was solved before where it was computed from the same; else say what differs."""
    if not folder.exists():
        return None
    try:
        tensors, facts = checkpoint.read(folder)
    except UserError as error:
        raise UserError(f"{error}. Remove the folder {folder} to have it solved again", Exit.FOLDER) from None
    if found := differences(facts["origin"], origin):
        run.event("again", id=problem.id, why=told(found))
        run.manifest["times"].pop(problem.id, None)
        return None
    run.event("kept", id=problem.id)
    return Solution(problem, tensors["theta"], facts)


def _beside(run: Run, folder: Path, problem: Problem, origin: Origin) -> Solution | None:
    """Return what a run beside this one solved from the same, and keep it here with what it took there."""
    for place in kept.beside(run.folder):
        there = place / "solutions" / problem.id
        try:
            if not there.exists() or differences(checkpoint.facts(there)["origin"], origin):
                continue
            (tensors, facts), spent = checkpoint.read(there), read_formatted(place / MANIFEST)
        except UserError:  # of one that is damaged or has gone, which its own run tells of
            continue
        checkpoint.write(folder, tensors, facts)
        for kind in ("times", "costs"):
            run.manifest[kind] |= {problem.id: spent[kind][problem.id]} if problem.id in spent[kind] else {}
        run.save_manifest()
        run.event("taken", name=f"solutions/{problem.id}", of=place.name)
        return Solution(problem, tensors["theta"], facts)
    return None


def _descend(run: Run, every: int, descent: Descent, save: Callable[[], None], ends: tuple[End, End] | None) -> None:
    """Step until the problem is done, checking, telling and saving on the way, and land on ε.

    A signal waits for the end of a step. Looks at whole sets are left at once, and made again from what was saved.
    """

    def check(whole: bool = False) -> None:
        kind, facts = descent.look(whole)
        run.event(kind, id=descent.problem.id, **facts)

    def look() -> None:
        # The check at the end comes after landing.
        if 0 < descent.done < descent.steps and descent.due() and not descent.checked():
            try:
                check()
            except Stopped:
                save()
                raise

    look()  # one that a signal left
    while not descent.converged() and descent.advance():
        with descent.decoding():
            place = descent.place
            while not descent.converged() and descent.advance() and descent.place == place:
                with run.stop.later():
                    descent.step()
                    if (point := descent.latest()) is not None:
                        run.event("step", id=descent.problem.id, **point)
                    if run.stop.signal is not None:
                        save()
                run.check_signal()
                look()
                if descent.done % every == 0:
                    save()
    if ends is not None or not descent.checked(whole=True):
        save()  # landing and the look at the end are left at once
    moved = ends is not None and descent.land(*ends)
    if moved or not descent.checked(whole=True):
        check(whole=True)
