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
from unlearnkit.run.tasks import SWEEP, Needs, Task, tasks
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

    problems: int
    steps: int | None
    frozen: int
    """How often something is frozen that was not so in the run before."""
    shared: dict[str, int | None]
    """`problems` and `steps` of what is alike in several runs, but for the first time."""


def counted(runs: Sequence[tuple[Recipe, int | None]], multiples: Mapping[str, float]) -> Work:
    """Return what runs have to solve, each given with the steps of one of its problems.

    `multiples` are those of one problem's steps that methods take, by id.
    """
    every: list[tuple[str, int | None]] = []
    for recipe, steps in runs:
        key, beside = keys(recipe), dict.fromkeys(swept(recipe), False)
        solving = (task for task in tasks("", recipe, beside, (), {}) if task.kind == "solve")
        every += ((key(task), _steps(recipe, task.id, steps, multiples)) for task in solving)
    taken, whole = _sum(dict(every).values()), _sum(steps for _, steps in every)
    less = None if taken is None or whole is None else whole - taken
    frozen = [key for key, _ in groupby(recipe.model_dump_json(include=FROZEN) for recipe, _ in runs)]
    return Work(len(dict(every)), taken, len(frozen), {"problems": len(every) - len(dict(every)), "steps": less})


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = list(numbers)
    return None if None in known else sum(filter(None, known))


def _steps(recipe: Recipe, name: str, each: int | None, multiples: Mapping[str, float]) -> int | None:
    """Return the steps of what is to be solved, where a problem has `each` of them."""
    if each is None:
        return None
    if name in (CURVE, SWEEP):
        return recipe.sweep.steps(recipe.epsilons.count * (name == SWEEP), each)
    if isinstance(recipe.sweep, Curve) and name in dict(recipe.epsilons.asked):
        return recipe.sweep.polish
    return round(each * multiples.get(name, 1.0))
