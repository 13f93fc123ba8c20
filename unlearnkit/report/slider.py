"""The slider: the places that it passes, and all that the page shows at each of them."""

from itertools import product

from unlearnkit.fronts import HIGHEST, LOWEST
from unlearnkit.report import reading, tables
from unlearnkit.report.numbers import NONE, figure, known, percent, unbroken
from unlearnkit.report.shape import SETS, Results, Solution

FIELDS = {"epsilon": "ε", "f1": "forget loss f1", "gap": "gap (f1 − ε) / ε", "satisfied": "ε satisfied",
          "f2": "retain loss f2", "lam": "multiplier λ", "steps": "steps", "ended": "ended"}  # fmt: skip
"""The facts of a solution that stand next to its pictures, and their labels."""
DIALLED = {"fraction": "fraction", "dial": "found on"}
"""Those that a run with a dial has beside them."""
TICKS = {"original": ("original", "model"), LOWEST: ("lowest", "boundary"), HIGHEST: ("highest", "boundary")}


def fields(results: Results) -> dict[str, str]:
    """Return the facts that stand next to the pictures, and their labels."""
    return FIELDS | DIALLED if "dial" in results else FIELDS


def positions(results: Results) -> list[dict[str, str]]:
    """Return what is shown at each place: the models solved side by side, and the dial's stops between neighbours."""
    solved = reading.solved(results)
    behind: list[list[Solution]] = [[] for _ in solved]
    for stop in reading.stops(results):
        looser = [s for s in solved[1:] if known(f1 := s["f1"]) and known(own := stop["f1"]) and f1 > own]
        behind[len(looser)].append(stop)
    passed: list[dict[str, str]] = []
    for number, (model, stops) in enumerate(zip(solved, behind, strict=True)):
        passed.append(shown(results, model) | _tick(model) | {"place": str(number)})
        parts = len(stops) + (number + 1 < len(solved))  # what is tighter than any of them ends the slider
        for part, stop in enumerate(stops, 1):
            passed.append(shown(results, stop) | {"place": f"{number + part / parts:.3f}"})
    return passed


def valid(results: Results) -> list[int]:
    """Return the places that the valid range lies between: of the lowest and of the highest completeness."""
    ids = [s["id"] for s in reading.solved(results)]
    return [ids.index(end) for end in (LOWEST, HIGHEST) if end in ids] if "dial" in results else []


def shown(results: Results, s: Solution) -> dict[str, str]:
    """Return all text that changes with the solution or the stop shown, by the field of the page that it stands in."""
    stop, told = "t" in s, tables.facts(s)
    if dial := results.get("dial"):
        kind = dial["kind"] if stop else s["served"]["dial"] if "served" in s else None
        told["dial"] = f"the {kind}" if kind else NONE
    said = {key: told[key] for key in fields(results)}
    said |= scores(results, s)
    kept = {"yes": ", satisfied", "no": ", not satisfied", NONE: ""}[said["satisfied"]]
    if target := s.get("target"):
        kept = ", target met" if target["met"] else ", target not met"
    if stop:
        kept = f", at {told['fraction']} of the valid range"
    spoken = f"{'between solutions' if stop else s['label']}: f1 {said['f1']}, f2 {said['f2']}{kept}"
    return said | {"id": s["id"], "label": unbroken(s["label"]), "spoken": spoken}


def scores(results: Results, s: Solution) -> dict[str, str]:
    """Return what a model scores on the halves that pictures are of, and on each picture, by the page's field."""
    said = {}
    for of, against, metric in product(SETS, ("truth", "original"), results["metrics"]):
        score = reading.score(s, of, reading.seen(results, of), against, metric)
        said[f"{of}/{against}/{metric}"] = tables.cell(score, [], metric).partition(" [")[0]
    for of in SETS:
        if (its := reading.singles(results, of)) is not None:
            each = its["scores"].get(s["id"])
            said |= {f"{of}/{i}": NONE if each is None else figure(each[row], 3) for i, row in enumerate(its["shown"])}
    return said


def _tick(s: Solution) -> dict[str, str]:
    """Return the text of a model's tick in two lines, and how a target's is marked."""
    fraction = percent(s.get("fraction"), signed=False).strip(NONE)
    if target := s.get("target"):
        return {"tick": target["kind"], "note": fraction, "aim": "met" if target["met"] else "missed"}
    tick, note = TICKS.get(s["id"]) or (figure(s.get("epsilon"), 3), fraction)
    return {"tick": tick, "note": note, "aim": ""}
