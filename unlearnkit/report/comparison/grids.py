"""The tables of a comparison: numbers that are still numbers, one for each seed, and how they are written."""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO

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
SOLUTION = Column("solution")
DASH = f"{NONE}: the method has none, or one seed has no spread, or seeds that do not differ show no noise."


@dataclass(frozen=True)
class Grid:
    """Cells under columns; `notes` are reasons of failures and what a dash means."""

    id: str
    title: str
    said: str
    heads: list[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def text(self) -> Table:
        """Return it as text: mean ± sample standard deviation over the seeds; dashes are explained where they are."""
        rows = [[spread(cell) if isinstance(cell, Spread) else cell for cell in row] for row in self.rows]
        dashes = any(cell == NONE for row in rows for cell in row)
        notes = [note for note in self.notes if dashes or not note.startswith(f"{NONE}:")]
        return Table(self.title, self.heads, rows, [str(i) for i in range(len(rows))], notes)

    def csv(self) -> str:
        """Return it with means and deviations in columns of their own, at full precision; what is unknown is empty."""
        widths = [1 + any(isinstance(cell, Spread) for cell in column) for column in zip(*self.rows, strict=True)]
        lines: list[list[tuple[object, object]]] = [[(head.whole, f"{head.whole}: std") for head in self.heads]]
        lines += [[(c.mean, c.std) if isinstance(c, Spread) else (c, None) for c in row] for row in self.rows]
        stream = StringIO()
        rows = ([value for pair, width in zip(line, widths, strict=True) for value in pair[:width]] for line in lines)
        csv.writer(stream, lineterminator="\n").writerows(map(plain_cell, row) for row in rows)
        return stream.getvalue()

    def latex(self) -> str:
        """Return it as a booktabs tabular."""
        shown = self.text()
        lines = [[column.whole for column in shown.columns], *shown.rows]
        heads, *rows = (" & ".join(map(escaped, line)) + r" \\" for line in lines)
        body = "\n".join([r"\toprule", heads, r"\midrule", *rows, r"\bottomrule"])
        columns = "l" + "r" * (len(shown.columns) - 1)
        return f"% {one_line(self.title)}; needs booktabs\n\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"


def spread(value: Spread) -> str:
    """Write mean ± standard deviation."""
    if value.mean is None or value.std is None:
        return figure(value.mean)
    digits = min(max(2, len(f"{value.std:.0f}")), 4)  # no power of ten where the mean has none
    return f"{figure(value.mean)} ± {figure(value.std, digits)}"


def plain_cell(value: object) -> object:
    """Return a cell of a CSV file: a text that a spreadsheet would take for a formula starts with an apostrophe."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    with suppress(ValueError):
        float(text)
        return text
    return f"'{text}" if text[:1] in tuple("=+-@＝＋－＠") else text


SIGNS = {"±": r"\pm", "−": "-", "ε": r"\varepsilon", "α": r"\alpha", "β": r"\beta", "λ": r"\lambda", "σ": r"\sigma",
         "↑": r"\uparrow", "↓": r"\downarrow", "∞": r"\infty", "θ": r"\theta"}  # fmt: skip
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
    for name, group in comparison.groups.items():
        found = [controlled(run.results) for run in group]
        rows: Rows = []
        for what in dict.fromkeys(what for its in found for what in its):
            its = [one[what] for one in found if what in one]
            monotone = f"{sum(one['monotone'] for one in its)} of {len(found)}"
            rows.append([what, Spread(tuple(one["rank"] for one in its)), monotone])
        said = (
            "Spearman's rank correlation of ε with each figure of the solutions of phase 2, seed by seed: 1 where the "
            "figure only rises with ε, −1 where it only falls. Monotone: of so many seeds it never turns. Against the "
            "truth or the original model; f1 follows ε by the constraint."
        )
        heads = [Column(head) for head in ("figure", "rank correlation with ε", "monotone")]
        title = comparison.named("Control by ε", name)
        yield Grid(_id(comparison, "control", name), title, said, heads, rows, [DASH])


def _scores(comparison: Comparison) -> Iterator[Grid]:
    """Yield a table of every metric for each set on the images that pictures are of."""
    results = comparison.groups[comparison.names[0]][0].results
    for of in SETS:
        axes = [axis for axis in comparison.axes if axis.id.startswith(f"{of}/{reading.seen(results, of)}/")]
        reasons = list[str]()
        heads = [
            Column(reading.name(results, metric) + reading.arrow(results, metric), group=f"against the {against}")
            for _, _, against, metric in (axis.id.split("/") for axis in axes)
        ]
        rows = [[p.label, *(_score(p, axis, reasons, results) for axis in axes)] for p in comparison.points if axes]
        said = (
            f"Scores on {reading.seen_images(results, of)}. "
            "For the forget set a worse score is an output farther from the truth."
        )
        yield Grid(f"scores-{of}", f"{of.capitalize()} set", said, [SOLUTION, *heads], rows, _numbered(reasons))


def _score(point: Point, axis: Axis, reasons: list[str], results: Results) -> Cell:
    """Return a metric over the seeds; where no seed has a number, point to the reason of the first."""
    if (values := point.on(axis)).known:
        return values
    of, split, against, metric = axis.id.split("/")
    score = reading.score(next(filter(None, point.solutions)), of, split, against, metric)
    reason = score["failed"] if isinstance(score, dict) else "not measured in this run"
    return f"{NONE} {pointer(f'{reading.name(results, metric)}: {reason}', reasons)}"


def _gaps(comparison: Comparison) -> Iterator[Grid]:
    """Yield how far each solution is from the retrained model, for each recipe that has one."""
    axes = [axis for axis in comparison.axes if "/truth/" in axis.id]
    for name, group in comparison.groups.items():
        points = [p for p in comparison.points if p.group == name]
        gold = next((p for p in points if any(s and s.get("retrained") for s in p.solutions)), None)
        if gold is None or not axes:
            continue
        rows: Rows = [[p.label, *(p.on(a).minus(gold.on(a)) for a in axes)] for p in points if p is not gold]
        seen = {"train": "training", "validation": "unseen"}
        heads = [
            Column(reading.name(group[0].results, metric), group=f"{of} set, {seen[split]} images")
            for of, split, _, metric in (axis.id.split("/") for axis in axes)
        ]
        said = (
            "Score against the truth minus that of the model trained without the forget set: 0 where they agree. "
            "Unseen images are the validation images, which no model was trained on."
        )
        title = comparison.named("Gap to the retrained model", name)
        yield Grid(_id(comparison, "gap-to-retrained", name), title, said, [SOLUTION, *heads], rows)


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
    return ", ".join(finding(value, reasons, head) for value in values)


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
