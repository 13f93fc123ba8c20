"""The plots of report.md, as PNG with the same bytes for the same results."""

import textwrap
from pathlib import Path

import matplotlib.style
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from unlearnkit.report import curves
from unlearnkit.report import results as shape
from unlearnkit.report.axis import Axis
from unlearnkit.report.front import CROWDED, Front, front
from unlearnkit.report.numbers import figure, known, unbroken
from unlearnkit.report.results import Results
from unlearnkit.report.strips import Strip

INK, BLUE, RULE = "#1c2430", "#1a5fb4", "#c9d0d8"
MARKERS = {"original": "D", "boundary": "s", "epsilon": "o"}
OTHER_MARKERS = "^vPph"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # a $ in a name is a $
}
MONTAGE_ROWS, SQUARE, GAP, DPI = 4, 96, 4, 150


def draw(folder: Path, results: Results, strips: list[Strip]) -> list[Path]:
    """Draw every plot there is data for."""
    folder.mkdir(exist_ok=True)
    with matplotlib.style.context(["default", STYLE]):  # a user's matplotlibrc must not change the bytes
        plots = {
            "front.png": _front(front(results)),
            "convergence.png": _convergence(results),
            "montage.png": montage(strips),
        }
        drawn = {folder / name: plot for name, plot in plots.items() if plot is not None}
        for path, plot in drawn.items():
            plot.savefig(path, dpi=DPI, metadata={"Software": None})
    return list(drawn)


def _front(laid: Front) -> Figure | None:
    if not laid.points:
        return None
    plot = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = plot.add_subplot(xlim=(laid.x.low, laid.x.high), ylim=(laid.y.low, laid.y.high))
    axes.set(xlabel="forget loss f1 (lower: more forgotten)", ylabel="retain loss f2 (lower: better kept)")
    axes.plot(*zip(*laid.stairs(), strict=True), color=RULE, zorder=1)
    bounds = [p.epsilon for p in laid.points if p.epsilon is not None]
    text = {"ha": "center", "size": 7, "rotation": 60 if len(bounds) > CROWDED else 0}
    for epsilon in bounds:
        axes.axvline(epsilon, color=RULE, lw=0.8, ls=(0, (3, 3)), zorder=0)
        axes.text(epsilon, 1.01, figure(epsilon, 3), text, transform=axes.get_xaxis_transform())
    names = laid.legend()
    for p in laid.points:
        method = int(p.kind.partition("-")[2] or 0)
        form = MARKERS.get(p.kind) or OTHER_MARKERS[method % len(OTHER_MARKERS)]
        colour, face = BLUE if p.kind == "epsilon" else INK, "white" if p.dominated else None
        at = laid.x.inside(p.f1), laid.y.inside(p.f2)
        axes.plot(*at, form, color=colour, mfc=face, clip_on=False, label=names.pop(p.kind, None))
    far = "".join(f"\nFar outside: {p.text()}" for p in laid.far())
    axes.set_xlabel(axes.get_xlabel() + far)
    plot.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return plot


def _convergence(results: Results) -> Figure | None:
    trained = [s for s in shape.shown(results) if s.get("history")]
    if not trained:
        return None
    plot = Figure(figsize=(11, 3.6), layout="constrained")
    for i, (quantity, title) in enumerate(curves.TITLES.items()):
        axes = plot.add_subplot(1, 3, i + 1, title=title, xlabel="step")
        values, _ = curves.limits(trained, quantity)
        held = Axis.around(values, 0, 1)
        axes.set_ylim(held.low, held.high)
        for s in trained:
            colour = colormaps["viridis"](trained.index(s) / len(trained))
            steps = [(n, v if known(v) else float("nan")) for n, v in curves.series(s, quantity)]
            axes.plot(*zip(*steps, strict=True), color=colour, lw=1.2, label=s["label"] if i == 0 else None)
            if dots := curves.checked(s, quantity):
                axes.plot(*zip(*dots, strict=True), "o", color=colour, ms=3)
            if quantity == "f1" and known(epsilon := s.get("epsilon")):
                axes.axhline(epsilon, color=colour, lw=0.8, ls=(0, (3, 3)))
    plot.legend(loc="outside right center", frameon=False, fontsize=8)
    return plot


def montage(strips: list[Strip]) -> Figure | None:
    """Return every solution's pictures side by side, or None without any."""
    if not strips:
        return None
    columns = list(dict.fromkeys((s.of, s.label) for s in strips))
    rows = [(of, i) for of in shape.SETS for i in range(min(MONTAGE_ROWS, len(strips[0].squares)))]
    found = {(s.set, s.of): s.squares for s in strips}
    pitch, between = SQUARE + GAP, 4 * GAP
    size = (len(columns) * pitch - GAP, len(rows) * pitch - GAP + between)
    sheet = Image.new("RGB", size, "white")
    for y, (of, i) in enumerate(rows):
        for x, (key, _) in enumerate(columns):
            if squares := found.get((of, key)):
                place = (x * pitch, y * pitch + between * (of == "retain"))
                sheet.paste(squares[i].resize((SQUARE, SQUARE), Image.Resampling.BICUBIC), place)
    labels = [textwrap.fill(unbroken(label), 14) for _, label in columns]
    left, top = 30, 10 + 17 * max(label.count("\n") + 1 for label in labels)
    plot = Figure(figsize=((size[0] + left) / DPI, (size[1] + top) / DPI))
    axes = plot.add_axes((left / (size[0] + left), 0, size[0] / (size[0] + left), size[1] / (size[1] + top)))
    axes.imshow(sheet, interpolation="none", aspect="auto")
    axes.axis("off")
    for x, label in enumerate(labels):
        axes.text(x * pitch + SQUARE / 2, -6, label, ha="center", va="bottom", size=6)
    half = len(rows) // 2 * pitch
    for words, middle in (("forget set", half / 2), ("retain set", half * 1.5 + between)):
        axes.text(-8, middle, words, ha="right", va="center", rotation=90, size=8)
    return plot
