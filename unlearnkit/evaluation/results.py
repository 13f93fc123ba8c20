"""Put what a run found into one JSON value without clock or path, so that the same recipe gives the same bytes."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unlearnkit.contracts import Failed, ModelAdapter, View, mean_colour_fill, sides
from unlearnkit.disk import read_plain, sha256, write_file
from unlearnkit.evaluation import kept
from unlearnkit.evaluation.instruments import Instruments
from unlearnkit.evaluation.maps import mapped
from unlearnkit.evaluation.measure import Gauge, Output, shown
from unlearnkit.evaluation.models import ORIGINAL, Model, original, solved, stops
from unlearnkit.evaluation.originals import Further, Originals
from unlearnkit.fronts import HIGHEST, Point, dominates, hypervolume
from unlearnkit.solver.dial import Dial
from unlearnkit.solver.problem import TOLERANCE, Solution
from unlearnkit.solver.workbench import SETS, Workbench


def collect(
    folder: Path,
    gauge: Gauge,
    instruments: Instruments,
    solutions: Sequence[Solution],
    bounds: tuple[float, float],
    outside: Sequence[Mapping[str, object]],
    dial: Dial,
    targets: Mapping[str, Mapping[str, object]],
) -> dict[str, Any]:
    """Evaluate the original model, every solution and places of the dial, write their pictures, return the results.

    `targets` says by solution what was looked for.
    """
    bench, recipe, watcher = gauge.bench, gauge.bench.recipe, gauge.watcher
    further = [Further(section) for section in recipe.evaluate.tasks]
    found = {ORIGINAL: evaluated(folder, gauge, original(bench))}
    for solution in solutions:
        name = solution.problem.id
        found[name] = evaluated(folder, gauge, solved(solution))
        watcher.event("evaluated", id=name)
    places = stops(dial, recipe.evaluate.stops, recipe.model.part)
    looks = {place.id: evaluated(folder, gauge, place) for place in places}
    pictures = {f"{of}-{title}.png" for of in SETS for title in ("truth", "input", *found, *looks)}
    for stale in (path for path in (folder / "images").iterdir() if path.name not in pictures):
        stale.unlink()
    ids = [solution.problem.id for solution in solutions]
    first: dict[str, Any] = {name: found[ORIGINAL][name] for name in ("f1", "f2", "metrics")}
    rows = [
        _row(solution, solutions)
        | {"metrics": found[name]["metrics"]}
        | ({"target": targets[name]} if name in targets else {})
        for solution in solutions
        for name in [solution.problem.id]
    ]
    fill = found["original"]["fill"]
    tasks = [
        {
            "task": other.section.model_dump(mode="json"),
            "label": other.label,
            "original": found[ORIGINAL]["tasks"][place],
            "fill": fill["tasks"][place],
            "solutions": {name: found[name]["tasks"][place] for name in ids},
        }
        for place, other in enumerate(further)
    ]
    images: dict[str, Any] = {"count": _pictured(bench), "size": max(sides(bench.student.image_size))}
    images |= {
        of: {
            "solutions": {name: _picture(of, name) for name in ids},
            "dial": {name: _picture(of, name) for name in looks},
            **{title: _picture(of, title) for title in ("truth", "input", "original")},
        }
        for of in SETS
    }
    maps = recipe.evaluate.maps
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
        "front": _front(first["f1"], rows),
        "dial": {
            "kind": dial.kind,
            "stops": [
                {
                    "id": place.id,
                    "label": f"between solutions, f1 {its['f1']:.4g}",
                    "t": t,
                    "f1": its["f1"],
                    "f2": its["f2"],
                    "fraction": round((its["f1"] - bounds[0]) / (bounds[1] - bounds[0]), 6),
                }
                for place, t in places.items()
                for its in [looks[place.id]]
            ],
        },
        "original": first,
        "fill": {key: fill[key] for key in ("label", "metrics")},
        "each": _each(gauge, _pictured(bench), {"fill": fill, **found}),
        "solutions": rows,
        "tasks": tasks,
        "outside": list(outside),
        "metrics": {
            kind: {"name": kind, "failed": metric.reason} if isinstance(metric, Failed) else metric.describe()
            for kind, metric in instruments.metrics.items()
        },
        "warnings": warnings(instruments, solutions),
        "images": images,
        "maps": None if maps is None else mapped(folder, bench, maps, images, watcher),
    }


def evaluated(folder: Path, gauge: Gauge, model: Model) -> dict[str, Any]:
    """Return what is measured of a model, and write its pictures, or find both again."""
    bench = gauge.bench
    unseen: dict[str, object] = {"audits": [], "limits": [], "maps": None, "stops": 0}
    evaluate = bench.recipe.evaluate.model_copy(update=unseen)
    titles = ("truth", "input", ORIGINAL) if model.id == ORIGINAL else (model.id,)
    file = f"evaluations/{model.id}.json"
    sections: dict[str, object] = {"images": [evaluate.images]} if model.stop else {"evaluate": evaluate}
    origin = kept.origin(bench, model.digest, sections, gauge.facts)
    paths = [_picture(of, title) for of in SETS for title in titles]

    def whole(place: Path, found: Mapping[str, Any]) -> bool:
        if _failed(found):
            return False
        if changed := [one for one in paths if _hash(place / one) != found["pictures"].get(one)]:
            gauge.watcher.warn(f"{place / changed[0]}: not as it was written; it was made again")
        elif place != folder:
            for one in paths:
                write_file(folder / one, read_plain(place / one))
        return not changed

    if (known := kept.load(folder, file, origin, gauge.watcher, whole)) is not None:
        return dict(known)
    bench.put(model.part, model.theta())
    for one in paths:
        of, _, title = Path(one).stem.partition("-")
        data = BytesIO()
        _strip(gauge.originals, bench.student, of, title).save(data, "png")
        write_file(folder / one, data.getvalue())
    found: dict[str, Any] = {"pictures": {one: _hash(folder / one) for one in paths}}
    further = [Further(section) for section in evaluate.tasks]
    if model.stop or model.digest is None:
        found |= {"f1": bench.sides["forget"].exact(), "f2": bench.sides["retain"].exact()}
    if not model.stop:
        found |= _measured(gauge, further, bench.student.output)
    if model.digest is None:
        found["fill"] = _filled(gauge, further)
    kept.save(folder / file, origin, found)
    return found


def _measured(gauge: Gauge, further: Sequence[Further], output: Output) -> dict[str, object]:
    metrics, each = gauge.measure(output)
    singles = None if each is None else list(each)  # as it is when it is found again
    return {"metrics": metrics, "each": singles, "tasks": [gauge.measure_further(output, other) for other in further]}


def _filled(gauge: Gauge, further: Sequence[Further]) -> dict[str, object]:
    """Return the same of what needs no model."""
    hidden = set()

    def output(view: View) -> Tensor:
        hidden.add(bool(view.hidden.any()))
        return mean_colour_fill(view).clamp(0, 1)

    measured = _measured(gauge, further, output)
    return {"label": "mean-colour fill" if True in hidden else "input as it is", **measured}


def _each(gauge: Gauge, count: int, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the scores of single images by model, of those that were scored as the original model was."""
    if (first := found["original"].get("each")) is None:
        return None
    metric, against, sets = first
    scored = {name: each[2] for name, its in found.items() if (each := its.get("each")) and each[:2] == first[:2]}
    images = {of: gauge.bench.images[of][shown(gauge.bench, of)] for of in sets}
    return {
        "metric": metric,
        "against": against,
        **{
            of: {
                "images": [item.key for item in pixels.items],
                "shown": _shown(len(pixels), count),
                "scores": {name: each[of] for name, each in scored.items() if of in each},
            }
            for of, pixels in images.items()
        },
    }


def _pictured(bench: Workbench) -> int:
    """Return how many images of each set the report shows, no more than the smaller set has."""
    return min(bench.recipe.evaluate.images, *(len(bench.images[of][shown(bench, of)]) for of in SETS))


def _shown(total: int, count: int) -> list[int]:
    """Return which of a set's images the report shows: evenly spread, so that every class is there."""
    return [number * total // count for number in range(count)]


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
    """Return the report's images of a set side by side: `truth`, `input`, or else the model's output."""
    bench, place, split = originals.bench, 0, shown(originals.bench, name)
    rows = _shown(len(bench.images[name][split]), _pictured(bench))
    chosen = []
    with torch.no_grad():
        for view in originals.views(name, split):
            wanted = [row - place for row in rows if place <= row < place + len(view.images)]
            place += len(view.images)
            if wanted:
                images = view.truth if title == "truth" else view.images if title == "input" else model.output(view)
                chosen.append(images[wanted])
    pixels = (torch.cat(chosen).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
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
        **({"served": _served(solution, *problem.served)} if problem.served else {}),
        **({"retrained": True} if problem.retrained else {}),
        **({"brief": dict(zip(("steps", "of"), problem.brief, strict=True))} if problem.brief else {}),
    }


def _served(solution: Solution, dial: str, polish: int) -> dict[str, object]:
    return {"dial": dial, "polish": 0 if solution.facts["ended"] == "found" else polish}


def _point(solution: Solution) -> Point:
    return solution.last.f1, solution.last.f2
