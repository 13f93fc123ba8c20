"""Laws of what a report shows of the dial and of targets; without either it is as it was."""

import json
import math
import re
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from report_pages import Page, html, markdown_rows

from unlearnkit.report import front, verdict
from unlearnkit.report.card import card
from unlearnkit.report.statement import claims, statement
from unlearnkit.report.verdict import recommended

Rewrite = Callable[[Path, dict[str, Any]], None]


def shown(page: Page) -> list[dict[str, str]]:
    return json.loads(next(t for t in page.text if t.startswith('{"beside"')))["positions"]


def curve(f1: list[float], f2: list[float]) -> list[dict[str, Any]]:
    """Return ε that are kept, loose to tight."""
    return [
        {"id": f"e{i}", "label": f"e{i}", "phase": 2, "epsilon": a, "f1": a, "f2": b, "satisfied": True}
        for i, (a, b) in enumerate(zip(f1, f2, strict=True))
    ]


def test_the_slider_passes_solutions_and_stops_by_f1(dialled: Path, found: dict[str, Any]) -> None:
    page = Page(html(dialled))
    passed = shown(page)
    ids = [p["id"] for p in passed]
    solved = [p["id"] for p in passed if "tick" in p]
    assert solved == [
        *("original", "target-retrained", "boundary-lowest", "epsilon-4", "epsilon-3", "epsilon-2", "target-unseen"),
        *("epsilon-1", "target-score", "epsilon-0", "boundary-highest"),
    ]
    f1 = {s["id"]: s["f1"] for s in [*found["solutions"], *found["dial"]["stops"]]} | {"original": 0.97}
    stops = [s["id"] for s in found["dial"]["stops"]]
    assert [i for i in ids if i in stops] == stops[::-1]
    for before, stop in pairwise(ids):
        assert stop not in stops or f1[before] >= f1[stop]
    places = [float(p["place"]) for p in passed]
    assert places == sorted(set(places))
    assert [float(p["place"]) for p in passed if "tick" in p] == list(range(len(solved)))
    assert page.values("input", "max") == [str(len(solved) - 1)]
    ticked = [attrs["data-id"] for tag, attrs in page.elements if tag == "a" and attrs.get("tabindex") == "-1"]
    assert ticked == solved


def test_what_is_tighter_than_the_highest_completeness_ends_the_slider(
    dialled: Path, found: dict[str, Any], write_results: Rewrite
) -> None:
    highest = found["range"]["lowest"]
    for place, stop in enumerate(found["dial"]["stops"][:3]):
        stop["f1"] = (0.90 + 0.02 * place) * highest
    tight = next(s for s in found["solutions"] if s["id"] == "target-score")
    tight |= {"f1": 0.93 * highest, "epsilon": 0.93 * highest, "fraction": -0.05}
    write_results(dialled, found)
    page = Page(html(dialled))
    passed = shown(page)
    assert [p["id"] for p in passed[-5:]] == ["boundary-highest", "dial-02", "target-score", "dial-01", "dial-00"]
    assert page.values("input", "max") == [passed[-1]["place"].removesuffix(".000")] == ["11"]
    assert f"--from: 2; --to: {passed[-5]['place']}" in " ".join(page.values("div", "style"))


def test_a_stop_shows_what_it_has_and_dashes(dialled: Path, found: dict[str, Any]) -> None:
    stop = found["dial"]["stops"][5]
    told = next(p for p in shown(Page(html(dialled))) if p["id"] == stop["id"])
    assert float(told["f1"]) == pytest.approx(stop["f1"], rel=5e-4)
    assert float(told["f2"]) == pytest.approx(stop["f2"], rel=5e-4)
    assert told["fraction"] == f"{100 * stop['fraction']:.3g} %"
    assert told["dial"] == "the curve"
    where = f"f1 {told['f1']}, f2 {told['f2']}, at {told['fraction']} of the valid range"
    assert told["spoken"] == f"between solutions: {where}"
    lacking = {"epsilon", "gap", "satisfied", "lam", "steps", "ended", *(key for key in told if "/" in key)}
    assert {told[key] for key in lacking} == {"—"}


def test_pictures_of_stops_are_embedded_once_and_lightly(dialled: Path, found: dict[str, Any]) -> None:
    source = html(dialled)
    pictures = {a["id"]: a["src"] for tag, a in Page(source).elements if tag == "img" and "id" in a}
    between = {key: src for key, src in pictures.items() if key.split("/")[1].startswith("dial-")}
    assert len(between) == 2 * len(found["dial"]["stops"]) * found["images"]["count"]
    montage = source.partition('<table class="montage"')[2].partition("</table>")[0]
    assert "dial-" not in montage
    assert sum(map(len, between.values())) < 2000 * len(between)


def test_a_picture_of_a_stop_that_is_no_image_is_said(dialled: Path) -> None:
    (dialled / "images/forget-dial-03.png").write_bytes(b"no")
    assert "images/forget-dial-03.png can't be shown: not an image." in Page(html(dialled)).text


def test_the_front_draws_the_dial_to_the_original_and_the_valid_range(dialled: Path, found: dict[str, Any]) -> None:
    marked = [a["data-mark"] for _, a in Page(html(dialled)).elements if a.get("class") == "stop"]
    assert sorted(marked) == [s["id"] for s in found["dial"]["stops"]]
    laid = front.front(found)
    assert [key for key, *_ in laid.way] == [*marked, "original"]
    assert laid.valid == (found["range"]["lowest"], found["range"]["highest"])
    assert all(laid.x.inside(f1) == f1 and laid.y.inside(f2) == f2 for _, f1, f2 in laid.way)
    assert [text for _, text in laid.legend()][-2:] == ["dial: any ε between", "valid range of ε"]
    assert not {p.epsilon for p in laid.points if p.id.startswith("target-")} - {None}


@pytest.mark.parametrize(
    "epsilons", [[0.5, 0.51, 0.52, 0.9], [0.412, 0.412, 0.95], [0.41 + 0.04 * i for i in range(14)]]
)
def test_no_two_values_of_epsilon_touch_in_the_front(results: dict[str, Any], epsilons: list[float]) -> None:
    results["solutions"] = curve(epsilons, [0.05 - 0.001 * i for i in range(len(epsilons))])
    for width, height in ((4.6, 3.4), (6.4, 4.4)):
        plot = front.drawn(front.front(results), width, height)
        plot.canvas.draw()
        values = [text for text in plot.axes[0].texts if str(text.get_gid()).startswith("bound/")]
        boxes = [text.get_window_extent() for text in values]
        assert len(boxes) == len(epsilons)
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_without_dial_and_targets_the_report_has_nothing_of_them(written: Path, results: dict[str, Any]) -> None:
    source, text = ((written / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    body = source.partition("<body")[2].partition('<script type="application/json"')[0]
    for word in ('class="valid"', 'data-field="dial"', 'class="stop"', "Targets", "the dial", "targets met"):
        assert word not in body + text
    assert Page(source).values("input", "step") == ["1"]
    assert (front.front(results).way, front.front(results).valid) == ([], None)


def test_a_dial_without_stops_moves_from_solution_to_solution(
    dialled: Path, found: dict[str, Any], write_results: Rewrite
) -> None:
    found["dial"]["stops"] = []
    write_results(dialled, found)
    page = Page(html(dialled))
    assert page.values("input", "step") == ["1"]
    assert all("tick" in p for p in shown(page))
    assert front.front(found).way == []


def test_targets_are_tabulated_with_what_was_found(dialled: Path, found: dict[str, Any]) -> None:
    source = html(dialled)
    text = (dialled / "report.md").read_text(encoding="utf-8")
    heads, *rows = markdown_rows(text, "## Targets")
    assert heads == ["target", "wanted", "found", "95 % interval", "met", "ε found", "place in the valid range", "f2"]
    asked = [s for s in found["solutions"] if "target" in s]
    assert [row[0] for row in rows] == [s["target"]["label"] for s in asked]
    assert [row[1:6] for row in rows] == [
        ["7.000", "8.300", "—", r"no \[1\]", "0.4130"],
        ["14.20 dB", "14.19 dB", "± 0.17 dB", "yes", "0.6600"],
        ["—", "0.3100 dB", "—", "yes", "0.9600"],
    ]
    assert [row[6] for row in rows] == [f"{round(100 * s['fraction'], 1):g} %" for s in asked]
    assert f"- [1] {asked[0]['target']['label']}: {asked[0]['target']['note']}" in text
    section = source.partition('<h2 id="targets">')[2].partition("</section>")[0]
    assert re.findall(r'<tr data-row="([^"]*)"', section) == [s["id"] for s in asked]
    assert asked[0]["target"]["note"] in section


def test_a_target_is_a_mark_at_the_slider(dialled: Path) -> None:
    page = Page(html(dialled))
    aims = {a["data-id"]: a["class"] for tag, a in page.elements if tag == "a" and a.get("class", "").startswith("aim")}
    assert aims == {"target-retrained": "aim met", "target-unseen": "aim met", "target-score": "aim missed"}
    told = {p["id"]: p for p in shown(page)}
    assert told["target-unseen"]["tick"] == "unseen"
    assert told["target-unseen"]["spoken"].endswith(", target met")
    assert told["target-score"]["spoken"].endswith(", target not met")


def test_the_verdict_counts_given_epsilons_and_targets_apart(found: dict[str, Any]) -> None:
    said = "5 of 5 ε satisfied (largest gap +0.8 %). 2 of 3 targets met; not met: forget set psnr at most 7"
    assert verdict(found).startswith(said)
    found["solutions"] = [s for s in found["solutions"] if s["phase"] != 2 or s.get("target", {}).get("met")]
    assert verdict(found).startswith("No ε was run. 2 of 2 targets met. From")


def test_what_no_step_was_taken_for_has_no_convergence(dialled: Path) -> None:
    source = html(dialled)
    assert 'data-mark="epsilon-0"' in source.partition('<div class="panels">')[2]
    assert 'data-mark="target-' not in source.partition('<div class="panels">')[2].partition("</section>")[0]


def test_the_first_target_that_is_met_is_shown_first(dialled: Path, found: dict[str, Any]) -> None:
    first, why = recommended(found)
    assert first["id"] == "target-unseen"
    assert why == f"Start with “{first['label']}”: it is the first of the targets that are met."
    page = Page(html(dialled))
    place = next(p["place"] for p in shown(page) if p["id"] == first["id"])
    assert page.values("input", "value") == [place]
    assert any(text.startswith(why) for text in page.text)
    assert why in (dialled / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e6])
def test_the_bend_is_farthest_below_the_chord_whatever_the_units(results: dict[str, Any], scale: float) -> None:
    # Below the chord of (1, 0) and (0, 1) lie (.8, .05) by .15, (.5, .1) by .4 and (.2, .5) by .3.
    results["solutions"] = curve([1.0, 0.8, 0.5, 0.2, 0.0], [scale * f2 for f2 in (0.0, 0.05, 0.1, 0.5, 1.0)])
    first, why = recommended(results)
    assert first["id"] == "e2"
    assert "the bend of the front, farthest below the line between e0 and e4" in why
    results["solutions"][2]["satisfied"] = False
    assert recommended(results)[0]["id"] == "e3"


def test_of_equal_bends_the_looser_is_shown(results: dict[str, Any]) -> None:
    results["solutions"] = curve([1.0, 0.7, 0.1, 0.0], [0.0, 0.1, 0.7, 1.0])
    assert recommended(results)[0]["id"] == "e1"


@pytest.mark.parametrize(
    "solutions",
    [
        curve([1.0, 0.2], [0.0, 1.0]),  # no chord between two
        curve([1.0, 0.5, 0.0], [0.0, 0.5, 1.0]),  # straight
        curve([1.0, 0.5, 0.0], [0.0, 0.9, 1.0]),  # bent the other way
        curve([1.0, 0.5, 0.0], [1.0, 0.5, 1.0]),  # no trade-off between the ends
        curve([1.0, 0.5, 0.0], [0.0, math.nan, 1.0]),
    ],
)
def test_without_a_bend_the_most_complete_is_shown(results: dict[str, Any], solutions: list[dict[str, Any]]) -> None:
    results["solutions"] = solutions
    first, why = recommended(results)
    assert first["id"] == solutions[-1]["id"]
    assert why == f"Start with {first['label']}: the most complete one that keeps its ε."


def test_without_solutions_the_original_model_is_shown(results: dict[str, Any]) -> None:
    results["solutions"] = []
    assert recommended(results)[0]["id"] == "original"


def test_a_card_says_how_its_model_was_found_and_what_for(dialled: Path, found: dict[str, Any]) -> None:
    manifest = json.loads((dialled / "manifest.json").read_text(encoding="utf-8"))
    manifest["data"] = [source | {"files": 3, "files_sha256": "77aa" * 16} for source in manifest["data"]]
    found["tolerance"] = 0.05
    rows = {s["id"]: s for s in found["solutions"]}
    for row in rows.values():
        row["digest"] = "ab" * 32

    def told(solution: str) -> str:
        return card(statement(claims(found, manifest, solution), {}))

    text = told("target-unseen")
    way = "on the curve between the highest completeness and the original model"
    assert f"| how it was found | {way}, not polished |\n" in text
    assert "| target it serves | forget training images score as unseen ones (psnr) |\n" in text
    assert "| what was found for it | 14.19 ± 0.17 dB, wanted 14.2; met |\n" in text
    rows["target-score"]["served"] = {"dial": "polyline", "polish": 30}
    text = told("target-score")
    assert f"| how it was found | {way.replace('curve', 'polyline')}, polished by 30 steps |\n" in text
    assert "| what was found for it | 8.3, wanted 7; NOT met: it cannot be met" in text
    plain = told("epsilon-1")
    assert "how it was found" not in plain
    assert "target it serves" not in plain


def test_what_a_target_says_is_text(dialled: Path, found: dict[str, Any], write_results: Rewrite) -> None:
    evil = "</script><img onerror=alert(1)>|`$x_$\n# &amp; {{ 7*7 }}"
    asked = next(s for s in found["solutions"] if s["id"] == "target-unseen")
    asked["label"] = evil
    asked["target"] |= {"kind": evil, "label": evil, "unit": evil, "note": evil}
    found["dial"]["stops"][0]["label"] = evil
    write_results(dialled, found)
    page = Page(html(dialled))
    assert not page.values("img", "onerror")
    assert len([1 for tag, _ in page.elements if tag == "script"]) == 2
    text = (dialled / "report.md").read_text(encoding="utf-8")
    assert "<img" not in text
    assert {len(row) for row in markdown_rows(text, "## Targets")} == {8}
