"""Shadow models of an audit: each a run of its own, training and unlearning, on another half of the forget images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from unlearnkit.contracts import Audit, Failed, ModelAdapter, OwnLoss, Shadows, saved
from unlearnkit.control import Constant, Stage
from unlearnkit.data import Chosen, seeded
from unlearnkit.disk import disk_errors, new_folder, remove_folder
from unlearnkit.errors import Exit, UserError
from unlearnkit.evaluation import kept
from unlearnkit.evaluation.audits import case, shadow_file
from unlearnkit.evaluation.instruments import Instruments
from unlearnkit.evaluation.models import original, solved
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.run.events import Run
from unlearnkit.run.export import saved_model
from unlearnkit.run.front import bound, posed, swept
from unlearnkit.run.solve import solve
from unlearnkit.run.tasks import lengths, targeted
from unlearnkit.solver.pretrained import pretrained
from unlearnkit.solver.problem import Problem, Solution
from unlearnkit.solver.shares import unshared
from unlearnkit.solver.workbench import Workbench, build, fresh
from unlearnkit.weights import resolve

FOLDER = "shadows"


class Unheard(Run):
    """A run in a folder of its own whose events nobody hears; it stops as another one does."""

    def __init__(self, folder: Path, of: Run) -> None:
        self.folder, self.stop, self.manifest = folder, of.stop, {"times": {}, "costs": {}}

    def event(self, kind: str, **facts: object) -> None:
        """Tell nobody."""

    def warn(self, message: str) -> None:
        """Tell nobody."""

    def save_manifest(self) -> None:
        """Keep nothing."""


def asked(tools: Instruments) -> Iterator[tuple[str, int, Audit]]:
    """Yield each audit that asks for shadow models, once for each of them, with its name and the shadow's number."""
    for name, (_, audit) in tools.audits.items():
        if not isinstance(audit, Failed) and audit.shadows is not None:
            yield from ((name, number, audit) for number in range(audit.shadows.count))


def checked(bench: Workbench, tools: Instruments) -> Instruments:
    """Return the instruments; raise `UserError` where shadow models cannot be trained, or nobody knows how long."""
    audits = [audit for _, number, audit in asked(tools) if number == 0]
    planned(bench.recipe, bench.base, bench.reference, audits, bench.steps, [])
    return tools


def trained(recipe: Recipe, base: Path, wanted: Shadows) -> int:
    """Return the steps of a shadow model's training; raise `UserError` where nothing says how many they are."""
    if wanted.steps:
        return wanted.steps
    known = pretrained(resolve(recipe.model.weights, base))
    if not known or not known.steps:
        said = "no record beside the weights says how many steps the original had, for its shadow models"
        raise UserError(f"evaluate.audits: {said}; state them in `steps`", Exit.RECIPE)
    return known.steps


def planned(
    recipe: Recipe, base: Path, like: ModelAdapter, audits: Iterable[Audit | None], steps: int,
    methods: Sequence[Problem],
) -> list[tuple[int, int]]:  # fmt: skip
    """Return how many models each audit that asks for some asks for, and the steps of one where a problem has so many.

    Raise `UserError` where they cannot be trained anew, or where nothing says how long.
    """
    wanted = [audit.shadows for audit in audits if audit is not None and audit.shadows is not None]
    if not wanted:
        return []
    fresh(recipe, like)
    without = {*targeted(recipe), *(one.id for one in methods if one.anew)}
    unlearned = sum(taken for name, taken in lengths(recipe, steps, methods).items() if name not in without)
    return [(one.count, trained(recipe, base, one) + unlearned) for one in wanted]


def costs(bench: Workbench, tools: Instruments, steps: int, methods: Sequence[Problem]) -> dict[str, int]:
    """Return the steps of each shadow model by the id of its task, where a problem has so many."""
    audits = {name: audit for name, _, audit in asked(tools)}
    each = planned(bench.recipe, bench.base, bench.reference, audits.values(), steps, methods)
    every = zip(audits, each, strict=True)
    return {f"{name}:{number}": taken for name, (count, taken) in every for number in range(count)}


def shadow(run: Run, bench: Workbench, tools: Instruments, name: str, number: int) -> None:
    """Have an audit remember a shadow model, before it unlearns and under each problem of the run but targets.

    It is trained from scratch on the retain set and one half of the forget images, training and validation; of two in
    a row each has the half that the other has not. What is in the run folder already stays as it is; without forget
    validation images there is nothing to tell apart, and none is trained.
    """
    if not bench.chosen["forget"].validation:
        return
    section, audit = tools.audits[name]
    assert not isinstance(audit, Failed)
    assert audit.shadows is not None
    recipe, file = bench.recipe, shadow_file(name, number)
    problems = {key: getattr(recipe, key) for key in ("control", "sweep", "compare")}
    tight = {"fractions": recipe.epsilons.fractions, "values": recipe.epsilons.values}
    origin = kept.origin(bench, None, {"audit": section, **problems}, [number, tight])
    if kept.load(run.folder, file, origin, run) is not None:
        return
    run.event("shadow", audit=name, number=number, of=audit.shadows.count)
    its = Unheard(run.folder / FOLDER / f"{name}-{number:02}", run)
    for place in ("checkpoints", "solutions"):
        with disk_errors(its.folder):
            (its.folder / place).mkdir(parents=True, exist_ok=True)
    sets = [_halved(bench, number), bench.chosen["retain"]]
    weights = _trained(its, bench, audit.shadows, sets, number)
    model = recipe.model.model_copy(update={"weights": str(weights.absolute())})
    others = [one for one in recipe.compare if not one.retrained]
    its_recipe = recipe.model_copy(update={"model": model, "compare": others})
    own = build(its_recipe, bench.base, its.folder / "cache", sets)
    found = {}
    with unshared(own.sides):
        for one in (original(own), *map(solved, _unlearned(its, own))):
            own.put(one.part, one.theta())
            found[one.id] = dict(audit.remember(case(own, run, {})))
            run.check_signal()
    if lacking := {place for place, _ in recipe.epsilons.asked} - found.keys():
        run.event("warning", message=f"{name}: shadow model {number} has no way to {', '.join(sorted(lacking))}")
    kept.save(run.folder / file, origin, {"members": sorted(item.key for item in sets[0].train), "found": found})
    remove_folder(its.folder)


def _halved(bench: Workbench, number: int) -> Chosen:
    """Return the forget set with one half of its images for training, the other for validation."""
    forget = bench.chosen["forget"]
    items = (*forget.train, *forget.validation)
    drawn = torch.randperm(len(items), generator=seeded(bench.recipe.seed, "shadows", number // 2))
    halves = [[items[place] for place in sorted(half.tolist())] for half in drawn.tensor_split(2)]
    return replace(forget, train=halves[number % 2], validation=halves[1 - number % 2])


def _trained(run: Run, bench: Workbench, wanted: Shadows, sets: list[Chosen], number: int) -> Path:
    """Return the weights of a shadow model that was trained on the images of both sets together."""
    folder = run.folder / "model"
    if not folder.exists():
        whole = bench.recipe.model.model_copy(update={"train": "all"})  # adapters come beside trained weights
        once = bench.recipe.training.model_copy(update={"checks": 1})
        recipe = bench.recipe.model_copy(update={"compare": [], "model": whole, "training": once})
        plain = build(recipe, bench.base, None, sets)
        known = pretrained(resolve(recipe.model.weights, bench.base))
        forget, retain = (len(part.train) for part in sets)
        own = seeded(recipe.seed, "shadow", number).initial_seed() % 2**31  # not one that the original may have had
        stage = Stage(
            OwnLoss(), OwnLoss(), Constant(retain / (forget + retain), forget / (forget + retain)),
            budget=0.0, least=trained(recipe, bench.base, wanted), fresh=1.0, seed=own,
            settings={} if known is None else known.settings,
        )  # fmt: skip
        problem = Problem("shadow", [stage], part="all")
        with unshared(plain.sides):
            plain.put("all", solve(run, plain, problem, partial(plain.original, "all"), None).theta)
        with new_folder(folder) as part:
            saved(plain.student, part)
    return saved_model(folder)


def _unlearned(run: Run, bench: Workbench) -> list[Solution]:
    """Return the solutions of all problems of a workbench but targets, without ε where phase 1 finds no range."""
    bounds, inside = bound(run, bench), list[Solution]()
    if bounds.highest.last.f1 < bounds.lowest.last.f1 and (wanted := posed(bench, bounds)).inside:
        inside, _ = swept(run, bench, bounds, wanted.start, wanted.inside)
    beside = [solve(run, bench, one, partial(bench.original, one.part), None) for one in bench.methods]
    return [bounds.highest, bounds.lowest, *inside, *beside]
