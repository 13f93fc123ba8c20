"""Put what a run found into one JSON value without clock or path, so that the same recipe gives the same bytes."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from unlearnkit.contracts import Failed, ModelAdapter, sides
from unlearnkit.disk import sha256, write_file
from unlearnkit.evaluation import kept
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
    recipe = bench.recipe
    gauge = Gauge(Originals(bench), instruments, watcher)
    further = [Further(section) for section in recipe.evaluate.tasks]
    shown = [name for name in SETS if len(bench.images[name]["validation"])]
    found = {"original": _looked_at(folder, gauge, further, None, ("truth", "input", "original"))}
    for solution in solutions:
        name = solution.problem.id
        found[name] = _looked_at(folder, gauge, further, solution, (name,))
        watcher.event("evaluated", id=name)
    pictures = {f"{of}-{title}.png" for of in shown for title in ("truth", "input", *found)}
    for stale in (path for path in (folder / "images").iterdir() if path.name not in pictures):
        stale.unlink()
    ids = [solution.problem.id for solution in solutions]
    original: dict[str, Any] = {name: found["original"][name] for name in ("f1", "f2", "metrics")}
    rows = [_row(solution, solutions) | {"metrics": found[solution.problem.id]["metrics"]} for solution in solutions]
    tasks = [
        {
            "task": other.section.model_dump(mode="json"),
            "label": other.label,
            "original": found["original"]["tasks"][place],
            "solutions": {name: found[name]["tasks"][place] for name in ids},
        }
        for place, other in enumerate(further)
    ]
    images: dict[str, Any] = {
        of: {
            "solutions": {name: _picture(of, name) for name in ids},
            **{title: _picture(of, title) for title in ("truth", "input", "original")},
        }
        for of in shown
    }
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
        "images": {"count": recipe.evaluate.images, "size": max(sides(bench.student.image_size)), **images},
    }


def _looked_at(
    folder: Path, gauge: Gauge, further: Sequence[Further], solution: Solution | None, titles: Sequence[str]
) -> dict[str, Any]:
    """Return what is measured of a solution or of the original model, and write its pictures, or find both again."""
    bench, evaluate = gauge.bench, gauge.bench.recipe.evaluate
    name = "original" if solution is None else solution.problem.id
    path, origin = (
        folder / "evaluations" / f"{name}.json",
        kept.origin(bench, solution, {"evaluate": evaluate.model_copy(update={"audits": []})}, gauge.facts),
    )
    paths = [_picture(of, title) for of in SETS if len(bench.images[of]["validation"]) for title in titles]
    found = kept.load(path, origin, gauge.watcher)
    if found is not None and not _failed(found):
        if changed := [one for one in paths if _hash(folder / one) != found["pictures"].get(one)]:
            gauge.watcher.warn(f"{folder / changed[0]}: not as it was written; it was made again")
        else:
            return dict(found)
    if solution is None:
        bench.put(bench.recipe.model.train, bench.origin)
    else:
        bench.put(solution.problem.part, solution.theta)
    for one in paths:
        of, _, title = Path(one).stem.partition("-")
        data = BytesIO()
        _strip(gauge.originals, bench.student, of, title).save(data, "png")
        write_file(folder / one, data.getvalue())
    losses = {"f1": bench.sides["forget"].exact(), "f2": bench.sides["retain"].exact()} if solution is None else {}
    found = {
        **losses,
        "metrics": gauge.measure(bench.student),
        "tasks": [gauge.measure_further(bench.student, other) for other in further],
        "pictures": {one: _hash(folder / one) for one in paths},
    }
    kept.save(path, origin, found)
    return found


def _picture(of: str, title: str) -> str:
    return f"images/{of}-{title}.png"


def _hash(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def _failed(found: object) -> bool:
    """Tell whether a figure has a reason in its place, which may be mended by now."""
    if isinstance(found, Mapping):
        return "failed" in found or any(map(_failed, found.values()))
    return isinstance(found, list) and any(map(_failed, found))


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
        "digest": solution.digest,
        **({"retrained": True} if problem.retrained else {}),
    }


def _point(solution: Solution) -> Point:
    return solution.last.f1, solution.last.f2
