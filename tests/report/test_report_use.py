"""What a person does with the page: on any screen, without its script, on paper, and with a screen reader."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from test_report_browser import CHROMIUM

from unlearnkit.report import write
from unlearnkit.seal import Sealed

sync_api = pytest.importorskip("playwright.sync_api")
AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")]
Open = Callable[..., Any]
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const { left, right, width } = one.getBoundingClientRect();
  return width && (left < -1 || right > innerWidth + 1) && !one.closest(".scroll, svg, [hidden]");
}).map((one) => one.outerHTML.slice(0, 200))"""
COVERED = """() => {
  const wide = [...document.querySelectorAll("th, td")].filter((cell) => cell.scrollWidth > cell.clientWidth + 1);
  const texts = [...document.querySelectorAll("#plot text")].map((text) => [text, text.getBoundingClientRect()]);
  const both = (a, b, start, end) => Math.min(a[end], b[end]) - Math.max(a[start], b[start]);
  const over = texts.filter(([, a], i) => texts.slice(i + 1).some(
    ([, b]) => both(a, b, "left", "right") > 1 && both(a, b, "top", "bottom") > 3));
  return [...wide, ...over.map(([text]) => text)].map((one) => one.outerHTML.slice(0, 200));
}"""
"""Cells that their text does not fit into, and texts of the plane that lie on others."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Open]:
    """Return what opens a page in a window of its own."""
    contexts = []

    def open_(file: Path, **options: Any) -> Any:
        contexts.append(chromium.new_context(viewport={"width": options.pop("width", 1440), "height": 900}, **options))
        page = contexts[-1].new_page()
        page.goto(file.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(params=["written/report.html", "dialled/report.html", "written/comparison.html"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a report, one with a dial, and a comparison."""
    folder, name = request.param.split("/")
    run = shutil.copytree(request.getfixturevalue(folder), tmp_path / "run")  # the other is for tests that only read
    if name == "comparison.html":
        from unlearnkit.report import comparison

        resolved = {"name": "forget-faces", "seed": 0, "data": {}}
        (run / "recipe.resolved.json").write_text(json.dumps(resolved), encoding="utf-8")
        comparison.write([Sealed.measured(run)], tmp_path)
        return tmp_path / name
    write(Sealed.measured(run))
    return run / name


@pytest.mark.parametrize("width", [390, 768, 1440, 1920])
def test_nothing_is_cut_off_at_any_width(file: Path, opened: Open, width: int) -> None:
    page = opened(file, width=width)
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(COVERED) == []


@pytest.mark.parametrize("width", [390, 1121, 1280])
def test_the_name_of_every_row_of_pictures_is_whole(dialled: Path, opened: Open, width: int) -> None:
    write(Sealed.measured(dialled))
    page = opened(dialled / "report.html", width=width)
    for tick in page.locator(".ticks a").all():
        tick.click()
        cut = "(names) => names.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
        assert page.locator(".strip > span:first-child").evaluate_all(cut) == []
        assert page.evaluate(OUTSIDE) == []


def test_the_scores_of_a_solution_fit_a_telephone(dialled: Path, opened: Open) -> None:
    write(Sealed.measured(dialled))
    page = opened(dialled / "report.html", width=390)
    scores = page.locator(".scroll:has(> .validation)")
    longest = """(box) => {
      for (const row of box.querySelectorAll("tbody tr:has(td)")) {
        row.firstElementChild.textContent = "Feature distance (MobileNetV2 96)";
        while (row.children.length < 4) row.append(document.createElement("td"));
        for (const cell of [...row.children].slice(1)) cell.textContent = "−0.008021";
      }
      return box.scrollWidth <= box.clientWidth;
    }"""
    assert scores.evaluate(longest)


def test_nothing_is_cut_off_on_paper(file: Path, opened: Open) -> None:
    page = opened(file, width=1032, color_scheme="dark")  # A4 across, without its margins
    page.emulate_media(media="print")
    assert page.evaluate(OUTSIDE.replace(".scroll, svg", "svg")) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert all(plot.bounding_box()["height"] < 600 for plot in page.locator(".over svg").all())  # a page has 700 px
    ticks = page.locator(".ticks a").all()
    assert all(tick.evaluate("(one) => parseFloat(getComputedStyle(one).fontSize)") >= 8 for tick in ticks)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.skipif(not AXE.exists(), reason="npm install --no-save axe-core")
def test_axe_finds_no_violation(file: Path, opened: Open, width: int, scheme: str) -> None:
    page = opened(file, width=width, color_scheme=scheme, bypass_csp=True)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(({ violations }) => violations)")
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_the_first_screen_shows_both_sets_of_the_recommended_solution_and_why(dialled: Path, opened: Open) -> None:
    write(Sealed.measured(dialled))
    page = opened(dialled / "report.html")
    places = [page.locator("#verdict"), page.locator("#first"), *page.locator(".strip.now").all()]
    boxes = [place.bounding_box() for place in places]
    assert len(boxes) == 4
    assert all(box["y"] + box["height"] <= 900 for box in boxes)


@pytest.mark.parametrize("script", [True, False])
def test_without_the_script_and_on_paper_every_picture_and_table_is_there(
    dialled: Path, found: dict[str, Any], opened: Open, script: bool
) -> None:
    write(Sealed.measured(dialled))
    page = opened(dialled / "report.html", java_script_enabled=script)
    pictures = 2 * found["images"]["count"] * (3 + len(found["solutions"]) + len(found["dial"]["stops"]))
    if script:
        assert page.locator(".montage img:visible").count() < pictures
        page.emulate_media(media="print")
    assert page.locator(".montage img:visible").count() == pictures
    assert page.locator(".strip img:visible").count() == 2 * 5 * found["images"]["count"]
    assert page.locator("tbody tr[data-row]:visible").count() == page.locator("tbody tr[data-row]").count()


@pytest.mark.parametrize("script", [True, False])
def test_without_a_selection_each_line_has_the_colour_that_the_list_says(
    written: Path, results: dict[str, Any], opened: Open, script: bool
) -> None:
    page = opened(written / "report.html", java_script_enabled=script)
    if script:
        assert not page.locator(".curves .legend").is_visible()
        page.emulate_media(media="print")
    listed = page.locator(".curves .legend li:visible")
    stroke = "(all) => all.map((one) => getComputedStyle(one).stroke)"
    lines = page.locator(".panels figure").first.locator(".line > path").evaluate_all(stroke)
    assert sorted(listed.locator("path").evaluate_all(stroke)) == sorted(lines)  # the selected one is drawn last
    trained = [one["label"] for one in results["solutions"] if (one.get("history") or {}).get("step")]
    assert sorted(text.replace("\xa0", " ") for text in listed.all_inner_texts()) == sorted(trained)
    assert len({*lines}) == len(lines) > 1


def test_a_point_leads_to_its_pictures_without_the_script(written: Path, opened: Open) -> None:
    page = opened(written / "report.html", java_script_enabled=False)
    for link in page.locator(".front a.point").all():
        assert page.locator(f'[id="{link.get_attribute("href")[1:]}"]').count() == 1


def test_a_table_is_sorted_and_saved_as_it_is_shown(written: Path, results: dict[str, Any], opened: Open) -> None:
    page = opened(written / "report.html")
    section = page.locator("section:has(#solutions)")
    heading = section.get_by_role("button", name="f2", exact=True)
    heading.click()
    assert page.locator("[aria-sort]").get_attribute("aria-sort") == "descending"
    with page.expect_download() as download:
        section.get_by_role("button", name="Save as CSV: Solutions").click()
    assert download.value.suggested_filename == "solutions.csv"
    heads, *rows = csv.reader(StringIO(Path(download.value.path()).read_text(encoding="utf-8")))
    f2 = [float(row[heads.index("f2")]) for row in rows]
    assert f2 == sorted(f2, reverse=True)
    assert len(rows) == 1 + len(results["solutions"])
    assert {row[heads.index("gap")] for row in rows} >= {"-0.2 %", "+0.8 %", "—"}
    heading.click()
    assert section.locator("tbody tr").first.get_attribute("data-row") == "original"


def test_a_table_is_copied_without_formulas(run: Path, results: dict[str, Any], opened: Open) -> None:
    results["solutions"][0]["label"] = "=1+1"
    (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    write(Sealed.measured(run))
    page = opened(run / "report.html", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy: Solutions").click()
    rows = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert len(rows) == 2 + len(results["solutions"])
    assert any(row.startswith("'=1+1\t") for row in rows)


def test_a_picture_is_enlarged_beside_what_it_is_held_against(written: Path, opened: Open) -> None:
    page = opened(written / "report.html#solution=epsilon-1".partition("#")[0])
    page.locator('.strip.now img[data-set="retain"]').nth(2).press("Enter")
    zoom = page.locator("dialog[open]")
    assert zoom.locator("img").count() == 5
    assert zoom.locator("img").nth(3).get_attribute("alt").startswith("retain image 3: ")
    page.keyboard.press("ArrowRight")
    assert zoom.locator("img").nth(3).get_attribute("alt").startswith("retain image 4: ")
    page.keyboard.press("Escape")
    page.locator('[id="forget/max-loss/0"]').click()
    assert zoom.locator("figcaption").nth(3).inner_text() == "max-loss"


def comes_true(page: Any, expression: str) -> bool:
    """Look again and again; Playwright's own waiting evaluates text in the page, which its policy forbids."""
    for _ in range(100):
        if page.evaluate(expression):
            return True
        page.wait_for_timeout(100)
    return False


def test_the_difference_is_of_the_solution_that_is_shown(written: Path, opened: Open) -> None:
    page = opened(written / "report.html")
    page.goto((written / "report.html").as_uri() + "#solution=original")
    ready = "[...document.querySelectorAll('.difference img')].every(({ src }) => src.startsWith('data:image/png'))"
    assert comes_true(page, ready)
    brightest = """() => {
      const image = document.querySelector(".difference img");
      if (!image.complete) return null;
      const canvas = document.createElement("canvas");
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const { data } = context.getImageData(0, 0, image.naturalWidth, image.naturalHeight);
      return Math.max(...data.filter((_, i) => i % 4 < 3));
    }"""
    assert comes_true(page, f"({brightest})() === 0")
    page.goto((written / "report.html").as_uri() + "#solution=max-loss")
    assert comes_true(page, f"({brightest})() > 0")
