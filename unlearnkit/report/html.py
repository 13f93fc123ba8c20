"""The page: one file that asks for nothing from outside itself."""

import base64
import hashlib
from itertools import product
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.fronts import HIGHEST, LOWEST
from unlearnkit.report import curves, front, reading, svg, tables
from unlearnkit.report.drawing import OWN, asset, styled
from unlearnkit.report.numbers import NONE, figure, percent, unbroken
from unlearnkit.report.provenance import provenance
from unlearnkit.report.shape import SETS, Results, Solution
from unlearnkit.report.strips import Strip
from unlearnkit.report.verdict import cautions, tightest, verdict

FIELDS = {"epsilon": "ε", "f1": "forget loss f1", "gap": "gap (f1 − ε) / ε", "satisfied": "ε satisfied",
          "f2": "retain loss f2", "lam": "multiplier λ", "steps": "steps", "ended": "ended"}  # fmt: skip
"""The facts of a solution that stand next to its pictures, and their labels."""
TICKS = {"original": ("original", "model"), LOWEST: ("lowest", "boundary"), HIGHEST: ("highest", "boundary")}


def page(results: Results, manifest: dict[str, Any], strips: list[Strip], missing: list[str], compared: bool) -> str:
    """Return report.html, which names comparison.html where there is one."""
    positions, beside = ([_shown(results, s) for s in of(results)] for of in (reading.stops, reading.others))
    first = (tightest(results) or reading.original(results))["id"]
    laid = front.front(results)
    with styled():
        drawn, panels = front.linked(laid), curves.panels(results)
    return rendered(
        "report", name=results["name"], data={"positions": positions, "beside": beside}, style=asset("report.css"),
        results=results, verdict=verdict(results), compared=compared,
        cautions=[*cautions(results, manifest), *missing],
        start=next(shown for shown in (*positions, *beside) if shown["id"] == first), fields=FIELDS,
        metrics=[(metric, reading.name(results, metric)) for metric in results["metrics"]], strips=strips, front=laid,
        drawn=drawn, legend=[(svg.look(look), text) for look, text in laid.legend()], hollow=svg.look(OWN["epsilon"]),
        panels=panels, solutions=tables.solutions(results, manifest.get("times") or {}),
        scores={s: [tables.scores(results, of, s) for of in SETS] for s in reading.splits(results)},
        reading=tables.READING, sections=tables.sections(results), provenance=provenance(results, manifest),
        version=manifest.get("unlearnkit", ""),
    )  # fmt: skip


def _shown(results: Results, s: Solution) -> dict[str, str]:
    """Return all text that changes with the solution shown, by the field of the page that it stands in."""
    fields = {key: text for key, text in tables.facts(s).items() if key in FIELDS}
    for of, against, metric in product(SETS, ("truth", "original"), results["metrics"]):
        score = reading.score(s, of, "validation", against, metric)
        fields[f"{of}/{against}/{metric}"] = tables.cell(score, [], metric).partition(" [")[0]
    fraction = percent(s.get("fraction"), signed=False).strip(NONE)
    tick, note = TICKS.get(s["id"]) or (figure(s.get("epsilon"), 3), fraction)
    kept = {"yes": ", satisfied", "no": ", not satisfied", NONE: ""}[fields["satisfied"]]
    spoken = f"{s['label']}: f1 {fields['f1']}, f2 {fields['f2']}{kept}"
    return fields | {"id": s["id"], "label": unbroken(s["label"]), "tick": tick, "note": note, "spoken": spoken}


def rendered(sort: str, **values: Any) -> str:
    """Render one of our pages: every value is escaped, one that is missing is an error, and only its script may run."""
    loader = PackageLoader("unlearnkit.report")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"figure": figure, "unbroken": unbroken}
    script = asset("page.js") + asset(f"{sort}.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return pages.get_template(f"{sort}.html.j2").render(sort=sort, script=script, script_hash=allowed, **values)
