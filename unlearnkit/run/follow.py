"""The processes of a run beside the first: each builds the same workbench, and does what it is asked for."""

import json
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unlearnkit.disk import disk_errors, write_text
from unlearnkit.errors import Exit, UserError
from unlearnkit.evaluation.audits import Find, cell
from unlearnkit.evaluation.instruments import Instruments
from unlearnkit.evaluation.measure import Gauge
from unlearnkit.evaluation.models import original, solved, stops
from unlearnkit.evaluation.results import evaluated
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import placed
from unlearnkit.recipe.validate import recipe_class
from unlearnkit.run.events import Run
from unlearnkit.run.folder import TASKS, TOKEN
from unlearnkit.run.tasks import Task, failure
from unlearnkit.solver import ranks
from unlearnkit.solver.dial import Dial
from unlearnkit.solver.origin import processor
from unlearnkit.solver.problem import Solution
from unlearnkit.solver.shares import serve, unshared
from unlearnkit.solver.workbench import Workbench, build


@dataclass(frozen=True)
class Building:
    """What the first process builds a workbench from, and with how many threads it computes."""

    resolved: Mapping[str, Any]
    base: Path
    folder: Path
    threads: int


def built(recipe: Recipe, resolved: Mapping[str, Any], base: Path, folder: Path) -> Workbench:
    """Return the workbench of a run in `folder`, when all processes have built it.

    Raise `UserError` where that failed in one of them, or where they cannot share the recipe's work.
    """
    shards, count = recipe.training.shards, ranks.count()
    if count > shards:
        advice = f"give {count} or more (the numbers change with it), or start {shards}"
        raise UserError(f"training.shards: {shards} for {count} processes, of which each needs one; {advice}")
    if count > 1:
        ranks.join()
        ranks.say(Building(resolved, base.absolute(), folder.absolute(), torch.get_num_threads()))
    bench = build(recipe, base, folder / "cache")
    if count > 1:
        mine, *others = ranks.gathered(processor(bench.device))
        for number, found in enumerate(others, 1):
            if isinstance(found, str):
                raise UserError(f"process {number}: {found}", Exit.DEVICE)
            if found != mine:
                raise UserError(f"process {number} computes on {found}, the first on {mine}", Exit.DEVICE)
    return bench


@dataclass(frozen=True)
class Share:
    """Tasks of a run folder of which each process does its share, while the folder has the token."""

    tasks: Sequence[Task]
    token: str

    @property
    def mine(self) -> Sequence[Task]:
        """The share of this process."""
        return self.tasks[ranks.rank() :: ranks.count()]


def judge(run: Run, gauge: Gauge, tools: Instruments, task: Task, find: Find) -> None:
    """Evaluate or audit, as a task says, the model that `find` returns by its id, if there is one."""
    run.event("task", name=task.name, host=socket.gethostname(), pid=os.getpid())
    if (model := find(task.model)) is not None and task.kind == "evaluate":
        evaluated(run.folder, gauge, model)
    elif model is not None:
        cell(run.folder, gauge.bench, tools, task.id.partition("/")[0], model, find, run)


def spread(run: Run, gauge: Gauge, tools: Instruments, solutions: Sequence[Solution], dial: Dial) -> None:
    """Have all processes of a run evaluate and audit models into its folder, where the serial path then finds it.

    What one of them left is left to that path; raise what failed in one.
    """
    bench, place, told = gauge.bench, str(run.folder.absolute()), Counter[Path]()
    whole = [original(bench), *map(solved, solutions)]
    places = stops(dial, bench.recipe.evaluate.stops, bench.recipe.model.part)
    known = {one.id: one for one in (*whole, *places)}
    tasks = [Task(place, "evaluate", name) for name in known]
    tasks += [Task(place, "audit", f"{audit}/{model.id}") for audit in tools.audits for model in whole]
    word = Share(tasks, secrets.token_hex(16))

    def hear() -> None:
        run.retell([task.name for task in tasks], told)
        run.check_signal()

    with disk_errors(run.folder):
        (run.folder / TASKS).mkdir(exist_ok=True)
    write_text(run.folder / TOKEN, word.token)
    try:
        ranks.say(word)
        with unshared(bench.sides):
            for task in word.mine:
                judge(run, gauge, tools, task, known.get)
                hear()
        ranks.awaited(hear)
        outcomes: list[dict[str, Any]] = ranks.gathered({})
        hear()
    finally:
        (run.folder / TOKEN).unlink(missing_ok=True)
    for number, outcome in enumerate(outcomes):
        if (failed := failure(outcome, f"process {number}")) is not None:
            raise failed
        if "apart" in outcome:
            found = f"process {number} on {outcome['apart']} does not see {place}: its share is left to the first one"
            run.event("warning", message=f"{found}; put the run on a disk that all see")


def follow(plugins: Plugins, share: Callable[[Share, Workbench, Plugins], dict[str, Any]]) -> None:
    """Build what the first process builds and do what it asks for, with `share` its own, until it is done or gone."""
    with ranks.following():
        word: object = ranks.hear()
        while isinstance(word, Building):
            torch.set_num_threads(word.threads)
            recipe = recipe_class(Recipe, plugins).model_validate_json(json.dumps(word.resolved))
            try:
                bench = build(placed(recipe, word.base), word.base, word.folder / "cache")
            except UserError as error:
                ranks.gathered(str(error))
                return
            ranks.gathered(processor(bench.device))
            while isinstance(word := serve(bench.sides), Share):
                outcome = share(word, bench, plugins)
                ranks.awaited(lambda: None)
                ranks.gathered(outcome)
