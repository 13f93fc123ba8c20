"""Run every audit on every model of a run, one cell at a time, each kept in the run folder once it is there."""

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from unlearnkit import checkpoint
from unlearnkit.audits import Audit, Case, Figure, Finding, Missing, Over
from unlearnkit.phases import DivergedError, Solution
from unlearnkit.recipe.sections import AuditSection, label
from unlearnkit.workbench import Part, Workbench, fresh, reason_or

Cell = dict[str, object]


def audited(
    folder: Path,
    bench: Workbench,
    solutions: Sequence[Solution],
    done: Callable[[str, str], None],
    pause: Callable[[], None],
) -> list[dict[str, Any]]:
    """Return every audit with its findings for the original model and each solution.

    A cell is written to `audits/` of `folder` once it is done, and found there by a resumed run; one that failed is
    tried again. `done` is told audit and model after each, `pause` is called between steps; both may raise.
    """
    models: list[tuple[str, Part, Tensor]] = [("original", bench.recipe.model.train, bench.origin)]
    models += [(solution.problem.id, solution.problem.part, solution.theta) for solution in solutions]
    entries = []
    for name, (section, audit) in bench.audits.items():
        cells: dict[str, Cell] = {}
        for model, part, theta in models:
            path = folder / "audits" / name / f"{model}.json"
            wanted = section.model_dump(mode="json")
            cell = _kept(path, wanted)
            if cell is None:
                bench.put(part, theta)
                found = _examined(audit, partial(_case, bench, pause))
                cell = {"failed": found} if isinstance(found, str) else found
                if not isinstance(found, str):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    checkpoint.write_json(path, {"audit": wanted, "cell": cell})
            cells[model] = cell
            done(name, model)
        entries.append(_entry(bench, name, section, audit, cells))
    return entries


def _case(bench: Workbench, pause: Callable[[], None]) -> Case:
    """Return the student as it is now as a case of its own."""
    recipe, student = bench.recipe, copy.deepcopy(bench.student)
    start = partial(fresh, recipe, bench.reference)
    return Case(student, bench.reference, bench.sides, bench.images, recipe.training, recipe.seed, start, pause)


def _examined(audit: Audit | str, case: Callable[[], Case]) -> Cell | str:
    """Return the findings of a case as plain data, or the reason why there are none."""
    if isinstance(audit, str):
        return audit

    def examine() -> Cell:
        try:
            found = audit.examine(case())
        except DivergedError as error:
            raise ValueError(
                f"loss or gradient became non-finite at step {error.step}; lower the audit's optimizer.lr"
            ) from None
        return {name: _plain(found[name]) for name in audit.figures}

    return reason_or(examine)


def _plain(finding: Finding) -> object:
    match finding:
        case Over():
            return {"over": finding.most}
        case Missing():
            return {"failed": finding.reason}
        case _:
            return finding if math.isfinite(finding) else {"failed": f"the value is {finding}"}


def _kept(path: Path, wanted: Mapping[str, Any]) -> Cell | None:
    """Return a cell that was done before, by the same audit."""
    try:
        found = json.loads(path.read_bytes())
        return dict(found["cell"]) if found["audit"] == wanted else None
    except (OSError, ValueError, KeyError):
        return None


def _entry(
    bench: Workbench, name: str, section: AuditSection, audit: Audit | str, cells: Mapping[str, Cell]
) -> dict[str, Any]:
    figures = {"": Figure(section.kind, "", None)} if isinstance(audit, str) else audit.figures
    # What failed as a whole says so under each of its figures.
    full = {model: {key: cell.get(key, cell) for key in figures} for model, cell in cells.items()}
    return {
        "id": name,
        "label": label(section),
        "about": " ".join((type(section).__doc__ or "").split()),
        "samples": "" if isinstance(audit, str) else audit.samples(bench.images),
        "seeds": [bench.recipe.seed],
        "facts": {} if isinstance(audit, str) else dict(audit.describe()),
        "figures": {key: vars(figure) for key, figure in figures.items()},
        "original": full.pop("original"),
        "solutions": full,
    }
