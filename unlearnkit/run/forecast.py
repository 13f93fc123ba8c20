"""How long the tasks of a run take by so many workers, from what was measured of a few steps, looks and images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from unlearnkit.control import Stage
from unlearnkit.evaluation.instruments import Instruments, Unwatched
from unlearnkit.evaluation.measure import Gauge, halves
from unlearnkit.evaluation.models import Model, stop_ids
from unlearnkit.evaluation.originals import Originals
from unlearnkit.evaluation.results import evaluated
from unlearnkit.fronts import CURVE
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import ExecutorSection
from unlearnkit.recipe.training import Curve
from unlearnkit.run.alike import keys, linked
from unlearnkit.run.pace import Pace, landing, looks, paced, saves, seconds
from unlearnkit.run.shadows import asked, planned
from unlearnkit.run.tasks import SWEEP, Needs, Schedule, Task, makespan, tasks, weigh
from unlearnkit.solver.curve import PLACES, Along
from unlearnkit.solver.problem import Problem, Span
from unlearnkit.solver.workbench import SETS, Workbench, swept


def forecast(
    runs: Sequence[Recipe], bench: Workbench, tools: Instruments, executor: ExecutorSection, found: Pace,
    steps: int, begin: float, counts: Mapping[str, Mapping[str, int | None]],
) -> dict[str, Any]:  # fmt: skip
    """Return seconds by an executor, one after the other, and of the longest chain; audits are left out of all three.

    What is alike in several runs is done in one of them, and each takes as long as it does in the first.
    `found` is the pace of phase 1, `steps` are those of one problem and `begin` the seconds until a process is at
    work; `bench` has a few of the images that there are by `counts`.
    """
    paces = {one.id: _paced(bench, found, one, bench.original(one.part)) for one in bench.methods}
    if isinstance(sweep := runs[0].sweep, Curve):
        stage = Stage(bench.losses.forget, bench.losses.retain, Along(), budget=sweep.budget)
        curve = Problem(CURVE, [stage], part=runs[0].model.part, span=Span(sweep.degree, 1.0, 2.0))
        paces[CURVE] = _paced(bench, found, curve, bench.origin.repeat(sweep.degree))
    gauge, sides = Gauge(Originals(bench), tools, Unwatched()), bench.sides.values()
    gauge.measure(bench.student.output)  # which keeps what the original model makes of the images
    measured = [(of, half) for of in SETS for half in halves(bench, of)]
    few = sum(len(bench.images[of][half]) for of, half in measured)
    all_of_them = sum(counts[of][half] or 0 for of, half in measured)
    sizes = [counts[of]["train"] or 0 for of in SETS]
    more, rest = all_of_them / max(1, few) - 1, sum(sizes) - sum(side.count for side in sides)
    with TemporaryDirectory() as folder:
        for name in ("images", "evaluations"):
            (Path(folder) / name).mkdir()

        def taken(stop: bool) -> float:
            one = Model(f"planned-{stop}", runs[0].model.part, lambda: bench.origin, "planned", stop)
            return seconds(lambda: evaluated(Path(folder), gauge, one), bench.device)

        model = taken(False) + seconds(lambda: gauge.measure(bench.student.output), bench.device) * more
        stop = taken(True) + found.seen * rest
    apart = [*asked(tools)]
    shadowing = {
        name: planned(runs[0], bench.base, bench.reference, [audit], steps, bench.methods)
        for name, number, audit in apart
        if number == 0
    }
    needs, key, retrained = Needs(), [keys(its) for its in runs], {one.id: one.retrained for one in bench.methods}
    for number, its in enumerate(runs):
        beside = {name: retrained.get(name, False) for name in swept(its)}
        wanted = [f"epsilons.targets[{place}]" for place in range(len(its.epsilons.targets))]
        other: Mapping[str, list[str]] = {str(place): [] for place in range(len(its.evaluate.audits))}
        waiting = tools.waiting([name for name, gold in beside.items() if gold])
        audits = waiting if its.evaluate.audits == runs[0].evaluate.audits else other
        needs |= tasks(str(number), its, beside, wanted, audits, [(name, number) for name, number, _ in apart])
    needs = linked(needs, lambda task: key[int(task.place)](task))
    first = {key[int(task.place)](task): task for task in reversed(needs)}
    weights = [weigh(its, steps, bench.multiples) for its in runs]

    def cost(task: Task) -> float:
        its = runs[int(task.place)]
        if task.kind == "shadow":
            of_all = shadowing.get(task.id.partition(":")[0], {"models": 1, "steps": 0})
            return of_all["steps"] / of_all["models"] * found.step
        if task.kind == "audit" or first[key[int(task.place)](task)] != task:
            return 0.0
        if task.kind == "evaluate":
            return stop if task.id in stop_ids(its.evaluate.stops) else model
        return solving(paces.get(task.id, found), its, task.id, weights[int(task.place)](task) * steps, sizes)

    again = begin if executor.whole else 0.0
    schedule = Schedule(needs, cost, whole=executor.whole, begin=again)
    return {
        "executor": executor.model_dump(mode="json"), "tasks": len(needs), "begin": begin,
        "critical": schedule.critical, "serial": begin + sum(map(cost, needs)),
        "makespan": 2 * begin - again + makespan(schedule, executor.workers),
    }  # fmt: skip


def solving(pace: Pace, recipe: Recipe, name: str, steps: float, sizes: Sequence[int]) -> float:
    """Return the seconds of so many steps of a problem, or of a chain, and of the looks and files that come with them.

    `sizes` are those of the training sets; a problem that ends before its budget takes less.
    """
    training, asked = recipe.training, dict(recipe.epsilons.asked)
    if name == SWEEP:
        return len(asked) * solving(pace, recipe, next(iter(asked)), steps / len(asked), sizes)
    files = saves(steps, training) * pace.saved
    if name == CURVE:
        return steps * pace.step + files + PLACES * sizes[0] * pace.seen
    once = looks(pace, sizes, training.model_copy(update={"checks": 1}))
    looking = looks(pace, sizes, training) if steps else once
    if name in asked:
        looking += landing(pace, sizes, training, bool(steps))
        looking += once * bool(steps and isinstance(recipe.sweep, Curve))  # it is held against where it began
    return steps * pace.step + files + looking


def _paced(bench: Workbench, found: Pace, problem: Problem, theta: Tensor) -> Pace:
    """Return a pace with the step and the checkpoint of a problem that begins at `theta`."""
    _, step, saved = paced(bench, problem, theta)
    return replace(found, step=step or found.step, saved=saved)
