"""The report as Markdown, for a repository or a model card."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unlearnkit.report import reading, tables
from unlearnkit.report.headline import headline
from unlearnkit.report.numbers import one_line
from unlearnkit.report.provenance import provenance
from unlearnkit.report.shape import SETS, Results
from unlearnkit.report.tables import Table
from unlearnkit.report.verdict import cautions, recommended, verdict

CAPTIONS = {
    "front.png": "Pareto front: forget loss f1 and retain loss f2 of every solution",
    "convergence.png": "Convergence: f1, f2 and λ over the steps; dots are values on the whole training sets",
    "montage.png": "The same images under every solution",
}


def text(results: Results, manifest: dict[str, Any], plots: list[Path], missing: list[str], compared: bool) -> str:
    """Return report.md; plots, and the comparison where there is one, are linked relative to it."""
    solutions = tables.solutions(results, manifest.get("times") or {})
    first, why = recommended(results)
    blocks = [f"# {plain(results['name'])}", *map(plain, (headline(results, first), why, verdict(results)))]
    blocks += [_listed(f"**Warning:** {plain(c)}" for c in [*cautions(results, manifest), *missing])]
    blocks += [f"![{CAPTIONS[plot.name]}](plots/{plot.name})" for plot in plots]
    if compared:
        blocks += ["Hypervolumes, costs and the gap to a retrained model: [comparison.md](comparison.md)."]
    if targets := tables.targets(results):
        blocks += ["## Targets", *titled(targets)[1:]]
    blocks += ["## Solutions", table(solutions), _meanings(solutions)]
    scores = [tables.scores(results, of, split) for split in reading.splits(results) for of in SETS]
    metrics = [("Metrics", tables.READING, scores)] if results["metrics"] else []
    for title, about, shown in metrics + tables.sections(results):
        blocks += [f"## {title}", about, *(block for one in shown for block in titled(one))]
    blocks += ["## Provenance"]
    for title, facts in provenance(results, manifest):
        blocks += [f"### {title}", _listed(f"{plain(term)}: {plain(fact)}" for term, fact in facts)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def titled(shown: Table) -> list[str]:
    """Return the blocks of a table: heading, what it is about, itself, what its columns mean, its notes."""
    notes = _listed(f"[{i}] {plain(note)}" for i, note in enumerate(shown.notes, 1))
    return [f"### {plain(shown.title)}", *map(plain, shown.about), table(shown), _meanings(shown), notes]


def table(shown: Table) -> str:
    """Return a table; a column under a shared heading carries it."""
    heads, *rows = ([plain(text) for text in row] for row in ([c.whole for c in shown.columns], *shown.rows))
    for row, column in shown.best:
        rows[row][column] = f"**{rows[row][column]}**"
    rule = [":--", *["--:"] * (len(shown.columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


def plain(value: str) -> str:
    """Escape what Markdown or HTML would read as markup, there or at the start of a line, and keep it on one line."""
    text = one_line(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|#$~])", r"\\\1", text)
    return re.sub(r"^(\d*)([-+.)](?= |-|$)|[=:](?=[=:]|$))", r"\1\\\2", text)


def _meanings(shown: Table) -> str:
    return _listed(f"**{plain(c.head)}**: {plain(c.meaning)}" for c in shown.columns if c.meaning)


def _listed(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
