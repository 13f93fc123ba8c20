"""From finished runs to comparison.html, comparison.md, plots and tables."""

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

__all__ = ["Comparison", "Grid", "compare", "gather", "grids", "places", "seeds", "verdict", "write"]


def write(runs: Iterable[Sealed], to: Path, x: str = "f1", y: str = "f2") -> list[Path]:
    """Compare finished runs on two axes and write page, Markdown, plots and tables into `to`; return the files."""
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
    return [*map(to.joinpath, files), *plots]
