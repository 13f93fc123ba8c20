"""The tables of a comparison: numbers that are still numbers, one for each seed, and how they are written."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import StringIO
from itertools import accumulate, groupby

from unlearnkit.report import reading
from unlearnkit.report.comparison.compare import CONFIDENCE, Comparison
from unlearnkit.report.comparison.points import GAP, LOSSES, Axis, Point, Spread
from unlearnkit.report.controllability import controlled
from unlearnkit.report.numbers import NONE, agreed, figure, one_line
from unlearnkit.report.shape import SETS, Finding, Results
from unlearnkit.report.tables import Column, Table, audit_columns, finding, pointer

Cell = str | Spread
Rows = list[list[Cell]]
Audited = dict[str, dict[str, Finding]]
SOLUTION, SETTING = Column("solution"), Column("setting")
DASH = f"{NONE}: the method has none, or one seed has no spread, or seeds that do not differ show no noise."


@dataclass(frozen=True)
class Grid:
    """Cells under columns; `notes` are reasons of failures and what a dash means.

    Where the second column is `SETTING`, its rows form a block for each, which LaTeX has under a heading of its own.
    """

    id: str
    title: str
    said: str
    heads: list[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    """Row and column of the best cells."""

    def text(self) -> Table:
        """Return it as text: mean ± sample standard deviation over the seeds; dashes are explained where they are."""
        rows = [[spread(cell) if isinstance(cell, Spread) else cell for cell in row] for row in self.rows]
        dashes = any(cell == NONE for row in rows for cell in row)
        notes = [note for note in self.notes if dashes or not note.startswith(f"{NONE}:")]
        return Table(self.title, self.heads, rows, [str(i) for i in range(len(rows))], notes, best=self.best)

    def csv(self) -> str:
        """Return it with means and deviations in columns of their own, at full precision; what is unknown is empty.

        Where a number lacks in some of the seeds, a column says in how many each is known.
        """
        heads = [head.whole for head in self.heads]
        spreads = [[cell for cell in column if isinstance(cell, Spread)] for column in zip(*self.rows, strict=True)]
        widths = [1 + bool(its) + any(value.partial for value in its) for its in spreads]
        lines: list[list[tuple[object, ...]]] = [[(h, f"{h}: std", f"{h}: seeds") for h in heads]]
        lines += [
            [(c.mean, c.std, len(c.known)) if isinstance(c, Spread) else (c, None, None) for c in row]
            for row in self.rows
        ]
        stream = StringIO()
        rows = ([value for cell, width in zip(line, widths, strict=True) for value in cell[:width]] for line in lines)
        csv.writer(stream, lineterminator="\n").writerows(map(plain_cell, row) for row in rows)
        return stream.getvalue()

    def latex(self) -> str:
        """Return it as a table of booktabs; its caption says what the page says of it."""
        shown, blocks = self.text(), SETTING in self.heads
        cells = [[escaped(text) for text in row] for row in shown.rows]
        for row, column in shown.best:
            cells[row][column] = rf"\textbf{{{cells[row][column]}}}"
        names = [row.pop(1) if blocks else "" for row in cells]
        columns = [column for column in shown.columns if column != SETTING]
        groups = replace(shown, columns=columns).groups()
        ends = list(accumulate(span for _, span in groups))
        body = [_line(_across(span, "c", escaped(group)) for group, span in groups)] if groups else []
        places = ((end - span + 1, end) for (group, span), end in zip(groups, ends, strict=True) if group)
        body += [rf"\cmidrule(lr){{{first}-{last}}}" for first, last in places]
        body += [_line(escaped(column.head) for column in columns)]
        for name, rows in groupby(zip(names, cells, strict=True), key=lambda row: row[0]):
            body += [r"\midrule", *[_line([_across(len(columns), "l", name)])] * blocks]
            body += [_line(row) for _, row in rows]
        caption = escaped(" ".join([f"{self.title}.", self.said, *shown.notes]))
        return "\n".join([
            "% needs booktabs and graphicx, and XeLaTeX or LuaLaTeX for letters that are neither of Latin nor of Greek",
            r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{self.id}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule", *body, r"\bottomrule",
            r"\end{tabular}}", r"\end{table}", "",
        ])  # fmt: skip


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _across(span: int, side: str, text: str) -> str:
    return rf"\multicolumn{{{span}}}{{{side}}}{{{text}}}"


def spread(value: Spread) -> str:
    """Write mean ± standard deviation, and of how many seeds where it is not of all."""
    of = f" ({len(value.known)} of {len(value.each)} seeds)" if value.partial else ""
    if value.mean is None or value.std is None:
        return figure(value.mean) + of
    digits = min(max(2, len(f"{value.std:.0f}")), 4)  # no power of ten where the mean has none
    return f"{figure(value.mean)} ± {figure(value.std, digits)}{of}"


def plain_cell(value: object) -> object:
    """Return a cell of a CSV file: a text that a spreadsheet would take for a formula starts with an apostrophe."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    with suppress(ValueError):
        float(text)
        return text
    return f"'{text}" if text[:1] in tuple("=+-@＝＋－＠") else text


SIGNS = {
    "±": r"\pm", "−": "-", "·": r"\cdot", "×": r"\times", "√": r"\surd", "∇": r"\nabla", "‖": r"\|", "⊥": r"\perp",
    "≤": r"\le", "≥": r"\ge", "∞": r"\infty", "↑": r"\uparrow", "↓": r"\downarrow", "→": r"\to", "²": "^2",
    "½": r"\frac12", "Δ": r"\Delta", "Σ": r"\Sigma", "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta",
    "ε": r"\varepsilon", "η": r"\eta", "θ": r"\theta", "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu", "π": r"\pi",
    "σ": r"\sigma", "φ": r"\varphi", "ψ": r"\psi",
}  # fmt: skip
WORDS = {"\\": "backslash", "^": "asciicircum", "~": "asciitilde", "<": "less", ">": "greater", "|": "bar"}
LATEX = {
    **{sign: f"${mathematics}$" for sign, mathematics in SIGNS.items()},
    **{sign: f"\\text{word}{{}}" for sign, word in WORDS.items()},
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    NONE: "--",
}
"""How LaTeX gets what it reads as markup, and the signs it has no letters for."""


def escaped(text: str) -> str:
    """Return a text as a cell of LaTeX, whose first sign is no argument of the line before it."""
    text = re.sub("|".join(map(re.escape, LATEX)), lambda sign: LATEX[sign[0]], one_line(text))
    return re.sub(r"^[\[*]", r"{\g<0>}", text)


def grids(comparison: Comparison) -> list[Grid]:
    """Return every table that there is something for."""
    makers = (_methods, _solutions, _scores, _controlled, _gaps, _audits, _costs)
    return [grid for make in makers for grid in make(comparison) if grid.rows]


def _methods(comparison: Comparison) -> Iterator[Grid]:
    rows: Rows = []
    for curve in comparison.curves:
        difference = noise = NONE
        if behind := curve.behind:
            difference = f"{figure(behind.mean, 3)} [{figure(behind.low, 3)}, {figure(behind.high, 3)}]"
            noise = agreed(behind.larger_than_noise)
        method, points = comparison.named(curve.method, curve.group), str(len(curve.points))
        values = _values(comparison, curve.points[0])
        rows.append([method, *values, points, curve.hypervolume, curve.distance, difference, noise])
    x, y = comparison.area.reference if comparison.area else (None, None)
    up = "" if comparison.area is None else (
        f" The area ends at {comparison.x.name} {figure(x)} (the original model) and {comparison.y.name} {figure(y)} "
        "(the highest completeness); a point outside it adds nothing."
    )  # fmt: skip
    said = (
        "Share of the area that the points of each method dominate together, and their inverted generational distance "
        f"to the front of all methods' points.{up} A method with more points has more chances. The last columns are "
        f"the ε front's share minus the method's, paired by seed, with its {CONFIDENCE:.0%} interval (Student's), "
        "larger than the noise where the interval leaves 0 out."
    )
    over = [axis.id for axis in comparison.varied]
    heads = ["method", *over, "points", "hypervolume ↑", "IGD ↓", "ε front − method", "larger than the noise"]
    yield Grid("hypervolume", "Trade-offs", said, [Column(h) for h in heads], rows, [DASH])


def _solutions(comparison: Comparison) -> Iterator[Grid]:
    chosen = (axis for axis in (comparison.x, comparison.y) if axis not in comparison.varied)
    axes = [*dict.fromkeys((*LOSSES, *chosen)), GAP]
    rows: Rows = [
        [p.label, *_values(comparison, p), p.kind, *map(p.on, axes), agreed(comparison.dominated(p))]
        for p in comparison.points
    ]
    over = [axis.id for axis in comparison.varied]
    heads = [Column(h) for h in ("solution", *over, "method", *(a.name for a in axes), "dominated")]
    said = "Losses on the whole training sets. Dominated: the mean of another is at least as good on both axes."
    yield Grid("solutions", "Solutions", said, heads, rows, [DASH])


def _values(comparison: Comparison, point: Point) -> list[Cell]:
    """Return what the run of a point is varied to, as the recipe has it."""
    return [str(point.manifests[0].get("varied", {}).get(axis.id, NONE)) for axis in comparison.varied]


def _controlled(comparison: Comparison) -> Iterator[Grid]:
    """Yield how each figure goes with ε, for each recipe."""
    names = {axis.id: axis.name for axis in comparison.axes}
    for name, group in comparison.groups.items():
        found = [controlled(run.results) for run in group]
        for audit in group[0].results.get("audits", []):
            names |= {
                f"{audit['id']}/{key}": f"{audit['label']}: {its['name']}" for key, its in audit["figures"].items()
            }
        rows: Rows = []
        for what in dict.fromkeys(what for its in found for what in its):
            its = [one[what] for one in found if what in one]
            monotone = f"{sum(one['monotone'] for one in its)} of {len(found)}"
            rows.append([names.get(what, what), Spread(tuple(one["rank"] for one in its)), monotone])
        said = (
            "Spearman's rank correlation of ε with each figure of the solutions of phase 2, seed by seed: 1 where the "
            "figure only rises with ε, −1 where it only falls. Monotone: of so many seeds it never turns. Against the "
            "truth or the original model; f1 follows ε by the constraint."
        )
        heads = [Column(head) for head in ("figure", "rank correlation with ε", "monotone")]
        title = comparison.named("Control by ε", name)
        yield Grid(_id(comparison, "control", name), title, said, heads, rows, [DASH])


def _scores(comparison: Comparison) -> Iterator[Grid]:
    """Yield the table of the papers, solutions by metrics of both sets in a block for each setting."""
    results, settings = comparison.groups[comparison.names[0]][0].results, list(_settings(comparison))
    by_id, blocks = {axis.id: axis for axis in comparison.axes}, len(settings) > 1
    metrics = dict.fromkeys(key.split("/")[3] for key in by_id if "/" in key)
    for against, losses in (("truth", LOSSES), ("original", ())):
        keys = (f"{of}/{reading.seen(results, of)}/{against}/{metric}" for metric in metrics for of in SETS)
        if not (axes := [by_id[key] for key in keys if key in by_id]):
            continue
        rows, best, reasons = list[list[Cell]](), set[tuple[int, int]](), list[str]()
        for name, points in settings:
            for column, axis in enumerate((*losses, *axes), 1 + blocks):
                best |= {(len(rows) + place, column) for place in _best(points, axis)}
            rows += [
                [p.alone, *[name] * blocks, *map(p.on, losses), *(_score(p, axis, reasons, results) for axis in axes)]
                for p in points
            ]
        heads = [Column(f"{axis.id} ↓", group="training loss") for axis in losses]
        for axis in axes:
            of, _, _, metric = axis.id.split("/")
            heads.append(Column(f"{of} {'↓' if axis.sign > 0 else '↑'}", group=reading.name(results, metric)))
        said = (
            f"On {_counted(comparison)}. Arrows point to more forgotten on the forget set, where a worse score is an "
            "output farther from the truth and no more than that, and to better kept on the retain set. Bold is the "
            f"best mean of its column{' in each setting' * blocks}, the original model left out."
        )
        title = f"Scores against the {against}{' model' * (against == 'original')}"
        notes = [*_numbered(reasons), f"{NONE}: the losses are those of the training task."]
        above = [SOLUTION, *[SETTING] * blocks, *heads]
        yield Grid(f"scores-{against}", title, said, above, rows, notes, frozenset(best))


def _settings(comparison: Comparison) -> Iterator[tuple[str, list[Point]]]:
    """Yield the points of each recipe, and these under each further task that they are measured on."""
    for name, group in comparison.groups.items():
        points, several = [p for p in comparison.points if p.group == name], len(comparison.groups) > 1
        tasks = [task["label"] for task in group[0].results.get("tasks", [])]
        yield ", ".join([name] * several + ["training task"] * bool(tasks)), points
        for place, label in enumerate(tasks):
            under = (
                [reading.under(place, r.results, s) for r, s in zip(group, p.solutions, strict=True)] for p in points
            )
            its = [replace(p, solutions=tuple(found)) for p, found in zip(points, under, strict=True)]
            yield ", ".join([name] * several + [label]), its


def _best(points: Sequence[Point], axis: Axis) -> list[int]:
    """Return the places of the best means, the original model's left out; none where all are alike."""
    every = ((place, p.on(axis).mean) for place, p in enumerate(points) if p.kind != "original")
    means = {place: axis.sign * mean for place, mean in every if mean is not None}
    return [place for place, mean in means.items() if mean == min(means.values()) < max(means.values())]


def _counted(comparison: Comparison) -> str:
    """Say of how many images of each set scores are."""
    runs, told = [run.results for group in comparison.groups.values() for run in group], []
    for of in SETS:
        counts = dict.fromkeys(str(run["sets"][of].get(reading.seen(run, of))) for run in runs)
        told.append(f"{' or '.join(counts)} {reading.seen_images(runs[0], of)} of the {of} set")
    return " and ".join(told)


def _score(point: Point, axis: Axis, reasons: list[str], results: Results) -> Cell:
    """Return a metric over the seeds; where no seed has a number, point to the reason of the first."""
    if (values := point.on(axis)).known:
        return values
    of, split, against, metric = axis.id.split("/")
    score = reading.score(next(filter(None, point.solutions)), of, split, against, metric)
    reason = score["failed"] if isinstance(score, dict) else "not measured in this run"
    return f"{NONE} {pointer(f'{reading.name(results, metric)}: {reason}', reasons)}"


def _gaps(comparison: Comparison) -> Iterator[Grid]:
    """Yield how far each solution is from the retrained models, or one of them from the others, for each recipe."""
    axes = [axis for axis in comparison.axes if "/truth/" in axis.id]
    for name, group in comparison.groups.items():
        points = [p for p in comparison.points if p.group == name]
        gold = [p for p in points if any(s and s.get("retrained") for s in p.solutions)]
        held = [(p, others) for p in points if (others := [one for one in gold if one is not p])]
        if not held or not axes:
            continue
        rows: Rows = [[p.label, *(p.on(a).minus(_yardstick(others, a)) for a in axes)] for p, others in held]
        seen = {"train": "training", "validation": "unseen"}
        heads = [
            Column(reading.name(group[0].results, metric), group=f"{of} set, {seen[split]} images")
            for of, split, _, metric in (axis.id.split("/") for axis in axes)
        ]
        said = (
            "Score against the truth minus that of the model trained without the forget set, of several the mean: 0 "
            "where they agree. Unseen images are the validation images, which no model was trained on."
        )
        title = comparison.named("Gap to the retrained model", name)
        yield Grid(_id(comparison, "gap-to-retrained", name), title, said, [SOLUTION, *heads], rows)


def _yardstick(gold: Sequence[Point], axis: Axis) -> Spread:
    """Return the mean of retrained models, seed by seed."""
    return Spread(tuple(map(reading.yardstick, zip(*(p.on(axis).each for p in gold), strict=True))))


def _audits(comparison: Comparison) -> Iterator[Grid]:
    """Yield a table of each audit of each recipe, over its seeds."""
    for name, group in comparison.groups.items():
        points = [p for p in comparison.points if p.group == name]
        audits = [
            {
                audit["id"]: {"original": audit["original"], **audit["solutions"]}
                for audit in run.results.get("audits", [])
            }
            for run in group
        ]
        for entry in group[0].results.get("audits", []):
            by_seed, reasons = [by_id.get(entry["id"], {}) for by_id in audits], list[str]()
            figures = [(figure, its["name"]) for figure, its in entry["figures"].items()]
            rows = [[p.label, *(_finding(p, by_seed, *names, reasons) for names in figures)] for p in points]
            heads = [SOLUTION, *audit_columns(entry)]
            title = comparison.named(f"Audit: {entry['label']}", name)
            said = f"{entry['about']} {entry['samples']}".strip()
            yield Grid(_id(comparison, f"audit-{entry['id']}", name), title, said, heads, rows, _numbered(reasons))


def _finding(point: Point, by_seed: Sequence[Audited], key: str, head: str, reasons: list[str]) -> Cell:
    """Return a figure of an audit over the seeds; where a seed has no number, what stands in for it."""
    values = [solutions.get(point.key, {}).get(key) for solutions in by_seed]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values):
        return Spread(tuple(numbers))
    said = [finding(value, reasons, head) for value in values]
    return said[0] if len({*said}) == 1 else ", ".join(said)


def _costs(comparison: Comparison) -> Iterator[Grid]:
    names = {"seconds": "seconds", "images": "images", "peak_mib": "peak MiB"}
    rows: Rows = [[p.label, *map(p.cost, names)] for p in comparison.points if p.kind != "original"]
    said = (
        "Time of each problem with its checks, training images its steps read, and most memory: of tensors on a CUDA "
        "device, of the whole process on a CPU."
    )
    heads = [SOLUTION, *map(Column, names.values())]
    yield Grid("cost", "Cost", said, heads, rows, [f"{NONE}: the run did not record it."])


def _id(comparison: Comparison, name: str, group: str) -> str:
    return f"{name}-{comparison.names.index(group)}" if len(comparison.groups) > 1 else name


def _numbered(reasons: Sequence[str]) -> list[str]:
    return [f"[{i}] {reason}" for i, reason in enumerate(reasons, 1)]
