"""Put what a run found into one JSON value without clock or path, so that the same recipe gives the same bytes."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from unlearnkit.contracts import Failed, ModelAdapter
from unlearnkit.evaluation.instruments import Instruments, Watcher
from unlearnkit.evaluation.measure import Gauge
from unlearnkit.evaluation.originals import Further, Originals
from unlearnkit.fronts import HIGHEST, Point, dominates, hypervolume
from unlearnkit.solver.problem import TOLERANCE, Solution
from unlearnkit.solver.workbench import SETS, Workbench


def collect(
    folder: Path,
    bench: Workbench,
    instruments: Instruments,
    solutions: Sequence[Solution],
    bounds: tuple[float, float],
    outside: Sequence[Mapping[str, object]],
    watcher: Watcher,
) -> dict[str, Any]:
    """Evaluate the original model and every solution, write their pictures, return the results."""
    recipe, student, originals = bench.recipe, bench.student, Originals(bench)
    gauge = Gauge(originals, instruments, watcher)
    further = [Further(section) for section in recipe.evaluate.tasks]
    shown = [name for name in SETS if len(bench.images[name]["validation"])]
    titles = ("truth", "input", "original")

    def picture(name: str, title: str) -> str:
        path = folder / "images" / f"{name}-{title}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _strip(originals, student, name, title).save(path)
        return path.relative_to(folder).as_posix()

    bench.put(recipe.model.train, bench.origin)
    original: dict[str, Any] = {
        "f1": bench.sides["forget"].exact(),
        "f2": bench.sides["retain"].exact(),
        "metrics": gauge.measure(student),
    }
    tasks: list[dict[str, Any]] = [
        {"task": other.section.model_dump(mode="json"), "label": other.label}
        | {"original": gauge.measure_further(student, other), "solutions": {}}
        for other in further
    ]
    images: dict[str, Any] = {
        name: {"solutions": {}, **{title: picture(name, title) for title in titles}} for name in shown
    }
    rows = []
    for solution in solutions:
        bench.put(solution.problem.part, solution.theta)
        rows.append(_row(solution, solutions) | {"metrics": gauge.measure(student)})
        for entry, other in zip(tasks, further, strict=True):
            entry["solutions"][solution.problem.id] = gauge.measure_further(student, other)
        for name in shown:
            images[name]["solutions"][solution.problem.id] = picture(name, solution.problem.id)
        watcher.event("evaluated", id=solution.problem.id)
        watcher.check_signal()
    return {
        "format": 1,
        "name": recipe.name,
        "seed": recipe.seed,
        "mode": {
            **{name: getattr(recipe.control, name).kind for name in ("boundary", "epsilon", "multiplier")},
            "landing": recipe.control.landing,
            **{name: getattr(recipe, name).kind for name in ("sweep", "forget", "retain")},
            "target": bench.sides["forget"].loss.mode,
        },
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
            kind: {"name": kind, "failed": metric.reason} if isinstance(metric, Failed) else metric.describe()
            for kind, metric in instruments.metrics.items()
        },
        "warnings": warnings(instruments, solutions),
        "images": {"count": recipe.evaluate.images, "size": student.image_size, **images},
    }


def _strip(originals: Originals, model: ModelAdapter, name: str, title: str) -> Image.Image:
    """Return the report's validation images of a set side by side: `truth`, `input`, or else the model's output."""
    bench, place = originals.bench, 0
    total = len(bench.images[name]["validation"])
    count = min(total, bench.recipe.evaluate.images)
    rows = [number * total // count for number in range(count)]  # evenly spread, so that every class is shown
    shown = []
    with torch.no_grad():
        for view in originals.views(name, "validation"):
            wanted = [row - place for row in rows if place <= row < place + len(view.images)]
            place += len(view.images)
            if wanted:
                images = view.truth if title == "truth" else view.images if title == "input" else model.output(view)
                shown.append(images[wanted])
    pixels = (torch.cat(shown).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return Image.fromarray(torch.cat(list(pixels), dim=2).permute(1, 2, 0).contiguous().numpy())


def warnings(instruments: Instruments, solutions: Sequence[Solution]) -> list[str]:
    """Return one line for each thing that did not go as the recipe asked; `outside` speaks for itself."""
    return [
        *filter(None, (solution.shortfall() for solution in solutions)),
        *(f"{what}: {failed.reason}" for what, failed in instruments.failures()),
        *(f"{one.problem.label}: a frozen parameter changed" for one in solutions if not one.facts["frozen_unchanged"]),
    ]


def _front(start: float, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the hypervolume of both phases' solutions below the original model's f1 and the highest boundary's f2.

    `share` is that area over the whole rectangle from 0 to the reference; None where the rectangle has no area.
    """
    corner = next((row["f2"] for row in rows if row["id"] == HIGHEST), math.nan)
    ours = [(row["f1"], row["f2"]) for row in rows if row["phase"] is not None]
    if not (all(map(math.isfinite, (start, corner, *chain(*ours)))) and start * corner > 0):
        return None
    area = hypervolume(ours, (start, corner))
    return {"reference": [start, corner], "hypervolume": area, "share": area / (start * corner)}


def _row(solution: Solution, solutions: Sequence[Solution]) -> dict[str, Any]:
    problem, last, facts = solution.problem, solution.last, solution.facts
    return {
        **{name: getattr(problem, name) for name in ("id", "method", "phase", "label", "epsilon", "fraction")},
        **{name: getattr(last, name) for name in ("f1", "f2", "gap", "satisfied", "residual")},
        "lam": facts["history"]["lam"][-1] if facts["history"]["lam"] else None,
        "lam_stationary": last.lam,
        "steps": facts["steps"],
        "ended": facts["ended"],
        "landing": facts["landing"],
        "frozen_unchanged": facts["frozen_unchanged"],
        "dominated_by": [other.problem.id for other in solutions if dominates(_point(other), _point(solution))],
        "part": problem.part,
        "stages": facts["stages"],
        "history": None if facts["own_losses"] else facts["history"],
        "checks": facts["checks"],
        **({"retrained": True} if problem.retrained else {}),
    }


def _point(solution: Solution) -> Point:
    return solution.last.f1, solution.last.f2
