"""The page in a real browser: positions change numbers and pictures, and nothing fails."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from unlearnkit.report import write
from unlearnkit.report.numbers import figure
from unlearnkit.seal import Sealed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--virtual-time-budget=3000", "--dump-dom")  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")]


def dom(page: Path, profile: Path, fragment: str = "") -> str:
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={profile}", page.as_uri() + fragment]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def shown(source: str) -> tuple[str, str, list[str]]:
    f1 = re.search(r'data-field="f1">([^<]*)<', source)
    label = re.search(r'<output id="current"[^>]*>([^<]*)<', source)
    assert f1
    assert label
    assert "data-error" not in source.partition("<head>")[0]
    rows = re.findall(r'<div class="strip now">(.*?)</div>', source, re.DOTALL)
    return f1[1], unescape(label[1]).replace("\u00a0", " "), re.findall(r'src="(data:[^"]*)"', "".join(rows))


def test_an_address_selects_a_solution(run: Path, results: dict[str, Any], tmp_path: Path) -> None:
    write(Sealed.measured(run))
    original = {"id": "original", "label": "original model", **results["original"]}
    solutions = {s["id"]: s for s in [original, *results["solutions"]]}
    pictures, places = set(), set()
    for key in ("original", "epsilon-2", "max-loss"):
        source = dom(run / "report.html", tmp_path / "profile", f"#solution={key}")
        f1, label, squares = shown(source)
        assert f1 == figure(solutions[key]["f1"])
        assert label == solutions[key]["label"]
        assert len(squares) == 2 * results["images"]["count"]
        pictures.add(tuple(squares))
        point = re.search(rf'class="point[^"]*" data-mark="{key}".*?<use [^>]*x="([^"]*)" y="([^"]*)"', source)
        marker = re.search(r'<circle id="marker" [^>]*translate\(([^p]*)px, ([^p]*)px\)', source)
        assert point
        assert marker
        assert [float(value) for value in marker.groups()] == pytest.approx([float(value) for value in point.groups()])
        places.add(marker.groups())
    assert len(pictures) == len(places) == 3


def test_the_slider_moves_numbers_pictures_and_the_address(run: Path, results: dict[str, Any], tmp_path: Path) -> None:
    write(Sealed.measured(run))
    page = run / "report.html"
    moved = """<script>addEventListener("load", () => {
      const slider = document.getElementById("slider");
      slider.value = 4;
      for (const kind of ["input", "change"]) slider.dispatchEvent(new Event(kind));
      setTimeout(() => { document.title = location.hash + " " + slider.getAttribute("aria-valuetext"); }, 200);
    });</script></body>"""
    source = page.read_text(encoding="utf-8")
    source = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", source)  # lets the test's script in
    page.write_text(source.replace("</body>", moved), encoding="utf-8")
    after = dom(page, tmp_path / "profile")
    f1, label, squares = shown(after)
    solution = next(s for s in results["solutions"] if s["id"] == "epsilon-2")
    assert (f1, label) == (figure(solution["f1"]), solution["label"])
    assert len(squares) == 2 * results["images"]["count"]
    assert f"<title>#solution=epsilon-2 {solution['label']}: f1 {f1}" in after
    assert 'data-solution="epsilon-2"' in after


def test_a_page_without_pictures_and_solutions_runs_too(
    run: Path, results: dict[str, Any], write_results: Callable[[Path, dict[str, Any]], None], tmp_path: Path
) -> None:
    write_results(run, results | {"solutions": [], "range": None, "images": None})
    write(Sealed.measured(run))
    assert shown(dom(run / "report.html", tmp_path / "profile"))[1] == "original model"
