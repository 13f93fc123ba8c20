"""One page to print of what was asked, what was done and what was found: no image is on it, and none is needed."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.report import limits, reading
from unlearnkit.report.drawing import asset
from unlearnkit.report.numbers import figure, one_line, percent
from unlearnkit.report.statement import Claims, forgotten, retrained, solution
from unlearnkit.report.tables import VERDICTS, audit_columns, cell, finding

NAMED = 6
"""Files of the request that are named; the hash is of all."""


def page(its: Claims, files: Mapping[str, str], keys: str, signed: bool) -> str:
    """Return the page about a solution, whose weights are in `files` with their SHA-256.

    `keys` are those of the forget set's images, one a line; `signed` says whether there is a signature.
    """
    results, manifest, model = its["results"], its["manifest"], solution(its)
    beside = [reading.original(results), model, *filter(None, [retrained(its)])]
    notes, names = list[str](), [one_line(name) for name in keys.splitlines()]
    pages = Environment(
        loader=PackageLoader("unlearnkit.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    pages.filters |= {"figure": figure, "percent": percent}
    return pages.get_template("certificate.html.j2").render(
        style=asset("certificate.css"), results=results, manifest=manifest, model=model, files=files, signed=signed,
        version=its["unlearnkit"], heads=[s["label"] for s in beside], rows=list(_rows(results, beside, notes)),
        notes=notes, samples=[f"{audit['id']}: {audit['samples']}" for audit in results["audits"] if audit["samples"]],
        judged=limits.said(results["limits"], model["id"]), limits=list(_limits(results, beside)),
        request=forgotten(its),
        names=names[:NAMED], more=max(0, len(names) - NAMED), listed=hashlib.sha256(keys.encode()).hexdigest(),
    )  # fmt: skip


def _rows(results: Any, beside: list[Any], notes: list[str]) -> Iterator[list[str]]:
    """Yield what is shown of each model: losses, scores against the truth, and what audits found."""
    yield ["forget loss f1", *(figure(s["f1"]) for s in beside)]
    yield ["retain loss f2", *(figure(s["f2"]) for s in beside)]
    for of, split, against, metric, _ in reading.scores(beside[1]):
        if against == "truth":
            name, unit = reading.name(results, metric), reading.unit(results, metric)
            what = f"{of} set, {split}: {name}" + f" ({unit})" * bool(unit)
            yield [what, *(cell(reading.score(s, of, split, against, metric), notes, name) for s in beside)]
    for audit in results["audits"]:
        scored = {"original": audit["original"], **audit["solutions"]}
        for key, column in zip(audit["figures"], audit_columns(audit), strict=True):
            what = f"{audit['id']}: {column.head}"
            yield [what, *(finding(scored[s["id"]].get(key), notes, what) for s in beside)]


def _limits(results: Any, beside: list[Any]) -> Iterator[list[str]]:
    for limit in results["limits"]:
        its = {"original": limit["original"], **limit["solutions"]}
        yield [limit["label"], *(f"{VERDICTS[its[s['id']]['kept']]}, {limits.text(its[s['id']])}" for s in beside)]
