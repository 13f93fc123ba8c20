"""How every plot is drawn: its style and limits, and how each kind of solution is marked."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import resources
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import NamedTuple, Self

import matplotlib.style
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from unlearnkit.disk import disk_errors, write_file
from unlearnkit.errors import printable
from unlearnkit.report.reading import OURS


def asset(file: str) -> str:
    """Return a script or a style sheet of ours."""
    return (resources.files("unlearnkit.report") / "templates" / file).read_text(encoding="utf-8")


COLOURS: dict[str, str] = dict(re.findall(r"--(\w+): (#\w{6})", asset("report.css").partition("@media")[0]))
"""The colours of the page in its light theme by the names of their variables."""
METHODS = [to_hex(colormaps["tab10"](i)) for i in range(1, 10)]
SHAPES = "^vPXp*h<>d8"
DASHED = (0, (3, 3))
STYLE = {
    "font.size": 9, "lines.markersize": 6.5, "legend.frameon": False, "legend.fontsize": 8,
    "text.color": COLOURS["ink"], "axes.labelcolor": COLOURS["ink"], "axes.labelpad": 7,
    "axes.edgecolor": COLOURS["axis"], "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": COLOURS["rule"],
    "xtick.color": COLOURS["axis"], "xtick.labelcolor": COLOURS["muted"], "xtick.labelsize": 8,
    "ytick.color": COLOURS["axis"], "ytick.labelcolor": COLOURS["muted"], "ytick.labelsize": 8,
    "text.parse_math": False,  # a $ in a name is a $
    "svg.fonttype": "none",  # text in the page's own font
}  # fmt: skip
DPI = 150


class Mark(NamedTuple):
    """A marker of matplotlib and its colour."""

    shape: str
    colour: str


OWN = dict(zip(OURS, (Mark("D", COLOURS["ink"]), Mark("s", COLOURS["ink"]), Mark("o", COLOURS["accent"])), strict=True))
"""The marks of the kinds of solutions that span the trade-off."""


def marks(kinds: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Mark]:
    """Return the mark of each kind of solutions of each recipe."""
    others = map(Mark, cycle(SHAPES), cycle(METHODS))
    return {key: OWN.get(key[1]) or next(others) for key in dict.fromkeys(kinds)}


class Limits(NamedTuple):
    """The least and the greatest value on an axis."""

    low: float
    high: float

    @classmethod
    def around(cls, ours: Sequence[float], every: Sequence[float]) -> Self:
        """Hold all of `ours` and, of `every` value, those not far from them, with some room; without any, 0 to 1."""
        held = [*(ours or every or (0.0, 1.0))]
        low, high = min(held), max(held)
        reach = 0.6 * (high - low)
        held += [value for value in every if low - reach <= value <= high + reach]
        low, high = min(held), max(held)
        room = 0.06 * (high - low or abs(high) or 1.0)
        return cls(low - room, high + room)

    def inside(self, value: float) -> float:
        """Return the nearest value on the axis."""
        return min(max(value, self.low), self.high)

    def ticks(self) -> list[tuple[float, str]]:
        """Return a few round values on the axis, each with its text."""
        values = map(float, MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high))
        return [(v, f"{round(v, 12) + 0.0:g}".replace("-", "−")) for v in values if v == self.inside(v)]


def styled() -> AbstractContextManager[None]:
    """Draw in our style: what a user's matplotlibrc says must not change the bytes."""
    return matplotlib.style.context(["default", STYLE])


def legend(plot: Figure, marks: Iterable[tuple[Mark, str]]) -> None:
    """Say below a plot what its marks stand for."""
    handles = [Line2D([], [], color=m.colour, marker=m.shape, ls="", label=text) for m, text in marks]
    plot.legend(handles=handles, loc="outside lower center", ncols=4)


def lettered(plot: Figure) -> Figure:
    """Return a plot without the signs in its texts that no font has and no SVG may hold."""
    for text in plot.findobj(Text):
        text.set_text(printable(text.get_text()).replace("\t", " "))
    return plot


def save(folder: Path, plots: Mapping[str, Figure | None]) -> list[Path]:
    """Write each plot that there is as PNG, with the same bytes for the same plot, and return the files."""
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    drawn = {folder / name: plot for name, plot in plots.items() if plot is not None}
    for path, plot in drawn.items():
        data = BytesIO()
        lettered(plot).savefig(data, format="png", dpi=DPI, metadata={"Software": None})
        write_file(path, data.getvalue())
    return list(drawn)
