"""Compute the figures that are claimed of a model again, by the code that made them, and compare both."""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from unlearnkit.contracts import Failed, Part
from unlearnkit.evaluation.audits import celled, entry
from unlearnkit.evaluation.instruments import Instruments, Watcher, beside, tried
from unlearnkit.evaluation.measure import Gauge
from unlearnkit.evaluation.originals import Originals
from unlearnkit.report import reading
from unlearnkit.report.limits import held
from unlearnkit.report.statement import Claims
from unlearnkit.solver.problem import TOLERANCE, gap
from unlearnkit.solver.workbench import Workbench

CLOSE, SMALL = 1e-3, 1e-3
"""How far a figure may lie from the one that is claimed, as a part of it, or where it is smaller of `SMALL`: what other
machines and libraries make of the same weights."""
LOOKED_AT = ("f1", "f2", "gap", "satisfied", "metrics")

Figures = dict[str, Any]


def again(
    its: Claims, bench: Workbench, tools: Instruments, watcher: Watcher, models: Mapping[str, tuple[Part, Tensor]]
) -> Figures:
    """Return the figures of models, `original` among them, by id, as `claimed` has those of the claims.

    A model comes as the weights of a part; all else is the original's. Audits that need retrained models which are not
    among them are left out.
    """
    gold = [s["id"] for s in reading.retrained(its["results"]) if s["id"] in models]
    gauge = Gauge(Originals(bench), tools, watcher)
    epsilons = {s["id"]: s.get("epsilon") for s in its["results"]["solutions"]}
    found, cells = dict[str, Any](), {name: dict[str, Any]() for name in tools.audits}
    for name, (part, theta) in models.items():
        bench.put(part, theta)
        f1, f2 = (bench.sides[side].exact() for side in ("forget", "retain"))
        found[name] = {"id": name, "f1": f1, "f2": f2, "metrics": gauge.measure(bench.student.output)[0]}
        if (epsilon := epsilons.get(name)) is not None:
            off = gap(f1, epsilon)
            found[name] |= {"gap": off, "satisfied": off <= TOLERANCE}
        for kind, (_, audit) in tools.audits.items():
            bench.put(part, theta)
            others = {one: models[one] for one in beside(audit, gold) if one != name and one in models}
            cell = audit if isinstance(audit, Failed) else tried(partial(celled, audit, bench, watcher, others))
            cells[kind][name] = {"failed": cell.reason} if isinstance(cell, Failed) else cell
    results: dict[str, Any] = {
        "original": found.pop("original"),
        "solutions": list(found.values()),
        "metrics": its["results"]["metrics"],
        "audits": [entry(bench, kind, *tools.audits[kind], cells[kind]) for kind in tools.audits],
        "sets": {
            name: {"classes": list(part.classes), "train": len(part.train), "validation": len(part.validation)}
            for name, part in bench.chosen.items()
        },
    }
    results["limits"] = held([limit.model_dump() for limit in bench.recipe.evaluate.limits], results)
    return _figures(results, list(found), _data(its, bench), unheld(its, tools, models))


def _data(its: Claims, bench: Workbench) -> object:
    """Return what is found of the data, as the claims have it: 0.2.0 hashed the pixels of a set in another way."""
    found = bench.facts["data"]
    said, now = (_digests(data) for data in (its["manifest"]["data"], found))
    return found if said == now or said != _digests(before := bench.data_before()) else before


def _digests(data: Any) -> dict[str, str]:
    return {source["set"]: source["digest"] for source in data}


def unheld(its: Claims, tools: Instruments, models: Mapping[str, object]) -> set[str]:
    """Return the audits whose figures hang on shadow models, or on other models, that are not there."""
    waiting = tools.waiting([s["id"] for s in reading.retrained(its["results"])])
    shadowed = {name for name, (_, audit) in tools.audits.items() if not isinstance(audit, Failed) and audit.shadows}
    return shadowed | {name for name, waits in waiting.items() if {*waits} - models.keys()}


def claimed(its: Claims, models: Mapping[str, object], without: Collection[str] = ()) -> Figures:
    """Return the figures that are claimed of models, by what they are, `without` those of some audits."""
    every = [name for name in models if name != "original"]
    return _figures(its["results"], every, its["manifest"]["data"], without)


def _figures(results: Any, models: list[str], data: Any, without: Collection[str]) -> Figures:
    rows = {row["id"]: row for row in [reading.original(results), *results["solutions"]]}

    def of(its: Mapping[str, Any]) -> dict[str, Any]:
        return {"original": its["original"], **{name: its["solutions"][name] for name in models}}

    names = ("original", *models)
    return {
        **{name: {key: its for key in LOOKED_AT if (its := rows[name].get(key)) is not None} for name in names},
        "audits": {
            audit["id"]: {"images": audit["samples"], **of(audit)}
            for audit in results["audits"]
            if audit["id"] not in without
        },
        "limits": {
            limit["label"]: of(limit) for limit in results["limits"] if limit["figure"].partition("/")[0] not in without
        },
        "sets": results["sets"],
        "data": {source["set"]: {key: source[key] for key in ("digest", "files", "files_sha256")} for source in data},
    }


def compared(claimed: object, found: object, what: str = "") -> Iterator[tuple[str, float, str]]:
    """Yield each figure that is claimed or found: its name, how far both are apart, and what is wrong, if so."""
    if isinstance(claimed, Mapping) and isinstance(found, Mapping):
        for key in claimed.keys() | found.keys():
            yield from compared(claimed.get(key), found.get(key), f"{what}, {key}".removeprefix(", "))
        return
    numbers = [one for one in (claimed, found) if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) == 2:
        one, other = numbers
        apart = abs(one - other) / max(abs(one), abs(other), SMALL)
        close = apart <= CLOSE
    else:
        apart, close = 0.0, claimed == found
    wrong = f"claimed is {claimed}, and {found} was found"
    if claimed is None or found is None:
        wrong = "it is found, and not claimed" if claimed is None else "it is claimed, and not measured with this data"
    yield what, apart, "" if close else wrong
