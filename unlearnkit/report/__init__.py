"""From a run folder to report.html, report.md and plots."""

from pathlib import Path

from unlearnkit.report.reading import others
from unlearnkit.report.shape import load
from unlearnkit.report.verdict import verdict

__all__ = ["verdict", "write"]


def write(run: Path) -> list[Path]:
    """Write the report of a finished run into its folder, and return the files.

    A run with other methods gets a comparison too, where the recipe it was run from is there.
    """
    # matplotlib and jinja2 are slow to import
    from unlearnkit.report import comparison, curves, drawing, front, html, markdown, strips

    results, manifest = load(run)
    pictures, missing = strips.read(run, results)
    page, text = run / "report.html", run / "report.md"
    compared = bool(others(results)) and (run / "recipe.resolved.json").is_file()
    page.write_text(html.page(results, manifest, pictures, missing, compared), encoding="utf-8", newline="\n")
    with drawing.styled():
        plots = {
            "front.png": front.picture(front.front(results)),
            "convergence.png": curves.picture(results),
            "montage.png": strips.montage(pictures),
        }
        drawn = drawing.save(run / "plots", plots)
    text.write_text(markdown.text(results, manifest, drawn, missing, compared), encoding="utf-8", newline="\n")
    return [page, text, *drawn, *(comparison.write([run], run) if compared else [])]
