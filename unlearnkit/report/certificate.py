"""One page to print of what was asked, what was done and what was found: no image is on it, and none is needed."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.report import limits, reading
from unlearnkit.report.drawing import asset
from unlearnkit.report.numbers import figure, one_line, percent
from unlearnkit.report.statement import Claims, forgotten, solution
from unlearnkit.report.tables import VERDICTS, audit_columns, cell, finding

NAMED = 4
"""Files of the request that are named; the hash is of all."""
SIZE, ROWS = 8.4, 20
"""The size of letters in points, and rows of the table beyond which it shrinks, so that all prints on one page."""


def page(its: Claims, files: Mapping[str, str], keys: str, signed: bool) -> str:
    """Return the page about a solution, whose weights are in `files` with their SHA-256.

    `keys` are those of the forget set's images, one a line behind its hash; `signed` says whether there is a signature.
    """
    results, manifest, model = its["results"], its["manifest"], solution(its)
    headed = [(s["label"], s) for s in (reading.original(results), model)]
    headed += reading.first(reading.retrained(results, model["id"]))
    beside = [s for _, s in headed]
    notes, names = list[str](), [one_line(re.sub("^[0-9a-f]{64}  ", "", line)) for line in keys.splitlines()]
    rows, bounds = list(_rows(results, beside, notes)), list(_limits(results, beside, notes))
    size = round(SIZE * min(1, (30 + ROWS) / (30 + len(rows) + len(bounds))), 2)  # some 30 lines are beside it
    pages = Environment(
        loader=PackageLoader("unlearnkit.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    pages.filters.update(figure=figure, percent=percent)
    return pages.get_template("certificate.html.j2").render(
        style=asset("certificate.css"), results=results, manifest=manifest, model=model, files=files, signed=signed,
        version=its["unlearnkit"], heads=[head for head, _ in headed], rows=rows, size=size,
        notes=notes, samples=[f"{audit['id']}: {audit['samples']}" for audit in results["audits"] if audit["samples"]],
        judged=limits.said(results["limits"], model["id"]), limits=bounds,
        request=forgotten(its),
        names=names[:NAMED], more=max(0, len(names) - NAMED), listed=hashlib.sha256(keys.encode()).hexdigest(),
    )  # fmt: skip


def _rows(results: Any, beside: list[Any], notes: list[str]) -> Iterator[list[str]]:
    """Yield what is shown of each model: losses, scores against the truth, and what audits found of forgetting."""
    yield ["forget loss f1", *(figure(s["f1"]) for s in beside)]
    yield ["retain loss f2", *(figure(s["f2"]) for s in beside)]
    for of, split, against, metric, _ in reading.scores(beside[1]):
        if against == "truth":
            name, unit = reading.name(results, metric), reading.unit(results, metric)
            what = f"{of} set, {split}: {name}" + f" ({unit})" * bool(unit)
            yield [what, *(cell(reading.score(s, of, split, against, metric), notes, name) for s in beside)]
    for audit in results["audits"]:
        scored = {"original": audit["original"], **audit["solutions"]}
        for (key, its), column in zip(audit["figures"].items(), audit_columns(audit), strict=True):
            if its["forgotten"] is None:
                continue
            what = f"{audit['id']}: {column.head}"
            yield [what, *(finding(scored[s["id"]].get(key), notes, what) for s in beside)]


def _limits(results: Any, beside: list[Any], notes: list[str]) -> Iterator[list[str]]:
    for limit in results["limits"]:
        held = {"original": limit["original"], **limit["solutions"]}
        its, what = [held[s["id"]] for s in beside], limit["label"]
        yield [what, *(f"{VERDICTS[one['kept']]}, {finding(one['found'], notes, what)}" for one in its)]
