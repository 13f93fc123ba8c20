"""Laws of report.html and report.md."""

import base64
import copy
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image, ImageChops
from report_pages import Page, html, markdown_rows, page_of
from tiny_task import ran

from unlearnkit.errors import Exit, UserError
from unlearnkit.report import write
from unlearnkit.report.shape import Results
from unlearnkit.report.tables import SOLUTION_COLUMNS
from unlearnkit.report.verdict import recommended
from unlearnkit.seal import Sealed

Rewrite = Callable[[Path, dict[str, Any]], None]


def test_every_solution_is_in_the_table_and_at_the_slider(written: Path, results: dict[str, Any]) -> None:
    page = Page(page_of(written))
    rows = page.values("tr", "data-row")
    ids = {"original", *(s["id"] for s in results["solutions"])}
    assert set(rows) == ids
    shown = json.loads(next(t for t in page.text if t.startswith('{"beside"')))
    assert {p["id"] for p in shown["positions"] + shown["beside"]} == ids
    assert [p["id"] for p in shown["positions"]] == [
        *("original", "boundary-lowest", "epsilon-4", "epsilon-3", "epsilon-2", "epsilon-1", "epsilon-0"),
        "boundary-highest",
    ]
    assert page.values("input", "max") == [str(len(shown["positions"]) - 1)]


def test_the_page_refers_to_nothing_outside_itself(written: Path) -> None:
    source = page_of(written)
    attributes = [value for _, attrs in Page(source).elements for key, value in attrs.items() if key in ("src", "href")]
    assert attributes
    assert all(value.startswith(("data:", "#")) for value in attributes)
    assert "url(" not in source
    assert "@import" not in source
    assert "default-src 'none'" in source


def test_the_plots_of_the_page_are_marked_by_solution(written: Path, results: dict[str, Any]) -> None:
    elements = Page(page_of(written)).elements
    ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for tag, attrs in elements if tag == "use"} <= {f"#{id_}" for id_ in ids}
    marked: dict[str, list[str]] = {}
    for tag, attrs in elements:
        if tag in ("g", "a") and "data-mark" in attrs:
            marked.setdefault(attrs["class"], []).append(attrs["data-mark"])
    bounds = [s["id"] for s in results["solutions"] if s["epsilon"] is not None]
    trained = [s["id"] for s in results["solutions"] if s["history"]]
    assert sorted(marked["point"]) == sorted(["original", *(s["id"] for s in results["solutions"])])
    assert sorted(marked["bound"]) == sorted(2 * bounds)  # its line and its value
    assert sorted(marked["epsilon-line"]) == sorted(bounds)
    assert sorted(marked["line"]) == sorted(3 * trained)
    labels = [attrs["aria-label"] for tag, attrs in elements if tag == "a" and "aria-label" in attrs]
    assert "ε at 0 %: f1 0.4153, f2 0.04944" in labels
    assert "max-loss: f1 1.420, f2 5.070, dominated" in labels


def test_a_name_stays_text(run: Path, results: dict[str, Any], write_results: Rewrite) -> None:
    evil = "</script><img onerror=alert(1)>|`$x_$\n# &amp; {{ 7*7 }}"
    results["name"] = evil
    results["solutions"][0]["label"] = evil
    results["warnings"] = [evil]
    write_results(run, results)
    page = Page(html(run))
    assert not page.values("img", "onerror")
    assert len([1 for tag, _ in page.elements if tag == "script"]) == 2
    assert evil in page.text
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "<img" not in text
    assert {len(row) for row in markdown_rows(text, "## Solutions")} == {len(SOLUTION_COLUMNS)}


def test_warnings_of_results_and_manifest_are_told_once(run: Path, results: dict[str, Any]) -> None:
    (of_results,) = results["warnings"]
    of_run = "resumed with training.steps=9: solutions found before used the old value"
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["warnings"] = [of_run, of_results, of_run]
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    page = Page(html(run))
    text = (run / "report.md").read_text(encoding="utf-8")
    for warning in (of_results, of_run):
        assert page.text.count(warning) == 1
        assert text.count(f"- **Warning:** {warning}\n") == 1


def test_a_failed_metric_says_why(written: Path) -> None:
    # It failed for every model, so that it has no column and no cell that says so.
    reason = "[1] KID ↓, against the original model: KID needs 100 images, the retain set has 50"
    page, text = page_of(written), (written / "report.md").read_text(encoding="utf-8")
    assert page.count(reason) == text.count(reason) == 2  # of both splits
    heads, *rows = markdown_rows(text, "### Retain set, 150 validation images")
    assert "KID ↓, against the truth" in heads
    assert "KID ↓, against the original model" not in heads
    assert {len(row) for row in rows} == {len(heads)}
    assert "failed" not in " ".join(cell for row in rows for cell in row)


def test_the_same_inputs_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "elsewhere")
    places = map(Sealed.measured, (run, tmp_path / "elsewhere"))
    first, second = ({f.name: f.read_bytes() for f in write(place)} for place in places)
    assert set(first) == {"report.html", "report.md", "front.png", "convergence.png", "montage.png"}
    assert first == second


def test_what_is_unknown_is_a_dash(run: Path, results: dict[str, Any], write_results: Rewrite) -> None:
    for solution in results["solutions"][:4]:
        solution.update(f1=math.nan, f2=None, lam=math.nan, residual=None, steps=None)
        solution["history"]["lam"][3] = None
        solution["metrics"]["forget"]["validation"]["truth"]["psnr"] = math.nan
    results["original"]["f2"] = math.nan
    write_results(run, results)
    text = " ".join(t for t in Page(html(run)).text if not t.startswith('"use strict"'))
    assert "—" in text
    assert not re.search(r"\b(nan|NaN|None|null|undefined)\b", text)
    assert "nan" not in (run / "report.md").read_text(encoding="utf-8").lower().split()


@pytest.mark.parametrize("lack", ["solutions", "phase 2", "images", "history", "metrics"])
def test_what_is_lacking_does_not_stop_the_report(
    run: Path, results: dict[str, Any], write_results: Rewrite, lack: str
) -> None:
    changed = copy.deepcopy(results)
    match lack:
        case "solutions":
            changed |= {"solutions": [], "range": None}
        case "phase 2":
            changed["solutions"] = [s for s in results["solutions"] if s["phase"] == 1]
        case "images":
            del changed["images"]
        case "history":
            changed["solutions"] = [s | {"history": None} for s in results["solutions"]]
        case "metrics":
            changed["metrics"] = {}
            for solution in (changed["original"], *changed["solutions"]):
                solution["metrics"] = {}
    write_results(run, changed)
    page = html(run)
    assert results["name"] in page
    assert "not recorded" not in page
    linked = re.findall(r"\]\((plots/\S+)\)", (run / "report.md").read_text(encoding="utf-8"))
    assert all((run / link).is_file() for link in linked)


def test_the_report_of_a_run_names_its_data_and_when_it_was_resumed(tiny: Path, unlearnkit: Callable[..., Any]) -> None:
    unlearnkit("run", tiny, "--to", "run", "--set", "training.steps=12", "--set", "training.checks=1").succeeded()
    text = (tiny.parent / "run/report.md").read_text()
    assert "- forget data: pictures\n" in text
    assert "- retain data: pictures\n" in text
    assert "- resumed: never\n" in text
    unlearnkit("resume", "run", "--set", "evaluate.images=2").succeeded()
    assert re.search(
        r"^- resumed: \d{4}-\S+ with evaluate\.images=2$", (tiny.parent / "run/report.md").read_text(), re.M
    )


def test_markdown_shows_the_numbers_of_the_results(written: Path, results: dict[str, Any]) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    heads, *rows = markdown_rows(text, "## Solutions")
    shown = {row[heads.index("id")]: dict(zip(heads, row, strict=True)) for row in rows}
    for solution in results["solutions"]:
        for head, key in (("f1", "f1"), ("f2", "f2"), ("ε", "epsilon"), ("λ", "lam"), ("residual", "residual")):
            cell, value = shown[solution["id"]][head], solution[key]
            assert cell == "—" if value is None else math.isclose(read(cell), value, rel_tol=5e-4)
        before = shown[solution["id"]]["gap before landing"]
        assert before == (f"{solution['landing']['gap']:+.1%}".replace("%", " %") if solution.get("landing") else "—")
    heads, *rows = markdown_rows(text, "### Retain set, 150 validation images")
    for label, cell in ((row[0], row[heads.index("PSNR (dB) ↑, against the truth")]) for row in rows[1:]):
        solution = next(s for s in results["solutions"] if s["label"] == label)
        assert math.isclose(read(cell), solution["metrics"]["retain"]["validation"]["truth"]["psnr"], rel_tol=5e-4)


def test_large_pictures_do_not_bloat_the_page(run: Path, results: dict[str, Any], write_results: Rewrite) -> None:
    results["images"].update(count=2, size=160)
    for path in (run / "images").iterdir():
        Image.effect_noise((320, 160), 60).save(path)
    write_results(run, results)
    sources = [s for s in Page(html(run)).values("img", "src") if s.startswith("data:")]
    montage, rows, preview = 2 * 2 * (3 + len(results["solutions"])), 2 * 2 * 5, 2 * 2
    assert len(sources) == montage + rows + preview
    as_they_are = 4 / 3 * sum(path.stat().st_size for path in (run / "images").iterdir())
    assert sum(map(len, sources)) < as_they_are  # though the first screen shows some of them once more


def test_pictures_are_embedded_pixel_for_pixel(written: Path, results: dict[str, Any]) -> None:
    pictures = {a["id"]: a["src"] for tag, a in Page(page_of(written)).elements if tag == "img" and "id" in a}
    count, size = results["images"]["count"], results["images"]["size"]
    assert len(pictures) == 2 * count * (3 + len(results["solutions"]))
    for place, source in pictures.items():
        of, name, i = place.split("/")
        with Image.open(written / f"images/{of}-{name}.png") as strip:
            square = strip.crop((int(i) * size, 0, (int(i) + 1) * size, size))
        with Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))) as shown:
            assert shown.convert("RGB").tobytes() == square.tobytes()


def test_the_page_opens_with_what_the_first_solution_changed(written: Path, results: dict[str, Any]) -> None:
    elements = Page(page_of(written)).elements
    rows: dict[tuple[str, str], list[str]] = {}
    for attrs in (attrs for tag, attrs in elements if tag == "img" and "data-of" in attrs and "id" not in attrs):
        rows.setdefault((attrs["data-set"], attrs["data-of"]), []).append(attrs["src"])
    assert {of for of, _ in rows} == {"forget", "retain"}
    assert [row for of, row in rows if of == "forget"] == ["truth", "input", "original", "now", "difference"]
    first = recommended(cast("Results", results))[0]
    with (
        Image.open(BytesIO(base64.b64decode(rows["forget", "difference"][0].partition(",")[2]))) as shown,
        Image.open(written / "images/forget-original.png") as before,
        Image.open(written / f"images/forget-{first['id']}.png") as after,
    ):
        side = results["images"]["size"]
        wanted = ImageChops.difference(before, after).crop((0, 0, side, side)).point(lambda v: 4 * v)
        assert max(high for _, high in ImageChops.difference(shown.convert("RGB"), wanted).getextrema()) < 24  # lossy
        assert wanted.getbbox()


def test_a_folder_without_results_or_of_another_format_is_refused(
    tmp_path: Path, results: dict[str, Any], write_results: Rewrite
) -> None:
    with pytest.raises(UserError, match="no run folder") as caught:
        Sealed.of(tmp_path)
    assert caught.value.code is Exit.FOLDER
    write_results(tmp_path, results | {"format": 2})
    with pytest.raises(UserError, match="format 2 is not 1"):
        write(Sealed.measured(tmp_path))


def test_the_verdict_needs_neither_torch_nor_matplotlib() -> None:
    code = "import sys, unlearnkit.report as r; print({'torch', 'matplotlib', 'jinja2'} & set(sys.modules), r.verdict)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("set()")


def read(cell: str) -> float:
    return float(cell.replace("−", "-"))


def test_pictures_are_whole_where_a_set_has_fewer_than_are_asked_for(tiny: Path) -> None:
    """Two validation images to forget, four to retain, three asked for."""
    run = ran(tiny, tiny.parent / "run", "data.per_class={train: 6, validation: 2}")
    results = json.loads((run / "results.json").read_text())
    assert results["images"]["count"] == 2
    for of in ("forget", "retain"):
        with Image.open(run / f"images/{of}-truth.png") as strip:
            assert strip.size == (2 * 16, 16)
