"""How long the tasks of a run take by so many workers, from what was measured of a few steps, looks and images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

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
from unlearnkit.run.pace import SPENT, Pace, landing, looks, paced, saves, seconds
from unlearnkit.run.shadows import asked
from unlearnkit.run.tasks import SWEEP, Needs, Schedule, Task, makespan, targeted, tasks
from unlearnkit.solver.curve import PLACES, Along
from unlearnkit.solver.problem import DivergedError, Problem, Span
from unlearnkit.solver.workbench import SETS, Workbench, swept


def paces(recipe: Recipe, bench: Workbench, found: Pace, methods: Iterable[Problem], least: float) -> dict[str, Pace]:
    """Return the paces of the curve and of methods by id, of those of one id that of the last.

    `found` is the pace of phase 1, which one has that cannot be measured, and `least` the seconds of a step at least.
    """
    problems = {one.id: one for one in methods}
    if isinstance(sweep := recipe.sweep, Curve):
        stage = Stage(bench.losses.forget, bench.losses.retain, Along(), budget=sweep.budget)
        problems[CURVE] = Problem(CURVE, [stage], part=recipe.model.part, span=Span(sweep.degree, 1.0, 2.0))
    measured = dict.fromkeys(problems, found)
    for name, one in problems.items():
        with suppress(DivergedError):
            theta = bench.original(one.part).repeat(one.span.degree if one.span else 1)
            _, step, saved = paced(bench, one, theta, SPENT / len(problems))
            measured[name] = replace(found, step=max(least, step or found.step), saved=saved)
    return measured


def forecast(
    runs: Sequence[Recipe], bench: Workbench, tools: Instruments, executor: ExecutorSection, found: Pace,
    solved: Callable[[Task], float], methods: Iterable[Problem], shadowing: Mapping[str, int], begin: float,
    counts: Mapping[str, Mapping[str, int | None]],
) -> dict[str, Any]:  # fmt: skip
    """Return seconds by an executor, one after the other, and of the longest chain; audits are left out of all three.

    What is alike in several runs is done in one of them, and each takes as long as it does in the first.
    `found` is the pace of phase 1, `solved` returns the seconds that a problem takes, `methods` are those of all runs,
    `shadowing` the steps of each shadow model and `begin` the seconds until a process is at work; `bench` has a few of
    the images that there are by `counts`.
    """
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
    apart = [(name, number) for name, number, _ in asked(tools)]
    needs, key, retrained = Needs(), [keys(its) for its in runs], {one.id: one.retrained for one in methods}
    for number, its in enumerate(runs):
        beside = {name: retrained.get(name, False) for name in swept(its)}
        other: Mapping[str, list[str]] = {str(place): [] for place in range(len(its.evaluate.audits))}
        waiting = tools.waiting([name for name, gold in beside.items() if gold])
        audits = waiting if its.evaluate.audits == runs[0].evaluate.audits else other
        needs |= tasks(str(number), its, beside, targeted(its), audits, apart)
    needs = linked(needs, lambda task: key[int(task.place)](task))
    first = {key[int(task.place)](task): task for task in reversed(needs)}

    def cost(task: Task) -> float:
        if task.kind == "shadow":
            return shadowing.get(task.id, 0) * found.step
        if task.kind == "audit" or first[key[int(task.place)](task)] != task:
            return 0.0
        if task.kind == "evaluate":
            return stop if task.id in stop_ids(runs[int(task.place)].evaluate.stops) else model
        return solved(task)

    again = begin if executor.whole else 0.0
    schedule = Schedule(needs, cost, whole=executor.whole, begin=again)
    return {
        "executor": executor.model_dump(mode="json"), "tasks": len(needs), "begin": begin,
        "critical": schedule.critical, "serial": begin + sum(map(cost, needs)),
        "makespan": 2 * begin - again + makespan(schedule, executor.workers),
    }  # fmt: skip


class Spent(NamedTuple):
    """Seconds of what is solved."""

    steps: float
    looks: float
    checkpoints: float


def solving(pace: Pace, recipe: Recipe, name: str, steps: float, sizes: Sequence[int], scratch: bool = False) -> Spent:
    """Return the seconds of so many steps of a problem, or of a chain, and of the looks and files that come with them.

    `sizes` are those of the training sets; a problem that ends before its budget takes less. One that starts from
    `scratch` is looked at at its end alone, and kept for other runs. What a target is looked for by is left out.
    """
    training, asked, aimed = recipe.training, dict(recipe.epsilons.asked), name in targeted(recipe)
    if name == SWEEP:
        one = solving(pace, recipe, next(iter(asked)), steps / len(asked), sizes)
        return Spent(*(len(asked) * part for part in one))
    files = (saves(steps, training) + scratch) * pace.saved
    if name == CURVE:
        return Spent(steps * pace.step, PLACES * sizes[0] * pace.seen, files)
    once = looks(pace, sizes, training.model_copy(update={"checks": 1}))
    looking = looks(pace, sizes, training) if steps and not scratch else once
    if aimed or name in asked:
        looking += landing(pace, sizes, training, bool(steps))
        served = aimed or isinstance(recipe.sweep, Curve)
        looking += once * bool(steps and served)  # it is held against where it began
    return Spent(steps * pace.step, looking, files)
