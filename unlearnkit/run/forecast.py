"""How long the tasks of a run take by so many workers, from what was measured of a few steps, looks and images."""

from collections.abc import Mapping, Sequence
from typing import Any

from unlearnkit.evaluation.instruments import Instruments, Unwatched
from unlearnkit.evaluation.measure import Gauge, halves
from unlearnkit.evaluation.models import stop_ids
from unlearnkit.evaluation.originals import Originals
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import ExecutorSection
from unlearnkit.run.alike import keys, linked
from unlearnkit.run.pace import seconds
from unlearnkit.run.tasks import Needs, Schedule, Task, makespan, tasks, weigh
from unlearnkit.solver.workbench import SETS, Workbench, swept


def forecast(
    runs: Sequence[Recipe], bench: Workbench, tools: Instruments, executor: ExecutorSection, problem: float,
    begin: float, counts: Mapping[str, Mapping[str, int | None]],
) -> dict[str, Any]:  # fmt: skip
    """Return seconds by an executor, one after the other, and of the longest chain; audits are left out of all three.

    What is alike in several runs is done in one of them, and each takes as long as it does in the first.
    `problem` are those of one problem and `begin` those until a process is at work; `bench` has a few of the images
    that there are by `counts`.
    """
    gauge, sides = Gauge(Originals(bench), tools, Unwatched()), bench.sides.values()
    gauge.measure(bench.student.output)  # which keeps what the original model makes of the images
    measured = [(of, half) for of in SETS for half in halves(bench, of)]
    few = sum(len(bench.images[of][half]) for of, half in measured)
    all_of_them = sum(counts[of][half] or 0 for of, half in measured)
    model = seconds(lambda: gauge.measure(bench.student.output), bench.device) * all_of_them / max(1, few)
    rows = sum(counts[of]["train"] or 0 for of in SETS) / sum(side.count for side in sides)
    stop = seconds(lambda: [side.exact() for side in sides], bench.device) * rows
    needs, key, retrained = Needs(), [keys(its) for its in runs], {one.id: one.retrained for one in bench.methods}
    for number, its in enumerate(runs):
        beside = {name: retrained.get(name, False) for name in swept(its)}
        wanted = [f"epsilons.targets[{place}]" for place in range(len(its.epsilons.targets))]
        other: Mapping[str, list[str]] = {str(place): [] for place in range(len(its.evaluate.audits))}
        waiting = tools.waiting([name for name, gold in beside.items() if gold])
        audits = waiting if its.evaluate.audits == runs[0].evaluate.audits else other
        needs |= tasks(str(number), its, beside, wanted, audits)
    needs = linked(needs, lambda task: key[int(task.place)](task))
    first = {key[int(task.place)](task): task for task in reversed(needs)}
    weights = [(weigh(its, bench.steps, bench.multiples), {*stop_ids(its.evaluate.stops)}) for its in runs]

    def cost(task: Task) -> float:
        weight, stops = weights[int(task.place)]
        if task.kind == "audit" or first[key[int(task.place)](task)] != task:
            return 0.0
        return weight(task) * problem if task.kind == "solve" else stop if task.id in stops else model

    again = begin if executor.whole else 0.0
    schedule = Schedule(needs, cost, whole=executor.whole, begin=again)
    return {
        "executor": executor.model_dump(mode="json"), "tasks": len(needs), "begin": begin,
        "critical": schedule.critical, "serial": begin + sum(map(cost, needs)),
        "makespan": 2 * begin - again + makespan(schedule, executor.workers),
    }  # fmt: skip
