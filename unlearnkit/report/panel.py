"""What the page shows next to the pictures for each position of the slider."""

from typing import TypedDict

from unlearnkit.report import results as shape
from unlearnkit.report.numbers import NONE, agreed, figure, percent, unbroken, whole
from unlearnkit.report.results import Results, Solution
from unlearnkit.report.tables import cell
from unlearnkit.report.verdict import name

FIELDS = ("epsilon", "f1", "gap", "satisfied", "f2", "lam", "steps", "ended")


class Shown(TypedDict):
    """One position: all text that changes with it."""

    id: str
    label: str
    tick: str
    note: str
    spoken: str
    fields: dict[str, str]


def positions(results: Results) -> list[Shown]:
    """Return the slider's positions, from nothing forgotten to the most complete forgetting."""
    return [_shown(results, s) for s in shape.stops(results)]


def beside(results: Results) -> list[Shown]:
    """Return what can be shown but has no place on the slider: the methods run for comparison."""
    return [_shown(results, s) for s in shape.others(results)]


def _shown(results: Results, s: Solution) -> Shown:
    fields = {
        "epsilon": figure(s.get("epsilon")),
        "f1": figure(s["f1"]),
        "gap": percent(s.get("gap")),
        "satisfied": agreed(s.get("satisfied")),
        "f2": figure(s["f2"]),
        "lam": figure(s.get("lam")),
        "steps": whole(s.get("steps")),
        "ended": s.get("ended") or NONE,
    }
    for of in shape.SETS:
        for against in ("truth", "original"):
            for metric in shape.metric_names(results):
                score = shape.score(s, of, "validation", against, metric)
                text = cell(score, [], name(results, metric)).partition(" [")[0]
                fields[f"{of}/{against}/{metric}"] = text
    tick, note = _tick(s)
    spoken = f"{s['label']}: f1 {fields['f1']}, f2 {fields['f2']}"
    if isinstance(kept := s.get("satisfied"), bool):
        spoken += ", satisfied" if kept else ", not satisfied"
    label = unbroken(s["label"])
    return {"id": s["id"], "label": label, "tick": tick, "note": note, "spoken": spoken, "fields": fields}


def _tick(s: Solution) -> tuple[str, str]:
    ends = {"original": ("original", "model"), "boundary-lowest": ("lowest", "boundary")}
    ends["boundary-highest"] = ("highest", "boundary")
    return ends.get(s["id"]) or (figure(s.get("epsilon"), 3), percent(s.get("fraction"), signed=False).strip("—"))
