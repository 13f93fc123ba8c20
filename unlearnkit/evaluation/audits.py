"""Run every audit on every model of a run, one cell at a time, each kept in the run folder once it is there."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.utils import vector_to_parameters

from unlearnkit.contracts import Audit, Failed, Figure, Finding, Missing, ModelAdapter, Over, Part, Shadow, trainable
from unlearnkit.disk import read_record
from unlearnkit.evaluation import kept
from unlearnkit.evaluation.case import ModelCase
from unlearnkit.evaluation.instruments import Instruments, Watcher, beside, number, tell, tried
from unlearnkit.evaluation.models import ORIGINAL, Model, original, solved
from unlearnkit.recipe.sections import AuditSection, label
from unlearnkit.solver import lora
from unlearnkit.solver.problem import DivergedError, Solution
from unlearnkit.solver.workbench import Workbench, fresh

Cell = dict[str, object]
Find = Callable[[str], Model | None]
"""What returns the model of an id, if there is one."""


def audited(
    folder: Path, bench: Workbench, instruments: Instruments, solutions: Sequence[Solution], watcher: Watcher
) -> list[dict[str, Any]]:
    """Return every audit with its findings for the original model and each solution.

    A cell is written to `audits/` of `folder` once it is done, and found there by a resumed run; one that failed is
    tried again. The watcher is told of each, and asked between steps.
    """
    models, entries = [original(bench), *map(solved, solutions)], []
    known = {model.id: model for model in models}
    for name, (section, audit) in instruments.audits.items():
        cells = dict[str, Cell]()
        for model in models:
            cells[model.id] = cell(folder, bench, instruments, name, model, known.get, watcher)
            watcher.event("audited", audit=name, id=model.id)
            watcher.check_signal()
        entries.append(entry(bench, name, section, audit, cells))
    return entries


def cell(
    folder: Path, bench: Workbench, instruments: Instruments, name: str, model: Model, find: Find, watcher: Watcher
) -> Cell:
    """Return what an audit finds of a model, or find it again; it looks beside at what `find` returns by an id."""
    section, audit = instruments.audits[name]
    gold = [problem.id for problem in bench.methods if problem.retrained]
    there = map(find, (one for one in beside(audit, gold) if one != model.id))
    others = [one for one in there if one is not None and not one.stop]
    file = f"audits/{name}/{model.id}.json"
    facts = [*instruments.facts[name], *(one.digest for one in others)]
    origin = kept.origin(bench, model.digest, {"audit": section}, facts)
    if (known := kept.load(folder, file, origin, watcher)) is not None:
        return dict(known)
    bench.put(model.part, model.theta())
    thetas = {one.id: (one.part, one.theta()) for one in others}
    beneath = [] if isinstance(audit, Failed) else _shadows(folder, name, audit, bench, model.id)
    found = audit if isinstance(audit, Failed) else tried(partial(celled, audit, bench, watcher, thetas, beneath))
    if not isinstance(found, Failed):
        kept.save(folder / file, origin, found)
        return found
    if found is not audit:
        tell(watcher, f"audit {name}, {model.id}", found)
    return {"failed": found.reason}


def shadow_file(audit: str, number: int) -> str:
    """Return where in a run folder is kept what an audit remembers of one of its shadow models."""
    return f"shadows/{audit}-{number:02}.json"


def _shadows(folder: Path, name: str, audit: Audit, bench: Workbench, model: str) -> list[Shadow]:
    """Return what an audit remembers of its shadow models under the problem of a model, as far as they had it."""
    scratch = {one.id for one in bench.methods if one.anew}
    count = 0 if audit.shadows is None else audit.shadows.count
    files = [path for number in range(count) if (path := folder / shadow_file(name, number)).exists()]
    told = [read_record(path)["value"] for path in files]
    its = ORIGINAL if model in scratch else model
    return [Shadow(frozenset(one["members"]), one["found"][its]) for one in told if its in one["found"]]


def case(
    bench: Workbench, watcher: Watcher, others: Mapping[str, tuple[Part, Tensor]], named: str | None = None,
    shadows: Sequence[Shadow] = (),
) -> ModelCase:  # fmt: skip
    """Return the case of the student as it is now; `others` are weights of a part by id, of the `named` one too."""
    recipe = bench.recipe
    student = copy.deepcopy(lora.plain(bench.student, merged=True))
    untrained = partial(fresh, recipe, student)
    built = {name: _built(bench, *one) for name, one in others.items()}
    other = built.pop(named, None) if named else None
    return ModelCase(
        student, bench.reference, bench.sides, bench.images, recipe.training, recipe.seed, untrained,
        [*built.values()], other, shadows, watcher.check_signal,
    )  # fmt: skip


def examined(
    audit: Audit, bench: Workbench, watcher: Watcher, others: Mapping[str, tuple[Part, Tensor]],
    shadows: Sequence[Shadow] = (),
) -> Mapping[str, Finding]:  # fmt: skip
    """Return the findings on the student as it is now; raise `ValueError` with the reason where none can be had.

    `others` are weights, of a part each, of the one that the audit names and of retrained models.
    """
    if audit.needs_truth and bench.task.untold:
        raise ValueError(bench.task.untold)
    try:
        return audit.examine(case(bench, watcher, others, audit.other, shadows))
    except DivergedError as error:
        advice = "lower the audit's optimizer.lr"
        raise ValueError(f"loss or gradient became non-finite at step {error.step}; {advice}") from None


def _built(bench: Workbench, part: Part, theta: Tensor) -> ModelAdapter:
    """Return the original model with other weights of a part, adapters merged as in the model under audit."""
    model = copy.deepcopy(bench.reference)
    vector_to_parameters(theta.clone(), trainable(model, part))
    return lora.plain(model, merged=True)


def celled(
    audit: Audit, bench: Workbench, watcher: Watcher, others: Mapping[str, tuple[Part, Tensor]],
    shadows: Sequence[Shadow] = (),
) -> Cell:  # fmt: skip
    """Return what an audit finds of the student as it is now, as results.json has it."""
    found = examined(audit, bench, watcher, others, shadows)
    return {name: _plain(found[name]) for name in audit.figures}


def _plain(finding: Finding) -> object:
    if isinstance(finding, Missing):
        return {"failed": finding.reason}
    value = tried(lambda: number(finding.most if isinstance(finding, Over) else finding))
    if isinstance(value, Failed) or not math.isfinite(value):
        return {"failed": value.reason if isinstance(value, Failed) else f"the value is {value}"}
    return {"over": value} if isinstance(finding, Over) else value


def entry(
    bench: Workbench, name: str, section: AuditSection, audit: Audit | Failed, cells: Mapping[str, Cell]
) -> dict[str, Any]:
    """Return what results.json has of an audit; the cells are of the original model and of solutions."""
    figures = {"": Figure(section.kind, "", None)} if isinstance(audit, Failed) else audit.figures
    # What failed as a whole says so under each of its figures.
    full = {model: {key: cell.get(key, cell) for key in figures} for model, cell in cells.items()}
    items = {of: {split: found.items for split, found in halves.items()} for of, halves in bench.images.items()}
    samples = "" if isinstance(audit, Failed) else tried(partial(audit.samples, items))
    bands = {} if isinstance(audit, Failed) else tried(partial(audit.chance, items))
    chance = {} if isinstance(bands, Failed) else bands
    facts = {} if isinstance(audit, Failed) else tried(audit.describe)
    return {
        "id": name,
        "label": label(section),
        "about": " ".join((type(section).__doc__ or "").split()),
        "samples": samples.reason if isinstance(samples, Failed) else samples,
        "seeds": [bench.recipe.seed],
        "facts": {} if isinstance(facts, Failed) else dict(facts),
        "figures": {key: vars(figure) | {"chance": chance.get(key)} for key, figure in figures.items()},
        "original": full.pop("original"),
        "solutions": full,
    }
