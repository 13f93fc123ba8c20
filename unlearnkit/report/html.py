"""The page: one file that asks for nothing from outside itself."""

import base64
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.report import curves, front, reading, slider, svg, tables
from unlearnkit.report.drawing import OWN, asset, styled
from unlearnkit.report.headline import headline
from unlearnkit.report.numbers import figure, unbroken
from unlearnkit.report.provenance import provenance
from unlearnkit.report.shape import SETS, Results
from unlearnkit.report.strips import Strip, explored
from unlearnkit.report.verdict import cautions, recommended, verdict


def page(
    results: Results, manifest: dict[str, Any], strips: list[Strip], between: list[Strip], missing: list[str],
    compared: bool,
) -> str:  # fmt: skip
    """Return report.html, which names comparison.html where there is one; the strips `between` are of the dial."""
    positions = slider.positions(results)
    beside = [slider.shown(results, s) for s in reading.others(results)]
    first, why = recommended(results)
    filled = [(s["label"], s) for s in [reading.fill(results)] if s]
    beyond = [("original", reading.original(results)), *filled, *reading.first(reading.retrained(results))]
    laid, maps = front.front(results), results.get("maps")
    planes = maps["planes"] if maps else []
    with styled():
        drawn, panels = front.linked(laid), curves.panels(results)
    return rendered(
        "report", name=results["name"], data={"positions": positions, "beside": beside, "maps": planes},
        style=asset("report.css"),
        results=results, verdict=headline(results, first), told=verdict(results), compared=compared,
        cautions=[*cautions(results, manifest), *missing],
        start=next(shown for shown in (*positions, *beside) if shown["id"] == first["id"]), why=why,
        seen={of: reading.seen_images(results, of) for of in SETS}, columns=1 + int(float(positions[-1]["place"])),
        fields=slider.fields(results), valid=slider.valid(results),
        metrics=[(metric, reading.name(results, metric)) for metric in results["metrics"]], strips=strips,
        explored=explored(strips, first), marks=[(label, slider.scores(results, s)) for label, s in beyond],
        between=between, maps=maps, front=laid, drawn=drawn, hollow=svg.look(OWN["epsilon"]), panels=panels,
        lines=curves.legend(results), barred=curves.barred(results),
        legend=[(svg.look(look), text) for look, text in laid.legend()], targets=tables.targets(results),
        solutions=tables.solutions(results, manifest.get("times") or {}),
        scores={s: [tables.scores(results, of, s) for of in SETS] for s in reading.splits(results)},
        reading=tables.READING, sections=tables.sections(results), provenance=provenance(results, manifest),
        version=manifest.get("unlearnkit", ""),
    )  # fmt: skip


def rendered(sort: str, **values: Any) -> str:
    """Render one of our pages: every value is escaped, one that is missing is an error, and only its script may run."""
    loader = PackageLoader("unlearnkit.report")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"figure": figure, "unbroken": unbroken}
    script = asset("page.js") + asset(f"{sort}.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return pages.get_template(f"{sort}.html.j2").render(sort=sort, script=script, script_hash=allowed, **values)
