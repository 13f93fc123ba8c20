"""Which tasks of several runs are alike, told from their recipes: they end in the same, and one of them is enough."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from unlearnkit.disk import cached
from unlearnkit.evaluation.models import ORIGINAL, stop_ids
from unlearnkit.fronts import CURVE, HIGHEST, LOWEST
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.training import Curve
from unlearnkit.run.tasks import SWEEP, Needs, Task, targeted, tasks
from unlearnkit.solver.workbench import swept

Key = Callable[[Task], str]
"""From a task to what it does and all of the recipe that what it ends in can depend on."""
UNFELT = {"data": {"memory_mib", "workers"}, "training": {"checkpoint_every", "cache"}}
"""Fields that change nothing that a task ends in."""
FROZEN = {"model", "data", "task", "forget", "retain", "seed"}
"""Parts of a recipe that what is frozen depends on."""


def keys(recipe: Recipe) -> Key:
    """Return what finds the key of each task of a recipe, as far as that alone tells it."""
    said = recipe.model_dump(mode="json", include={*FROZEN, "training"}, exclude=UNFELT)
    control, sweep, asked, evaluate = (
        recipe.model_dump(mode="json")[name] for name in ("control", "sweep", "epsilons", "evaluate")
    )
    wanted, audits, stops = asked.pop("targets"), evaluate.pop("audits"), evaluate.pop("stops")
    del evaluate["limits"], evaluate["maps"]
    methods = swept(recipe)
    beside = {name: one.model_dump(mode="json") for name, one in methods.items()}
    ends = {HIGHEST: control["boundary"], LOWEST: control["lowest"] or control["boundary"]}
    curve = [ends, {**sweep, "polish": None}] if isinstance(recipe.sweep, Curve) else None
    whole, names = [control, sweep, asked], dict(recipe.epsilons.asked)

    def solved(name: str) -> Any:
        if name in (ORIGINAL, HIGHEST, LOWEST):
            return ends.get(name)
        if name in beside:
            return [beside[name], control["epsilon"]]
        if name in names:
            return [control, sweep]
        if name in (CURVE, SWEEP):
            return curve or whole
        if name in stop_ids(stops):
            return [curve or whole, stops]
        return [whole, wanted, beside, evaluate]  # a target

    # What is retrained is found in the cache, whatever the losses and the control are (`Workbench.origin_of_scratch`).
    shared = {name for name, one in methods.items() if one.retrained and cached("scratch") is not None}
    drawn = recipe.seed if recipe.data.seed is None else recipe.data.seed

    def key(task: Task) -> str:
        if task.kind == "solve" and task.id in shared:
            own = beside[task.id].get("seed")
            seeds = [drawn, recipe.seed if own is None else own]
            apart = {name: said[name] for name in said if name not in ("forget", "retain", "seed")}
            return json.dumps([task.kind, task.id, apart, beside[task.id], seeds], sort_keys=True)
        by = {"solve": None, "evaluate": evaluate, "audit": audits, "shadow": audits}[task.kind]
        return json.dumps([task.kind, task.id, said, solved(task.model), by], sort_keys=True)

    return key


def linked(needs: Needs, key: Key) -> Needs:
    """Return tasks of several runs where each waits for the first that is alike, to take what that ended in."""
    first: dict[str, Task] = {}
    return {task: before | ({first.setdefault(key(task), task)} - {task}) for task, before in needs.items()}


class Work(NamedTuple):
    """What several runs have to solve together."""

    once: list[Task]
    """Each task, the first of those that are alike, in the run that its place numbers."""
    steps: int | None
    frozen: int
    """How often something is frozen that was not so in the run before."""
    shared: dict[str, int | None]
    """How many problems, and steps, of what is alike in several runs, but for the first time."""


def counted(runs: Sequence[tuple[Recipe, Mapping[str, int] | None]]) -> Work:
    """Return what runs have to solve, each given with `tasks.lengths` or, where these are not known, None."""
    every = list[tuple[str, Task]]()
    for number, (recipe, _) in enumerate(runs):
        key, beside = keys(recipe), dict.fromkeys(swept(recipe), False)
        needs = tasks(str(number), recipe, beside, targeted(recipe), {})
        every += ((key(task), task) for task in needs if task.kind == "solve")
    once = [*dict(reversed(every)).values()]

    def total(solving: Iterable[Task]) -> int | None:
        each = ((task, runs[int(task.place)][1]) for task in solving)
        found = [None if taken is None else taken[task.id] for task, taken in each]
        return None if None in found else sum(filter(None, found))

    steps, whole = total(once), total(task for _, task in every)
    less = None if steps is None or whole is None else whole - steps
    frozen = [key for key, _ in groupby(recipe.model_dump_json(include=FROZEN) for recipe, _ in runs)]
    return Work(once, steps, len(frozen), {"problems": len(every) - len(once), "steps": less})
