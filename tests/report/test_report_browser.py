"""The page in a real browser: positions change numbers and pictures, and nothing fails."""

import json
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


def pushed(page: Path, profile: Path, script: str) -> str:
    """Return the page after a script that moves its slider."""
    source = page.read_text(encoding="utf-8")
    source = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", source)  # lets the test's script in
    moved = f"""<script>addEventListener("load", () => {{
      const slider = document.getElementById("slider");
      const send = (...kinds) => kinds.forEach((kind) => slider.dispatchEvent(new Event(kind, {{ bubbles: true }})));
      {script}
      document.title = location.hash + " " + slider.getAttribute("aria-valuetext");
    }});</script></body>"""
    other = page.with_name("moved.html")
    other.write_text(source.replace("</body>", moved), encoding="utf-8")
    return dom(other, profile)


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
    after = pushed(run / "report.html", tmp_path / "profile", "slider.value = 4; send('input', 'change');")
    f1, label, squares = shown(after)
    solution = next(s for s in results["solutions"] if s["id"] == "epsilon-2")
    assert (f1, label) == (figure(solution["f1"]), solution["label"])
    assert len(squares) == 2 * results["images"]["count"]
    assert f"<title>#solution=epsilon-2 {solution['label']}: f1 {f1}" in after
    assert 'data-solution="epsilon-2"' in after


def test_numbers_of_tables_are_read_whole_and_no_text_becomes_a_formula(run: Path, tmp_path: Path) -> None:
    write(Sealed.measured(run))
    texts = {
        "−1.234e−5": "-1.234e-5", "+1.5": "+1.5", "−3.2 %": "-3.2 %", "0.5 ± 0.1": "0.5 ± 0.1", "−2+3": "−2+3",
        "-1+cmd|' /C calc'!A0": "'-1+cmd|' /C calc'!A0", "+1+1": "'+1+1", "-2+3": "'-2+3", "＝1+1": "'＝1+1",
        "＋1": "'＋1", "－1": "'－1", "＠a": "'＠a", "=1": "'=1", "@a": "'@a",
    }  # fmt: skip
    read = ["−1.234e−5", "−2.5e3", ">40", "± 0.1", "0.5 ± 0.1", "—"]
    script = f"""document.body.dataset.plain = JSON.stringify({json.dumps([*texts])}.map(plain));
      document.body.dataset.read = JSON.stringify({json.dumps(read)}.map(number));"""
    found = pushed(run / "report.html", tmp_path / "profile", script)
    plain, numbers = (json.loads(unescape(re.search(f'data-{key}="([^"]*)"', found)[1])) for key in ("plain", "read"))
    assert plain == [*texts.values()]
    assert numbers == [-1.234e-5, -2500, 40, 0.1, 0.5, None]  # null stands for NaN


def test_a_page_without_pictures_and_solutions_runs_too(
    run: Path, results: dict[str, Any], write_results: Callable[[Path, dict[str, Any]], None], tmp_path: Path
) -> None:
    write_results(run, results | {"solutions": [], "range": None, "images": None})
    write(Sealed.measured(run))
    assert shown(dom(run / "report.html", tmp_path / "profile"))[1] == "original model"


def test_a_key_goes_to_the_next_place_of_the_dial_and_a_pointer_to_the_nearest(
    dialled: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    write(Sealed.measured(dialled))
    page, profile = dialled / "report.html", tmp_path / "profile"
    assert shown(dom(page, profile))[1] == "forget training images score as unseen ones (psnr)"
    stops = {s["id"]: s for s in found["dial"]["stops"]}
    tighter = max((s for s in stops.values() if s["f1"] < 0.66), key=lambda s: s["f1"])
    key = "slider.value = Number(slider.value) + 0.001; send('input');"
    source = pushed(page, profile, key)
    f1, label, squares = shown(source)
    assert (f1, label) == (figure(tighter["f1"]), tighter["label"])
    assert len(squares) == 2 * found["images"]["count"]
    assert 'data-field="epsilon">—<' in source
    point = re.search(rf'data-mark="{tighter["id"]}".*?<use [^>]*x="([^"]*)" y="([^"]*)"', source)
    marker = re.search(r'<circle id="marker" [^>]*translate\(([^p]*)px, ([^p]*)px\)', source)
    assert point
    assert marker
    assert [float(value) for value in marker.groups()] == pytest.approx([float(value) for value in point.groups()])
    back = pushed(page, profile, key + key + "slider.value -= 0.001; send('input', 'change');")
    assert shown(back)[1] == tighter["label"]
    assert f"<title>#solution={tighter['id']} between solutions: f1 {f1}, f2 {figure(tighter['f2'])}" in back
    held = "send('pointerdown'); slider.value = Number(slider.value) + 0.001; send('input');"
    assert shown(pushed(page, profile, held))[1] == "forget training images score as unseen ones (psnr)"
    ends = pushed(page, profile, "slider.value = slider.max; send('input');")
    assert shown(ends)[1] == "boundary: highest completeness"


def test_an_address_selects_a_stop(dialled: Path, found: dict[str, Any], tmp_path: Path) -> None:
    write(Sealed.measured(dialled))
    stop = found["dial"]["stops"][2]
    f1, label, squares = shown(dom(dialled / "report.html", tmp_path / "profile", f"#solution={stop['id']}"))
    assert (f1, label) == (figure(stop["f1"]), stop["label"])
    assert len(squares) == 2 * found["images"]["count"]


def test_maps_stand_in_the_page_and_follow_the_solution(
    run: Path, results: dict[str, Any], write_results: Callable[[Path, dict[str, Any]], None], tmp_path: Path
) -> None:
    ids = ["truth", "original", *(s["id"] for s in results["solutions"])]
    places = {name: [[at / 16, i / 8] for i in range(8)] for at, name in enumerate(ids)}
    plane = {"name": "PCA, 63 % of the variance", "points": {"forget": places, "retain": places}}
    failed = {"name": "t-SNE", "failed": "needs scikit-learn"}
    write_results(run, results | {"maps": {"extractor": {"extractor": "Net"}, "planes": [plane, failed]}})
    write(Sealed.measured(run))

    def now(source: str) -> list[list[float]]:
        groups = re.findall(r'<g class="(?:forget|retain) now".*?</g>', source, re.DOTALL)
        assert len(groups) == 2
        found = re.findall(r"translate\(([\d.]+) ([\d.]+)\)", groups[0])
        assert found == re.findall(r"translate\(([\d.]+) ([\d.]+)\)", groups[1])
        return [[float(x), 1 - float(y)] for x, y in found]

    text = (run / "report.html").read_text(encoding="utf-8")
    assert "needs scikit-learn" in text
    assert now(text) in [places[name] for name in ids[2:]]  # without a script, of the solution that is shown first
    source = dom(run / "report.html", tmp_path / "profile", "#solution=max-loss")
    shown(source)
    assert now(source) == places["max-loss"]
    dot = "document.querySelector('.maps .truth path:nth-child(3)')"
    pointed = f"{dot}.dispatchEvent(new Event('pointerover', {{ bubbles: true }}));"
    source = pushed(run / "report.html", tmp_path / "profile", pointed)
    assert '<figcaption id="pointed">forget image 3: truth</figcaption>' in source
    picture, square = (re.search(rf'id="{which}"[^>]* src="([^"]*)"', source) for which in ("seen", "forget/truth/2"))
    assert picture
    assert square
    assert picture[1] == square[1]
