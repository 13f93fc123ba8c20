"""The page: one file that asks for nothing from outside itself."""

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.report import curves, front, panel, tables
from unlearnkit.report import results as shape
from unlearnkit.report.numbers import figure, unbroken
from unlearnkit.report.provenance import provenance
from unlearnkit.report.results import Results
from unlearnkit.report.strips import Strip
from unlearnkit.report.verdict import cautions, name, tightest, verdict

PIXELATED_SIDE = 40
"""Smaller squares are shown with hard pixels: blurring them twofold would invent what the model did not draw."""


def page(
    results: Results, manifest: dict[str, Any], strips: list[Strip], missing: list[str], compared: bool = False
) -> str:
    """Return report.html, which names comparison.html where there is one."""
    script, style = asset("report.js"), asset("report.css")
    first = tightest(results) or shape.original(results)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            results=results,
            verdict=verdict(results),
            compared=compared,
            cautions=[*cautions(results), *missing],
            positions=panel.positions(results),
            beside=panel.beside(results),
            fields=panel.FIELDS,
            first=first["id"],
            metrics=[(metric, name(results, metric)) for metric in shape.metric_names(results)],
            strips={of: [strip for strip in strips if strip.set == of] for of in shape.SETS},
            front=front,
            plot=front.front(results),
            curves=curves,
            panels=curves.panels(results),
            solutions=tables.solutions(results, manifest.get("times") or {}),
            scores={s: [tables.scores(results, of, s) for of in shape.SETS] for s in shape.splits(results)},
            reading=tables.READING,
            further=tables.further(results),
            beside_training=tables.FURTHER,
            audits=tables.audits(results),
            auditing=tables.AUDITING,
            provenance=provenance(results, manifest),
            version=manifest.get("unlearnkit", ""),
            script=script,
            style=style,
            script_hash=allowed(script),
            pixelated=PIXELATED_SIDE,
        )
    )


def environment() -> Environment:
    """Return what renders the templates: every value is escaped, and one that is missing is an error."""
    found = Environment(
        loader=PackageLoader("unlearnkit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"figure": figure, "unbroken": unbroken}
    return found


def allowed(script: str) -> str:
    """Return the hash by which a page's policy lets its one script run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def asset(file: str) -> str:
    """Return a script or a style sheet of ours."""
    return (resources.files("unlearnkit.report") / "templates" / file).read_text(encoding="utf-8")
