"""The limits that a recipe sets its figures: which of them a model keeps, and what may be said of it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from unlearnkit.report import reading
from unlearnkit.report.shape import Finding, Held, Limit, Results
from unlearnkit.report.tables import finding


def held(limits: Sequence[Mapping[str, Any]], results: Any) -> list[Limit]:
    """Return `evaluate.limits` with the figure of every model, and whether it keeps them."""
    models = [reading.original(results), *results["solutions"]]
    entries = list[Limit]()
    for limit in limits:
        found = {model["id"]: _found(results, model, limit["figure"]) for model in models}
        kept: dict[str, Held] = {name: {"found": its, "kept": _kept(limit, its)} for name, its in found.items()}
        facts: Any = {**limit, "label": _label(limit, results), "original": kept.pop("original"), "solutions": kept}
        entries.append(facts)
    return entries


def said(limits: Sequence[Limit], model: str) -> str:
    """Say in a sentence or two which limits a model of an id keeps, and which speak against it with their figures."""
    if not limits:
        return "The recipe sets no limits, so nothing is judged here."
    models = [{"original": limit["original"], **limit["solutions"]} for limit in limits]
    its = [(limit["label"], of[model]) for limit, of in zip(limits, models, strict=True)]
    broken = [f"{label} (found {text(held)})" for label, held in its if held["kept"] is False]
    open_ = [f"{label} ({text(held)})" for label, held in its if held["kept"] is None]
    kept = f"{len(its) - len(broken) - len(open_)} of {len(its)} limits of the recipe kept"
    against = f"BROKEN: {'; '.join(broken)}" if broken else ""
    return "; ".join(filter(None, [kept, against, f"not to be told: {'; '.join(open_)}" if open_ else ""])) + "."


def text(its: Held) -> str:
    """Write the figure that was held against a limit, or why there is none."""
    value: Any = its["found"]
    return f"failed: {value['failed']}" if isinstance(value, dict) and "failed" in value else finding(value, [], "")


def _found(results: Results, model: Any, figure: str) -> Finding:
    match figure.split("/"):
        case [audit, name]:
            entry = next(entry for entry in results["audits"] if entry["id"] == audit)
            its = entry["original"] if model["id"] == "original" else entry["solutions"][model["id"]]
            return its.get(name)
        case [of, split, against, metric]:
            return reading.score(model, of, split, against, metric)
        case _:
            return cast("Finding", model[figure])


def _kept(limit: Mapping[str, Any], value: Finding) -> bool | None:
    """Tell whether a figure keeps a limit; None where there is none, or a count that ended before the bound."""
    low, high = limit["at_least"], limit["at_most"]
    match value:
        case {"over": over} if high is not None:
            return False if over >= high else None
        case {"over": over}:
            return True if over >= low else None
        case int() | float():
            return (low is None or value >= low) and (high is None or value <= high)
        case _:
            return None


def _label(limit: Mapping[str, Any], results: Results) -> str:
    match limit["figure"].split("/"):
        case [audit, name]:
            entry = next(entry for entry in results["audits"] if entry["id"] == audit)
            figures = entry["figures"]
            what, unit = (f"{audit} {figures[name]['name']}", figures[name]["unit"]) if name in figures else (audit, "")
        case [of, split, against, metric]:
            what, unit = f"{of} {split} {reading.name(results, metric)}", reading.unit(results, metric)
            what += " (against the original)" if against == "original" else ""
        case _:
            what, unit = limit["figure"], ""
    signs = (("≥", limit["at_least"]), ("≤", limit["at_most"]))
    bounds = " and ".join(f"{sign} {bound:g}" for sign, bound in signs if bound is not None)
    return f"{what} {bounds} {unit}".rstrip()
