"""How long the tasks of a run take by so many workers, from what was measured of a few steps, looks and images."""

from collections.abc import Mapping
from typing import Any

from unlearnkit.evaluation.instruments import Instruments, Unwatched
from unlearnkit.evaluation.measure import Gauge, halves
from unlearnkit.evaluation.models import stop_ids
from unlearnkit.evaluation.originals import Originals
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import ExecutorSection
from unlearnkit.run.pace import seconds
from unlearnkit.run.tasks import Needs, Schedule, Task, makespan, tasks, weigh
from unlearnkit.solver.workbench import SETS, Workbench


def forecast(
    recipe: Recipe, bench: Workbench, tools: Instruments, executor: ExecutorSection, problem: float, begin: float,
    counts: Mapping[str, Mapping[str, int | None]],
) -> dict[str, Any]:  # fmt: skip
    """Return seconds by an executor, one after the other, and of the longest chain; audits are left out of all three.

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
    weights, stops, needs = weigh(recipe, bench.steps, bench.multiples), {*stop_ids(recipe.evaluate.stops)}, Needs()
    methods, wanted = {one.id: one.retrained for one in bench.methods}, recipe.epsilons.targets
    for seed in recipe.seeds or [recipe.seed]:
        places = [f"epsilons.targets[{number}]" for number in range(len(wanted))]
        needs |= tasks(str(seed), recipe, methods, places, tools.waiting)

    def cost(task: Task) -> float:
        match task.kind:
            case "solve":
                return weights(task) * problem
            case "evaluate":
                return stop if task.id in stops else model
            case _:
                return 0.0

    again = begin if executor.whole else 0.0
    schedule = Schedule(needs, cost, whole=executor.whole, begin=again)
    return {
        "executor": executor.model_dump(mode="json"), "tasks": len(needs), "begin": begin,
        "critical": schedule.critical, "serial": begin + sum(map(cost, needs)),
        "makespan": 2 * begin - again + makespan(schedule, executor.workers),
    }  # fmt: skip
