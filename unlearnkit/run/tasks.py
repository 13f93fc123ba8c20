"""What there is to do in a run, what has to be there before it, and in which order: no task is done here."""

import heapq
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from unlearnkit.contracts import Part
from unlearnkit.errors import Exit, UserError
from unlearnkit.evaluation.models import ORIGINAL, stop_ids
from unlearnkit.fronts import CURVE, HIGHEST, LOWEST
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import TargetSection
from unlearnkit.recipe.training import Continuation, Curve
from unlearnkit.solver.phases import named
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.workbench import swept

SWEEP = "sweep"
"""A chain of ε as one problem, each of which begins at the one before."""
EXITS = {int(code): code for code in Exit}


class Task(NamedTuple):
    """One thing to do in the run folder `place`: its output are files there, and to do it twice is to do it once."""

    place: str
    kind: Literal["solve", "evaluate", "audit", "shadow"]
    id: str
    """Of the problem or model; of an audit, that of the audit and the model's, with a slash between them; of a shadow
    model, that of its audit and its number, with a colon between them."""

    @property
    def model(self) -> str:
        """The model that it is about."""
        return self.id.rpartition("/")[2]

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.kind}-{self.id.translate({ord(mark): '-' for mark in '/:'})}"


def failure(outcome: Mapping[str, Any], name: str) -> Exception | None:
    """Return what to raise where a task, or what else is called so, failed in its worker, by what came of it."""
    match outcome:
        case {"error": said, "code": code}:
            return UserError(said, EXITS[code])
        case {"traceback": said}:
            return RuntimeError(f"{name} failed in its worker:\n{said}")
    return None


Order = tuple[Task, ...]
"""Tasks that one worker does, one after the other."""
Needs = dict[Task, frozenset[Task]]
"""By task, those that have to be done before it."""


def tasks(
    place: str, recipe: Recipe, methods: Mapping[str, bool], targets: Iterable[str],
    audits: Mapping[str, Collection[str]], shadows: Iterable[tuple[str, int]] = (),
) -> Needs:  # fmt: skip
    """Return the tasks of a run.

    `methods` are the ids of what is compared, each with whether it is retrained; `audits` those of audits, each with
    the models that it looks at beside the one under audit, and `shadows` the name and number of each shadow model.
    """
    needs: Needs = {}
    made: dict[str, frozenset[Task]] = {ORIGINAL: frozenset()}

    def solve(name: str, *before: frozenset[Task]) -> frozenset[Task]:
        needs[task := Task(place, "solve", name)] = frozenset().union(*before)
        made[name] = frozenset({task})
        return made[name]

    ends = solve(HIGHEST) | solve(LOWEST)
    asked = [name for name, _ in recipe.epsilons.asked]
    if isinstance(recipe.sweep, Continuation):
        dial = solve(SWEEP, ends)
        made |= dict.fromkeys(asked, dial)
    else:
        dial = solve(CURVE, ends) if isinstance(recipe.sweep, Curve) else ends
        every = [solve(name, dial) for name in asked]
        dial = dial if isinstance(recipe.sweep, Curve) else dial.union(*every)  # the polyline leads through all of them
    for name in methods:
        solve(name)
    retrained = [made[name] for name, beside in methods.items() if beside]
    for name in targets:
        solve(name, dial, *retrained)
    models = [name for name in made if name not in (CURVE, SWEEP)]
    needs |= {Task(place, "evaluate", name): made[name] for name in models}
    needs |= {Task(place, "evaluate", name): dial for name in stop_ids(recipe.evaluate.stops)}
    apart = {(audit, number): Task(place, "shadow", f"{audit}:{number}") for audit, number in shadows}
    needs |= dict.fromkeys(apart.values(), frozenset())
    for audit, others in audits.items():
        waits = frozenset().union(*(made.get(one, frozenset()) for one in others))
        waits |= {task for (name, _), task in apart.items() if name == audit}
        needs |= {Task(place, "audit", f"{audit}/{name}"): made[name] | waits for name in models}
    return needs


def targeted(recipe: Recipe) -> dict[str, TargetSection]:
    """Return the targets of a recipe by the ids of their solutions, a second of the same numbered."""
    taken, found = [name for name, _ in recipe.epsilons.asked], dict[str, TargetSection]()
    for section in recipe.epsilons.targets:
        name, _ = section.name() or (re.sub("[^a-z0-9.]+", "-", f"target-{section.kind}".lower()).strip("-."), "")
        again = sum(one == name or one.startswith(f"{name}--") for one in [*taken, *found])
        found[f"{name}--{again + 1}" if again else name] = section
    return found


def entries(recipe: Recipe, size: Callable[[Part], int]) -> dict[str, int]:
    """Return how many entries the vector has that each problem of a recipe trains, by id; `size` is that of a part."""
    found = dict.fromkeys([*named(recipe), *targeted(recipe)], own := size(recipe.model.part))
    found |= {CURVE: own * recipe.sweep.degree} if isinstance(recipe.sweep, Curve) else {}
    return found | {name: size(one.part or recipe.model.part) for name, one in swept(recipe).items()}


def lengths(recipe: Recipe, each: int, methods: Iterable[Problem]) -> dict[str, int]:
    """Return the steps at most of all that a recipe has to solve, by id, where a problem of phase 1 has `each`.

    `methods` are what is compared; one that is left out has as many as one of phase 1.
    """
    sweep, asked = recipe.sweep, [name for name, _ in recipe.epsilons.asked]
    found = dict.fromkeys([HIGHEST, LOWEST, *swept(recipe)], each) | {one.id: one.steps(each) for one in methods}
    found |= {name: one.polish for name, one in targeted(recipe).items()}
    if isinstance(sweep, Continuation):
        return found | {SWEEP: sweep.steps(len(asked), each)}
    curve = {CURVE: sweep.steps(0, each)} if isinstance(sweep, Curve) else {}
    return found | curve | dict.fromkeys(asked, sweep.polish if isinstance(sweep, Curve) else each)


EVALUATE, AUDIT, STOP = 0.15, 0.15, 0.05
"""What these cost beside a problem of phase 1 where nothing was measured."""


def weigh(recipe: Recipe, taken: Mapping[str, float]) -> Callable[[Task], float]:
    """Return what tells what a task costs, as a multiple of a problem of phase 1.

    `taken` are the steps of all that is solved and of each shadow model, by the id of the task.
    """
    places = {*stop_ids(recipe.evaluate.stops)}

    def cost(task: Task) -> float:
        match task.kind:
            case "solve" | "shadow":
                return taken[task.id] / taken[HIGHEST]
            case "evaluate":
                return STOP if task.id in places else EVALUATE
            case _:
                return AUDIT

    return cost


class Schedule:
    """The tasks that are left: next is the one with the longest way from its begin to the end of the run."""

    def __init__(self, needs: Needs, cost: Callable[[Task], float], *, whole: bool = False, begin: float = 0.0) -> None:
        """Take what a task costs, and to begin an order; `whole` puts all that is to do of a model into one."""
        orders: dict[object, Order] = {}
        for task in needs:
            # Audits of two retrained models wait for each other's model.
            alone = task.kind == "audit" and any(one.model not in (task.model, SWEEP, CURVE) for one in needs[task])
            key = (task.place, task.model) if whole and not alone else task
            orders[key] = (*orders.get(key, ()), task)
        holding = {task: order for order in orders.values() for task in order}
        every = {order: frozenset().union(*(needs[task] for task in order)) for order in orders.values()}
        self.needs = {order: every[order] - {*order} for order in every}
        self.costs = {order: begin + sum(map(cost, order)) for order in self.needs}
        self.ways: dict[Order, float] = {}
        after: dict[Order, set[Order]] = {order: set() for order in self.needs}
        for order, before in self.needs.items():
            for task in before:
                after[holding[task]].add(order)

        def way(order: Order) -> float:
            if order not in self.ways:
                self.ways[order] = self.costs[order] + max(map(way, after[order]), default=0.0)
            return self.ways[order]

        self.left = sorted(self.needs, key=way, reverse=True)
        self.done: set[Task] = set()

    def next(self) -> Order | None:
        """Return what can be done now and take it out of what is left; None where all waits for others."""
        found = next((order for order in self.left if self.needs[order] <= self.done), None)
        if found is not None:
            self.left.remove(found)
        return found

    def finish(self, order: Order) -> None:
        """Note what is done."""
        self.done.update(order)

    def again(self, order: Order) -> None:
        """Put back what has to be done again, before all else."""
        self.left.insert(0, order)

    @property
    def critical(self) -> float:
        """What the longest chain of tasks costs that wait for each other: no number of workers takes less."""
        return max(self.ways.values(), default=0.0)


def makespan(schedule: Schedule, workers: int) -> float:
    """Return what so many workers need for what is left of a schedule, which is used up."""
    now, running = 0.0, list[tuple[float, Order]]()
    while True:
        while len(running) < workers and (order := schedule.next()) is not None:
            heapq.heappush(running, (now + schedule.costs[order], order))
        if not running:
            return now
        now, order = heapq.heappop(running)
        schedule.finish(order)
