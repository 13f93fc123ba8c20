"""The site in a real browser: filter, card, embedded report; by mouse and by keyboard; nothing leaves the machine."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")]

PAGES = (
    "index.html",
    "tutorial.html",
    "in-pictures.html",
    "how-to/deletion-request.html",
    "gallery/index.html",
    "reference/losses.html",
    "reference/cli.html",
    "plugins.html",
)

CONTRAST = """
() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colour, under) => { // what a colour, with its transparency, makes of an opaque one
    paint.fillStyle = `rgb(${under.join(",")})`; paint.fillRect(0, 0, 1, 1);
    paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
    return layers.reduce((under, colour) => over(colour, under), [255, 255, 255]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim()) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest("svg, script, style, noscript")) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const paper = behind(element), ink = over(style.color, paper);
    const [high, low] = [light(ink), light(paper)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  return [...new Set(found)];
}
"""
"""WCAG 2.2, 1.4.3 (AA): texts whose contrast with what is behind them is below 4.5, or 3 for large ones."""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser) -> Iterator:
    """Return a function that opens a page; afterwards nothing may have failed or asked for anything elsewhere."""
    noted, contexts = [], []

    def note_failure(request):
        if request.failure != "net::ERR_ABORTED":  # a page that is left while it loads
            noted.append(f"failed {request.url}: {request.failure}")

    def note_request(request):
        if not request.url.startswith(("file:", "data:", "blob:", "about:")):
            noted.append(f"request {request.url}")

    def open_(path: Path, width: int, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(120_000)  # a machine that does other things at the same time
        page = context.new_page()
        page.on("request", note_request)
        page.on("pageerror", lambda error: noted.append(f"error {error}"))
        page.on("console", lambda said: noted.append(f"console {said.text}") if said.type == "error" else None)
        page.on("requestfailed", note_failure)
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert noted == []


@pytest.fixture(scope="module")
def card(site) -> Path:
    """Return the page of a recipe with a report of several ε."""
    return site / "gallery" / "quickstart.html"


@pytest.fixture(scope="module")
def compared(site) -> Path:
    """Return the page of a recipe whose runs of several seeds were collected: it has no report of one run."""
    pages = (path.parent for path in sorted(site.glob("gallery/*/comparison.html")))
    return next(folder for folder in pages if not (folder / "report.html").exists()).with_suffix(".html")


def shown(page) -> list[str]:
    return [item.get_attribute("class") for item in page.locator(".cards .card").all() if item.is_visible()]


def state(report) -> tuple[str, str, tuple[str, ...]]:
    """Return what the report shows: the solution's name, its f1, and the pictures."""
    pictures = tuple(image.get_attribute("src") for image in report.locator(".strip.now img").all())
    return report.locator("#current").inner_text(), report.locator('[data-field="f1"]').inner_text(), pictures


def test_the_filter_shows_the_cards_that_fit_and_a_card_opens(site, opened, card):
    page = opened(site / "gallery/index.html", 1440)
    every = shown(page)
    page.get_by_role("radio", name="diffusion", exact=True).check(force=True)
    some = shown(page)
    assert some == [one for one in every if "family-diffusion" in one.split()]
    assert 0 < len(some) < len(every)
    assert page.locator("#gallery-count").inner_text() == f"{len(some)} of {len(every)} recipes"
    page.locator("#gallery-filter label", has_text="center-crop").click()
    fitting = [one for one in some if "task-center-crop" in one.split()]
    assert shown(page) == fitting
    for group in page.locator("#gallery-filter fieldset").all():
        group.locator("label").first.click()
    assert shown(page) == every
    page.locator(".card a", has_text=card.stem).first.click()
    assert page.locator("h1").inner_text().startswith(card.stem)
    assert page.url == card.as_uri()


def test_the_filter_works_by_keyboard_alone(site, opened):
    page = opened(site / "gallery/index.html", 1440)
    every = len(shown(page))
    page.locator("#gallery-filter input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.checked && document.activeElement.value !== ''")
    assert 0 < len(shown(page)) < every
    focused = page.evaluate("getComputedStyle(document.activeElement.nextElementSibling).outlineStyle")
    assert focused == "solid"


@pytest.mark.parametrize("width", [390, 1440])
def test_the_slider_of_the_embedded_report_changes_pictures_and_numbers(opened, card, width):
    page = opened(card, width)
    frame = page.locator("iframe.report")
    frame.scroll_into_view_if_needed()
    report = page.frame_locator("iframe.report")
    slider = report.locator("#slider")
    slider.wait_for()
    seen = [state(report)]
    box = slider.bounding_box()
    for part in (0.05, 0.5):
        slider.click(position={"x": box["width"] * part, "y": box["height"] / 2}, force=True)
        seen.append(state(report))
    slider.focus()
    page.keyboard.press("Home")
    first = state(report)
    page.keyboard.press("ArrowRight")
    seen += [first, state(report)]
    page.keyboard.press("End")
    seen.append(state(report))
    assert first[0] == "original model"
    assert len({pictures for *_, pictures in seen}) >= 4
    assert len({f1 for _, f1, _ in seen}) >= 4
    assert all(source.startswith("data:image/") for *_, pictures in seen for source in pictures)
    inside = next(frame for frame in page.frames if frame != page.main_frame)
    assert inside.evaluate("document.documentElement.dataset.error ?? null") is None


@pytest.mark.parametrize("width", [390, 1440])
def test_the_axes_of_the_embedded_comparison_move_the_points(opened, compared, width):
    page = opened(compared, width)
    page.locator("iframe.report").scroll_into_view_if_needed()
    plane = page.frame_locator("iframe.report")
    plane.locator("#plot .mark").first.wait_for()

    def places() -> list[str | None]:
        return [mark.get_attribute("transform") for mark in plane.locator("#plot .mark").all()]

    before = places()
    assert len(before) > 20
    plane.locator("#x").focus()
    page.keyboard.press("ArrowDown")
    assert plane.locator("#x").input_value() != "f1"
    assert places() != before


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_scrolls_sideways(site, opened, width):
    embedded = [*site.glob("gallery/*/report.html"), *site.glob("gallery/*/comparison.html")]
    for path in [*(site / name for name in PAGES), *site.glob("gallery/*.html"), *embedded]:
        page = opened(path, width)
        wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= window, path
        assert page.locator("h1").first.is_visible()
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(site, opened, card, compared, scheme):
    embedded = [card.with_suffix("") / "report.html", compared.with_suffix("") / "comparison.html"]
    for path in [*(site / name for name in PAGES), card, compared, *embedded]:
        page = opened(path, 1440, scheme)
        page.wait_for_timeout(200)
        assert page.evaluate(CONTRAST) == [], path.relative_to(site)


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.skipif(not AXE.exists(), reason="npm install --no-save axe-core")
def test_axe_finds_no_violation(site, opened, card, width):
    for path in [*(site / name for name in PAGES), card]:
        page = opened(path, width)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate(
            "axe.run(document, { iframes: false, preload: false }).then(({ violations }) => violations)"
        )
        told = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
        assert told == [], path.relative_to(site)
        page.context.close()


@pytest.mark.parametrize(
    ("word", "found"),
    [("hypervolume", "metric"), ("membership", "audits"), ("MIA", "deletion request"), ("GDPR", "deletion request")],
)
def test_the_search_works_without_a_server(site, opened, word, found):
    page = opened(site / "index.html", 1440)
    page.locator("input[name=q]").first.fill(word)
    page.keyboard.press("Enter")
    page.locator("#search-results li", has_text=re.compile(found, re.I)).first.wait_for()


def test_a_command_is_copied_by_its_button(site, opened):
    page = opened(site / "how-to" / "deletion-request.html", 1440)
    block = page.locator(".highlight-shell", has_text="unlearnkit plan")
    block.hover()
    block.locator("button.copybtn").click()
    page.locator("input[name=q]").first.focus()
    page.keyboard.press("Control+V")
    assert page.locator("input[name=q]").first.input_value() == block.locator("pre").inner_text().strip()
