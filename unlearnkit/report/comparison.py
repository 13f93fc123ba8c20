"""The comparison as a page, as Markdown, and each table as CSV and LaTeX."""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from unlearnkit import comparison as made
from unlearnkit.comparison import Comparison, Curve, Point, Spread
from unlearnkit.report import results as shape
from unlearnkit.report import strips
from unlearnkit.report.axis import Axis
from unlearnkit.report.front import near
from unlearnkit.report.html import allowed, asset, environment
from unlearnkit.report.markdown import plain, table
from unlearnkit.report.numbers import NONE, figure, unbroken
from unlearnkit.report.plots import DPI, STYLE, montage
from unlearnkit.report.results import Failed
from unlearnkit.report.strips import Strip
from unlearnkit.report.tables import Column, Table, audit_columns, finding
from unlearnkit.report.verdict import name as metric_name

Cell = str | Spread
SHAPES = "osD^vPXp*h<>d8"
COLOURS = [to_hex(colormaps["tab10"](i)) for i in range(10)]
DASH = f"{NONE}: the method has none, or one seed has no spread."


@dataclass(frozen=True)
class Grid:
    """A table whose numbers are still numbers, one for each seed."""

    id: str
    title: str
    said: str
    heads: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)

    def text(self) -> Table:
        """Return it as text: mean ± sample standard deviation over the seeds; dashes are explained where they are."""
        rows = [[spread(cell) if isinstance(cell, Spread) else cell for cell in row] for row in self.rows]
        dashes = any(cell == NONE for row in rows for cell in row)
        notes = [note for note in self.notes if dashes or not note.startswith(f"{NONE}:")]
        return Table(self.title, self.heads, rows, [str(i) for i in range(len(rows))], notes)

    def csv(self) -> str:
        """Return it with means and deviations in columns of their own, at full precision; what is unknown is empty."""
        into = StringIO()
        writer = csv.writer(into, lineterminator="\n")
        wide = [any(isinstance(row[i], Spread) for row in self.rows) for i in range(len(self.heads))]
        heads = [h.whole for h in self.heads]
        writer.writerow(
            [c for head, w in zip(heads, wide, strict=True) for c in ((head, f"{head}: std") if w else (head,))]
        )
        for row in self.rows:
            cells: list[object] = []
            for cell, w in zip(row, wide, strict=True):
                if isinstance(cell, Spread):
                    cells += [cell.mean, cell.std]
                else:
                    cells += [cell, None] if w else [cell]
            writer.writerow(["" if c is None else c for c in cells])
        return into.getvalue()

    def latex(self) -> str:
        """Return it as a booktabs tabular."""
        shown = self.text()
        heads = [h.whole for h in shown.columns]
        lines = [" & ".join(map(escaped, row)) + r" \\" for row in (heads, *shown.rows)]
        body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
        columns = "l" + "r" * (len(heads) - 1)
        return f"% {self.title}; needs booktabs\n\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"


def write(folders: Iterable[Path], to: Path, x: str = "f1", y: str = "f2") -> list[Path]:
    """Compare finished runs on two axes and write page, Markdown, plots and tables into `to`; return the files."""
    found = made.compare(made.gather(folders), x, y)
    pictures = _pictures(found)
    tables = grids(found)
    to.mkdir(parents=True, exist_ok=True)
    (to / "tables").mkdir(exist_ok=True)
    (to / "plots").mkdir(exist_ok=True)
    page, text = to / "comparison.html", to / "comparison.md"
    files = {page: _page(found, tables, pictures), text: ""}
    plots = _plots(to / "plots", found, pictures)
    files[text] = _markdown(found, tables, plots)
    for grid in tables:
        files[to / "tables" / f"{grid.id}.csv"] = grid.csv()
        files[to / "tables" / f"{grid.id}.tex"] = grid.latex()
    for path, content in files.items():
        path.write_text(content, encoding="utf-8", newline="\n")
    return [*files, *plots]


def grids(found: Comparison) -> list[Grid]:
    """Return every table that there is something for."""
    return [
        g
        for g in (_methods(found), _solutions(found), *_scores(found), *_gaps(found), *_audits(found), _costs(found))
        if g.rows
    ]


def spread(value: Spread) -> str:
    """Write mean ± standard deviation."""
    if value.mean is None:
        return NONE
    if value.std is None:
        return figure(value.mean)
    digits = min(max(2, len(f"{value.std:.0f}")), 4)  # no power of ten where the mean has none
    return f"{figure(value.mean)} ± {figure(value.std, digits)}"


def escaped(text: str) -> str:
    """Escape what LaTeX reads as markup, and write the signs it has no letters for as mathematics."""
    text = re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", r"\textbackslash "))
    signs = {"±": r"\pm", "−": "-", "ε": r"\varepsilon", "α": r"\alpha", "β": r"\beta", "λ": r"\lambda", "σ": r"\sigma",
             "↑": r"\uparrow", "↓": r"\downarrow", "∞": r"\infty", "θ": r"\theta"}  # fmt: skip
    return re.sub("|".join(signs), lambda sign: f"${signs[sign[0]]}$", text).replace(NONE, "--").replace("\u00a0", "~")


def verdict(found: Comparison) -> str:
    """Say whether the ε front has the larger hypervolume, method by method, and what cannot be told apart."""
    curves = [c for c in found.curves if c.method != made.FRONT]
    if not curves:
        return "There is no other method to compare the ε solutions with; list some under `compare` in the recipe."
    if found.reference is None:
        return "These axes span no area between the original model and the highest completeness: no hypervolume."
    better: list[str] = []
    worse: list[str] = []
    open_: list[str] = []
    for curve in curves:
        into = open_
        if curve.behind is not None and curve.behind.larger_than_noise:
            into = better if curve.behind.mean > 0 else worse
        into.append(_curve_label(found, curve))
    parts = []
    if better:
        parts.append(
            f"The ε front has the larger hypervolume than {_listing(better)}, by more than the noise over seeds."
        )
    if worse:
        parts.append(f"The ε front has the smaller hypervolume than {_listing(worse)}, by more than the noise.")
    if open_:
        why = "with one seed no noise is known" if all(c.behind is None for c in curves) else "within the noise"
        parts.append(f"By hypervolume not told apart from the ε front ({why}): {_listing(open_)}.")
    return " ".join(parts)


def seeds(found: Comparison) -> str:
    """Say which seeds the numbers are of."""
    told = [
        f"{name}: seed{'s' * (len(group) > 1)} {', '.join(str(run.results['seed']) for run in group)}"
        for name, group in zip(found.names, found.groups, strict=True)
    ]
    return "; ".join(told) + ". Numbers are means ± sample standard deviations over them."


def _listing(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else words[0]


def _curve_label(found: Comparison, curve: Curve) -> str:
    return f"{curve.method} ({found.names[curve.group]})" if len(found.groups) > 1 else curve.method


def _methods(found: Comparison) -> Grid:
    rows: list[list[Cell]] = []
    for curve in found.curves:
        behind = curve.behind
        rows.append([
            _curve_label(found, curve), str(len(curve.points)), curve.hypervolume, curve.distance,
            NONE if behind is None else f"{figure(behind.mean, 3)} [{figure(behind.low, 3)}, {figure(behind.high, 3)}]",
            NONE if behind is None else "yes" if behind.larger_than_noise else "no",
        ])  # fmt: skip
    up = "" if found.reference is None else (
        f" The area ends at {found.x.name} {figure(found.reference[0])} (the original model) and "
        f"{found.y.name} {figure(found.reference[1])} (the highest completeness); a point outside it adds nothing."
    )  # fmt: skip
    said = (
        "Share of the area that the points of each method dominate together, and their inverted generational distance "
        f"to the front of all methods' points.{up} A method with more points has more chances. The last columns are "
        f"the ε front's share minus the method's, paired by seed, with its {made.CONFIDENCE:.0%} interval (Student's), "
        "larger than the noise where the interval leaves 0 out."
    )
    heads = ["method", "points", "hypervolume ↑", "IGD ↓", "ε front − method", "larger than the noise"]
    return Grid("hypervolume", "Trade-offs", said, [Column(h) for h in heads], rows, [DASH] if rows else [])


def _solutions(found: Comparison) -> Grid:
    axes = list(dict.fromkeys([*(a for a in found.axes if a.id in ("f1", "f2")), found.x, found.y]))
    rows: list[list[Cell]] = [
        [p.label, p.kind, *(p.on(axis) for axis in axes), _gap(p), "yes" if found.dominated(p) else "no"]
        for p in found.points
    ]
    heads = [Column(h) for h in ("solution", "method", *(a.name for a in axes), "gap (f1 − ε)/ε", "dominated")]
    said = "Losses on the whole training sets. Dominated: the mean of another is at least as good on both axes."
    return Grid("solutions", "Solutions", said, heads, rows, [DASH])


def _gap(point: Point) -> Spread:
    return Spread(tuple(None if s is None else s.get("gap") for s in point.solutions))


def _scores(found: Comparison) -> list[Grid]:
    """Return a table of every metric for each set on validation images."""
    any_results = found.groups[0][0].results
    tables = []
    for of in shape.SETS:
        axes = [a for a in found.axes if a.id.startswith(f"{of}/validation/")]
        reasons: list[str] = []
        rows: list[list[Cell]] = [[p.label, *(_score(p, a, reasons, any_results) for a in axes)] for p in found.points]
        heads = [Column("solution")]
        for axis in axes:
            _, _, against, metric = axis.id.split("/")
            arrow = {"higher": " ↑", "lower": " ↓"}.get(any_results["metrics"].get(metric, {}).get("better", ""), "")
            heads.append(Column(metric_name(any_results, metric) + arrow, group=f"against the {against}"))
        said = "Scores on validation images. For the forget set the worse score is the more forgotten."
        notes = [f"[{i}] {reason}" for i, reason in enumerate(reasons, 1)]
        tables.append(Grid(f"scores-{of}", f"{of.capitalize()} set", said, heads, rows if axes else [], notes))
    return tables


def _score(point: Point, axis: made.Axis, reasons: list[str], any_results: shape.Results) -> Cell:
    value = point.on(axis)
    if value.mean is not None:
        return value
    of, split, against, metric = axis.id.split("/")
    for solution in filter(None, point.solutions):
        score: Any = shape.score(solution, of, split, against, metric)
        reason = f"{metric_name(any_results, metric)}: {_reason(score)}"
        if reason not in reasons:
            reasons.append(reason)
        return f"{NONE} [{reasons.index(reason) + 1}]"
    return NONE


def _reason(score: float | Failed | None) -> str:
    return score["failed"] if isinstance(score, dict) else "not measured in this run"


def _gaps(found: Comparison) -> list[Grid]:
    """Return how far each solution is from the retrained model, for each recipe that has one."""
    tables = []
    for number, name in enumerate(found.names):
        gold = made.retrained(found, number)
        axes = [a for a in found.axes if "/truth/" in a.id]
        if gold is None or not axes:
            continue
        points = [p for p in found.points if p.group == number and p is not gold]
        rows: list[list[Cell]] = [[p.label, *(made.gap(p, gold, a) for a in axes)] for p in points]
        heads = [Column("solution")]
        for axis in axes:
            of, split, _, metric = axis.id.split("/")
            seen = "training" if split == "train" else "unseen"
            heads.append(Column(metric_name(found.groups[number][0].results, metric), group=f"{of} set, {seen} images"))
        said = (
            "Score against the truth minus that of the model trained without the forget set: 0 where they agree. "
            "Unseen images are the validation images, which no model was trained on."
        )
        suffix = f" ({name})" if len(found.names) > 1 else ""
        id = "gap-to-retrained" + (f"-{number}" if len(found.names) > 1 else "")  # noqa: A001
        tables.append(Grid(id, f"Gap to the retrained model{suffix}", said, heads, rows))
    return tables


def _audits(found: Comparison) -> list[Grid]:
    """Return a table of each audit of each recipe, over its seeds."""
    tables = []
    for number, (name, group) in enumerate(zip(found.names, found.groups, strict=True)):
        points = [p for p in found.points if p.group == number]
        for entry in group[0].results.get("audits", []):
            by_seed = [
                next((e for e in run.results.get("audits", []) if e["id"] == entry["id"]), None) for run in group
            ]
            reasons: list[str] = []
            rows: list[list[Cell]] = [
                [
                    p.label,
                    *(_finding(p, by_seed, key, figure["name"], reasons) for key, figure in entry["figures"].items()),
                ]
                for p in points
            ]
            heads = [Column("solution"), *audit_columns(entry)]
            suffix = f" ({name})" if len(found.names) > 1 else ""
            id = f"audit-{entry['id']}" + (f"-{number}" if len(found.names) > 1 else "")  # noqa: A001
            notes = [f"[{i}] {reason}" for i, reason in enumerate(reasons, 1)]
            said = f"{entry['about']} {entry['samples']}".strip()
            tables.append(Grid(id, f"Audit: {entry['label']}{suffix}", said, heads, rows, notes))
    return tables


def _finding(point: Point, by_seed: Sequence[shape.Audit | None], key: str, head: str, reasons: list[str]) -> Cell:
    """Return a figure of an audit over the seeds; where a seed has no number, what stands in for it."""
    found: list[Any] = []
    for solution, entry in zip(point.solutions, by_seed, strict=True):
        cells = None if solution is None or entry is None else {"original": entry["original"], **entry["solutions"]}
        found.append(None if cells is None or solution is None else cells.get(solution["id"], {}).get(key))
    if all(isinstance(value, int | float) for value in found):
        return Spread(tuple(float(value) for value in found))
    return ", ".join(finding(value, reasons, head) for value in found)


def _costs(found: Comparison) -> Grid:
    rows: list[list[Cell]] = [
        [p.label, p.cost("seconds"), p.cost("images"), p.cost("peak_mib")]
        for p in found.points if p.kind != "original"
    ]  # fmt: skip
    heads = ["solution", "seconds", "images", "peak MiB"]
    said = (
        "Time of each problem with its checks, training images its steps read, and most memory: of tensors on a CUDA "
        "device, of the whole process on a CPU."
    )
    return Grid("cost", "Cost", said, [Column(h) for h in heads], rows, [f"{NONE}: the run did not record it."])


def _pictures(found: Comparison) -> list[tuple[str, list[Strip]]]:
    """Return the pictures of the first seed of each recipe."""
    return [
        (name, strips.read(group[0].folder, group[0].results)[0])
        for name, group in zip(found.names, found.groups, strict=True)
    ]


def _marks(found: Comparison) -> dict[tuple[int, str], tuple[str, str]]:
    """Return the shape and the colour of each kind of point of each recipe."""
    marks: dict[tuple[int, str], tuple[str, str]] = {}
    for point in found.points:
        if point.kind in made.OURS:
            form = {"original": "D", "boundary": "s", "epsilon": "o"}[point.kind]
            colour = "#1a5fb4" if point.kind == "epsilon" else "#1c2430"
        else:
            number = len({key for key in marks if key[1] not in made.OURS})
            form, colour = SHAPES[3 + number % (len(SHAPES) - 3)], COLOURS[1 + number % (len(COLOURS) - 1)]
        marks.setdefault((point.group, point.kind), (form, colour))
    return marks


def limits(found: Comparison, axis: made.Axis) -> Axis:
    """Return an axis that holds the ε solutions and the original model, and what is not far from them."""
    values = [(p.kind, v) for p in found.points for v in p.on(axis).known]
    every = [v for _, v in values]
    return Axis.around(near([v for kind, v in values if kind in made.OURS], every), 0, 1)


def _plots(folder: Path, found: Comparison, pictures: Sequence[tuple[str, list[Strip]]]) -> list[Path]:
    drawn = []
    with matplotlib.style.context(["default", STYLE]):  # a user's matplotlibrc must not change the bytes
        plots: dict[str, Figure | None] = {"comparison.png": _scatter(found)}
        for number, (_, shown) in enumerate(pictures):
            plots[f"montage-{number}.png"] = montage(shown)
        for name, plot in plots.items():
            if plot is not None:
                plot.savefig(folder / name, dpi=DPI, metadata={"Software": None})
                drawn.append(folder / name)
    return drawn


def _scatter(found: Comparison) -> Figure:
    plot = Figure(figsize=(7.4, 5.4), layout="constrained")
    x, y = limits(found, found.x), limits(found, found.y)
    axes: Axes = plot.add_subplot(xlim=(x.low, x.high), ylim=(y.low, y.high), xlabel=found.x.name, ylabel=found.y.name)
    marks, named = _marks(found), set()
    for curve in found.curves:
        knob = [p for p in curve.points if p.kind != "boundary"]
        means = sorted(
            (at, up) for p in knob if (at := p.on(found.x).mean) is not None and (up := p.on(found.y).mean) is not None
        )
        if len(means) > 1:
            axes.plot(*zip(*means, strict=True), color=marks[curve.group, knob[0].kind][1], lw=0.8, zorder=1)
    far = []
    for point in found.points:
        form, colour = marks[point.group, point.kind]
        spread_x, spread_y = point.on(found.x), point.on(found.y)
        if spread_x.mean is None or spread_y.mean is None:
            continue
        label = point.kind if (point.group, point.kind) not in named else None
        if label and len(found.groups) > 1:
            label = f"{label} ({found.names[point.group]})"
        named.add((point.group, point.kind))
        look: dict[str, Any] = {"color": colour, "mfc": "white" if found.dominated(point) else colour, "label": label}
        if not (x.holds(spread_x.mean) and y.holds(spread_y.mean)):
            far.append(f"{point.label}: {figure(spread_x.mean)}, {figure(spread_y.mean)}")
        axes.plot(x.inside(spread_x.mean), y.inside(spread_y.mean), form, clip_on=False, **look)
        pairs = [p for p in zip(spread_x.each, spread_y.each, strict=True) if None not in p]
        if len(pairs) > 1:
            axes.plot(*zip(*pairs, strict=True), ".", color=colour, ms=3, alpha=0.6)
    plot.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    if far:
        axes.set_xlabel(axes.get_xlabel() + "\nDrawn on the frame, far outside: " + "\n".join(far), fontsize=7)
    return plot


def _markdown(found: Comparison, tables: Sequence[Grid], plots: Sequence[Path]) -> str:
    blocks = [f"# Comparison: {plain(', '.join(found.names))}", plain(verdict(found))]
    blocks += [f"- **Caution:** {plain(caution)}" for caution in found.cautions]
    blocks.append(plain(seeds(found)))
    blocks += [f"![{path.stem}](plots/{path.name})" for path in plots]
    for grid in tables:
        shown = grid.text()
        blocks += [f"## {plain(grid.title)}", plain(grid.said), table(shown), *(f"- {plain(n)}" for n in shown.notes)]
    return "\n\n".join(blocks) + "\n"


def _page(found: Comparison, tables: Sequence[Grid], pictures: Sequence[tuple[str, list[Strip]]]) -> str:
    script = asset("comparison.js")
    marks = _marks(found)
    data = {
        "axes": [{"id": axis.id, "name": axis.name, "sign": axis.sign} for axis in found.axes],
        "x": found.x.id,
        "y": found.y.id,
        "points": [
            {
                "label": unbroken(p.label), "kind": p.kind, "group": p.group,
                "shape": marks[p.group, p.kind][0], "colour": marks[p.group, p.kind][1],
                "values": {axis.id: p.on(axis).each for axis in found.axes},
            }
            for p in found.points
        ],
    }  # fmt: skip
    return environment().get_template("comparison.html.j2").render(
        names=found.names,
        verdict=verdict(found),
        seeds=seeds(found),
        cautions=found.cautions,
        tables=[(grid, grid.text()) for grid in tables],
        pictures=[(name, _rows(shown)) for name, shown in pictures if shown],
        data=data,
        script=script,
        style=asset("report.css") + asset("comparison.css"),
        script_hash=allowed(script),
    )  # fmt: skip


def _rows(shown: Sequence[Strip]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Return, for each set, the columns' labels and the pictures row by row."""
    found: dict[str, tuple[list[str], list[list[str]]]] = {}
    for of in shape.SETS:
        columns = [strip for strip in shown if strip.set == of]
        if columns:
            uri: Callable[[Strip, int], str] = Strip.uri
            rows = [[uri(strip, i) for strip in columns] for i in range(min(4, len(columns[0].squares)))]
            found[of] = ([unbroken(strip.label) for strip in columns], rows)
    return found
