"""The report as Markdown, for a repository or a model card."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unlearnkit.report import results as shape
from unlearnkit.report import tables
from unlearnkit.report.provenance import provenance
from unlearnkit.report.results import Results
from unlearnkit.report.tables import Table
from unlearnkit.report.verdict import cautions, verdict

CAPTIONS = {
    "front.png": "Pareto front: forget loss f1 and retain loss f2 of every solution",
    "convergence.png": "Convergence: f1, f2 and λ over the steps; dots are values on the whole training sets",
    "montage.png": "The same images under every solution",
}


def text(
    results: Results, manifest: dict[str, Any], plots: list[Path], missing: list[str], compared: bool = False
) -> str:
    """Return report.md; plots, and the comparison where there is one, are linked relative to it."""
    blocks = [f"# {plain(results['name'])}", plain(verdict(results))]
    blocks += [_listed(f"**Warning:** {plain(c)}" for c in [*cautions(results), *missing])]
    blocks += [f"![{CAPTIONS[plot.name]}](plots/{plot.name})" for plot in plots]
    if compared:
        blocks += ["Hypervolumes, costs and the gap to a retrained model: [comparison.md](comparison.md)."]
    solutions = tables.solutions(results, manifest.get("times") or {})
    blocks += ["## Solutions", table(solutions)]
    blocks += [_meanings(solutions)]
    if shape.metric_names(results):
        blocks += ["## Metrics", tables.READING]
    for split in shape.splits(results):
        for of in shape.SETS if shape.metric_names(results) else ():
            scores = tables.scores(results, of, split)
            blocks += titled(scores)
    if others := tables.further(results):
        blocks += ["## Other tasks", tables.FURTHER]
        blocks += [block for shown in others for block in titled(shown)]
    if audits := tables.audits(results):
        blocks += ["## Audits", tables.AUDITING]
        blocks += [block for shown in audits for block in titled(shown)]
    blocks += ["## Provenance"]
    for title, facts in provenance(results, manifest):
        blocks += [f"### {title}", _listed(f"{plain(term)}: {plain(fact)}" for term, fact in facts)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def titled(shown: Table) -> list[str]:
    """Return the blocks of a table: heading, what it is about, itself, what its columns mean, its notes."""
    notes = _listed(f"[{i}] {plain(note)}" for i, note in enumerate(shown.notes, 1))
    about = [plain(text) for text in shown.about]
    return [f"### {plain(shown.title)}", *about, table(shown), _meanings(shown), notes]


def table(shown: Table) -> str:
    """Return a table; a column under a shared heading carries it."""
    heads = [c.whole for c in shown.columns]
    rows = [heads, [":--", *["--:"] * (len(heads) - 1)], *shown.rows]
    rule = 1
    return "\n".join(f"| {' | '.join(r if i == rule else map(plain, r))} |" for i, r in enumerate(rows))


def plain(value: str) -> str:
    """Escape what Markdown or HTML would read as markup, and keep the text on one line."""
    one_line = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", one_line)


def _meanings(shown: Table) -> str:
    return _listed(f"**{plain(c.head)}**: {plain(c.meaning)}" for c in shown.columns if c.meaning)


def _listed(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
