"""Put what a run found into one JSON value without clock or path, so that the same recipe gives the same bytes."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from unlearnkit import fronts
from unlearnkit.contracts import Metric
from unlearnkit.evaluate import Further, Originals, measure, measure_further, save_strip, strip
from unlearnkit.phases import TOLERANCE, Solution
from unlearnkit.workbench import SETS, Workbench

FORMAT = 1


def collect(
    folder: Path,
    bench: Workbench,
    solutions: Sequence[Solution],
    bounds: tuple[float, float],
    outside: Sequence[Mapping[str, object]],
    evaluated: Callable[[str], None],
) -> dict[str, Any]:
    """Evaluate the original model and every solution, write their pictures, return the results."""
    recipe = bench.recipe
    images: dict[str, Any] = {
        "count": recipe.evaluate.images,
        "size": bench.student.image_size,
        **{name: {"solutions": {}} for name in SETS if len(bench.images[name]["validation"])},
    }

    originals = Originals(bench)
    further = [Further(section) for section in recipe.evaluate.tasks]

    def picture(name: str, title: str, model: bool, what: str = "output") -> str:
        path = f"images/{name}-{title}.png"
        save_strip(strip(originals, bench.student if model else None, name, what), folder / path)
        return path

    bench.put(bench.recipe.model.train, bench.origin)
    original: dict[str, Any] = {
        "f1": bench.sides["forget"].exact(),
        "f2": bench.sides["retain"].exact(),
        "metrics": measure(originals, bench.student),
    }
    tasks: list[dict[str, Any]] = [
        {
            "task": other.section.model_dump(mode="json"),
            "label": other.label,
            "original": measure_further(originals, bench.student, other),
            "solutions": {},
        }
        for other in further
    ]
    for name in images.keys() & set(SETS):
        images[name] |= {
            "truth": picture(name, "truth", False, "truth"),
            "input": picture(name, "input", False, "input"),
            "original": picture(name, "original", True),
        }
    rows = []
    for solution in solutions:
        bench.put(solution.problem.part, solution.theta)
        rows.append(_row(solution, solutions) | {"metrics": measure(originals, bench.student)})
        for entry, other in zip(tasks, further, strict=True):
            entry["solutions"][solution.problem.id] = measure_further(originals, bench.student, other)
        for name in images.keys() & set(SETS):
            images[name]["solutions"][solution.problem.id] = picture(name, solution.problem.id, True)
        evaluated(solution.problem.id)
    return {
        "format": FORMAT,
        "name": recipe.name,
        "seed": recipe.seed,
        "mode": mode(bench),
        "tolerance": TOLERANCE,
        "sets": {
            name: {"classes": list(part.classes), "train": len(part.train), "validation": len(part.validation)}
            for name, part in bench.chosen.items()
        },
        "range": {"lowest": bounds[0], "highest": bounds[1]},
        "front": _front(original["f1"], rows),
        "original": original,
        "solutions": rows,
        "tasks": tasks,
        "outside": list(outside),
        "metrics": {
            kind: metric.describe() if isinstance(metric, Metric) else {"name": kind, "failed": metric}
            for kind, metric in bench.metrics.items()
        },
        "warnings": warnings(bench, solutions),
        "images": images,
    }


def warnings(bench: Workbench, solutions: Sequence[Solution]) -> list[str]:
    """Return one line for each thing that did not go as the recipe asked; `outside` speaks for itself."""
    return [
        *(line for solution in solutions if (line := solution.shortfall()) is not None),
        *(f"metric {kind}: {metric}" for kind, metric in bench.metrics.items() if isinstance(metric, str)),
        *(f"audit {kind}: {audit}" for kind, (_, audit) in bench.audits.items() if isinstance(audit, str)),
        *(
            f"{solution.problem.label}: a frozen parameter changed"
            for solution in solutions
            if not solution.facts["frozen_unchanged"]
        ),
    ]


def mode(bench: Workbench) -> dict[str, str]:
    """Return the names of the rules that a result depends on."""
    recipe = bench.recipe
    return {
        "boundary": recipe.control.boundary.kind,
        "epsilon": recipe.control.epsilon.kind,
        "multiplier": recipe.control.multiplier.kind,
        "landing": recipe.control.landing,
        "sweep": recipe.sweep.kind,
        "forget": recipe.forget.kind,
        "retain": recipe.retain.kind,
        "target": bench.sides["forget"].loss.mode,
    }


def _front(start: float, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the hypervolume of both phases' solutions below the original model's f1 and the highest boundary's f2.

    `share` is that area over the whole rectangle from 0 to the reference; None where the rectangle has no area.
    """
    corner = next((row["f2"] for row in rows if row["id"] == "boundary-highest"), math.nan)
    ours = [(row["f1"], row["f2"]) for row in rows if row["phase"] is not None]
    if not (all(map(math.isfinite, (start, corner, *chain(*ours)))) and start * corner > 0):
        return None
    area = fronts.hypervolume(ours, (start, corner))
    return {"reference": [start, corner], "hypervolume": area, "share": area / (start * corner)}


def _row(solution: Solution, solutions: Sequence[Solution]) -> dict[str, Any]:
    problem, last, facts = solution.problem, solution.last, solution.facts
    return {
        "id": problem.id,
        "method": problem.method,
        "phase": problem.phase,
        "label": problem.label,
        "epsilon": problem.epsilon,
        "fraction": problem.fraction,
        "f1": last.f1,
        "f2": last.f2,
        "gap": last.gap,
        "satisfied": last.satisfied,
        "residual": last.residual,
        "lam": facts["history"]["lam"][-1] if facts["history"]["lam"] else None,
        "lam_stationary": last.lam,
        "steps": facts["steps"],
        "ended": facts["ended"],
        "landing": facts["landing"],
        "frozen_unchanged": facts["frozen_unchanged"],
        "dominated_by": [other.problem.id for other in solutions if dominates(other, solution)],
        "part": problem.part,
        "stages": facts["stages"],
        "history": None if facts["own_losses"] else facts["history"],
        "checks": facts["checks"],
    }


def dominates(one: Solution, other: Solution) -> bool:
    """Tell whether `one` is at least as good in f1 and f2 and better in one of them."""
    return fronts.dominates((one.last.f1, one.last.f2), (other.last.f1, other.last.f2))
