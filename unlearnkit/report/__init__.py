"""From a run folder to report.html, report.md and plots."""

from pathlib import Path

from unlearnkit.disk import write_text
from unlearnkit.report.reading import others
from unlearnkit.report.shape import load
from unlearnkit.report.verdict import verdict
from unlearnkit.seal import Sealed

__all__ = ["verdict", "write"]


def write(run: Sealed) -> list[Path]:
    """Write the report of a finished run into its folder, and return the files, which are to be sealed then.

    A run with other methods gets a comparison too, where its recipe is there.
    """
    # matplotlib and jinja2 are slow to import
    from unlearnkit.report import comparison, curves, drawing, front, html, markdown, strips

    results, manifest = load(run)
    pictures, missing = strips.read(run, results)
    between, lost = strips.between(run, results)
    missing += lost
    page, text = run.folder / "report.html", run.folder / "report.md"
    compared = bool(others(results)) and "recipe.resolved.json" in run.files
    write_text(page, html.page(results, manifest, pictures, between, missing, compared))
    with drawing.styled():
        plots = {
            "front.png": front.picture(front.front(results)),
            "convergence.png": curves.picture(results),
            "montage.png": strips.montage(pictures),
        }
        drawn = drawing.save(run.folder / "plots", plots)
    write_text(text, markdown.text(results, manifest, drawn, missing, compared))
    return [page, text, *drawn, *(comparison.write([run], run.folder) if compared else [])]
