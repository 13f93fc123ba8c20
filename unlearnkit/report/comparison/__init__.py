"""From finished runs to comparison.html, comparison.md, plots and tables."""

import re
from collections.abc import Iterable
from pathlib import Path

from unlearnkit.disk import disk_errors, write_text
from unlearnkit.report import drawing, strips
from unlearnkit.report.comparison.compare import Comparison, compare, seeds, verdict
from unlearnkit.report.comparison.grids import Grid, grids
from unlearnkit.report.comparison.page import markdown, page, scatter
from unlearnkit.report.comparison.panels import file, panels
from unlearnkit.report.comparison.points import gather, places
from unlearnkit.seal import Sealed

__all__ = ["Comparison", "Grid", "compare", "gather", "grids", "ours", "places", "seeds", "verdict", "write"]

OURS = re.compile(
    r"comparison\.(html|md)|plots/(comparison|over-[A-Za-z0-9._-]+|montage-\d+)\.png|tables/"
    r"(hypervolume|solutions|cost|scores-(truth|original)|(control|gap-to-retrained|audit-.+?)(-\d+)?)\.(csv|tex)",
)


def ours(name: str) -> bool:
    """Tell whether a file of this name in its folder is one that a comparison can write."""
    return OURS.fullmatch(name) is not None


def write(runs: Iterable[Sealed], to: Path, x: str = "f1", y: str = "f2") -> list[Path]:
    """Compare finished runs on two axes and write page, Markdown, plots and tables into `to`; return the files.

    What an earlier comparison left there is removed.
    """
    comparison = compare(gather(runs), x, y)
    tables = grids(comparison)
    pictures = [(name, strips.read(run.place, run.results)[0]) for name, (run, *_) in comparison.groups.items()]
    with disk_errors(to):
        (to / "tables").mkdir(parents=True, exist_ok=True)
    with drawing.styled():
        montages = {f"montage-{i}.png": strips.montage(shown) for i, (_, shown) in enumerate(pictures)}
        beside = {file(axis): plot for axis, plot in panels(comparison).items()}
        plots = drawing.save(to / "plots", {"comparison.png": scatter(comparison), **beside, **montages})
    files = {
        "comparison.html": page(comparison, tables, pictures),
        "comparison.md": markdown(comparison, tables, plots),
    }
    for grid in tables:
        files |= {f"tables/{grid.id}.csv": grid.csv(), f"tables/{grid.id}.tex": grid.latex()}
    for path, content in files.items():
        write_text(to / path, content)
    written = [*map(to.joinpath, files), *plots]
    with disk_errors(to):
        for left in {*to.glob("plots/*"), *to.glob("tables/*")} - {*written}:
            if left.is_file() and ours(left.relative_to(to).as_posix()):
                left.unlink()
    return written
