"""The headline says what the figures and the audits say, and no figure in it is from anywhere else."""

import json
import math
import re
from copy import deepcopy
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from report_pages import Page, html

from unlearnkit.builtin.audits.pairs import TwoPoints
from unlearnkit.contracts import Figure
from unlearnkit.report import limits
from unlearnkit.report.headline import against, headline
from unlearnkit.report.headline import held as held_against
from unlearnkit.report.verdict import recommended

GALLERY = sorted((Path(__file__).parents[2] / "docs/gallery").rglob("results.json"))
COUNT = 40
AUC = {"name": "AUC", "meaning": "", "forgotten": 0.5, "unit": "", "chance": 0.1}
SHARE = vars(TwoPoints.figures["share"]) | {"chance": 0.1}
PEAK = {"name": "decoder", "meaning": "", "forgotten": "lower", "unit": "dB", "chance": None}


def scored(results: Any, **sets: dict[str, tuple[float, float]]) -> Any:
    """Set PSNR on validation images, by set and model: against the truth, and against the original model."""
    results["fill"] = {"label": "mean-colour fill", "metrics": deepcopy(results["original"]["metrics"])}
    models = {"original": results["original"], "fill": results["fill"], **{s["id"]: s for s in results["solutions"]}}
    single: dict[str, Any] = {"metric": "psnr", "against": "truth"}
    for of, values in sets.items():
        images = [f"{of}/{i}.png" for i in range(COUNT)]
        single[of] = {"images": images, "shown": [0, 9], "scores": {}}
        for number, (name, (truth, original)) in enumerate(values.items()):
            models[name]["metrics"][of]["validation"]["truth"]["psnr"] = truth
            models[name]["metrics"][of]["validation"]["original"]["psnr"] = original
            single[of]["scores"][name] = [truth + 0.2 * math.sin(i * (number + 1)) for i in range(COUNT)]
    return results | {"each": single}


def audited(results: Any, figure: dict[str, Any], **values: float) -> Any:
    cells = {name.replace("_", "-"): {"it": value} for name, value in values.items()}
    entry = {"id": "membership", "label": "membership", "about": "", "samples": "", "seeds": [0], "facts": {}}
    return results | {
        "audits": [entry | {"figures": {"it": figure}, "original": cells.pop("original"), "solutions": cells}]
    }


def limited(results: Any, figure: str, bound: float) -> Any:
    """Set a limit on a figure of an audit that the results have."""
    asked = {"figure": figure, "at_least": None, "at_most": bound}
    return results | {"limits": limits.held([asked], results)}


@pytest.fixture
def gone(results: Any) -> Any:
    """Return a run at whose first ε faces score as a fill does and the other classes as before."""
    forget = {"original": (19.0, 60.0), "fill": (11.0, 12.0), "epsilon-0": (12.0, 13.0)}
    retain = {"original": (18.0, 60.0), "fill": (12.0, 13.0), "epsilon-0": (17.7, 36.0)}
    return scored(results, forget=forget, retain=retain)


@pytest.fixture
def super_resolution(gone: Any) -> Any:
    """Return a run whose outputs lose little PSNR and are seen to be others."""
    forget = {"original": (25.0, 60.0), "fill": (24.8, 27.0), "epsilon-0": (24.7, 24.0)}
    retain = {"original": (26.0, 60.0), "fill": (24.0, 27.0), "epsilon-0": (25.9, 45.0)}
    found = scored(gone, forget=forget, retain=retain)
    found["metrics"] = {"psnr": found["metrics"]["psnr"]}
    found["fill"]["label"] = "input as it is"
    return found


def solution(results: Any, name: str = "epsilon-0") -> Any:
    return next(s for s in results["solutions"] if s["id"] == name)


def shown(text: str) -> list[str]:
    """Return the figures of a sentence."""
    return re.findall(r"−?\d+(?:\.\d+)?", text)


def held(results: Any, s: Any) -> list[float]:
    """Return by hand every figure that a headline can have of a solution."""
    models = [results["original"], s, results.get("fill"), *(o for o in results["solutions"] if o.get("retrained"))]
    values: list[float] = [results["sets"]["retain"]["validation"]]
    for of in ("forget", "retain"):
        for metric in results["metrics"]:
            for side in ("truth", "original"):
                cells = [m["metrics"][of]["validation"][side].get(metric) if m else None for m in models]
                numbers = [cell for cell in cells if isinstance(cell, float)]
                values += numbers
                if len(numbers) > 2:
                    values += [abs(numbers[0] - numbers[1])]
                    spans = [numbers[0] - least for least in numbers[2:]]
                    values += [100 * (numbers[0] - numbers[1]) / span for span in spans if span]
                elif len(numbers) == 2:
                    values += [abs(numbers[0] - numbers[1])]
        if each := results.get("each"):
            pairs = zip(each[of]["scores"]["original"], each[of]["scores"][s["id"]], strict=True)
            differences = [b - a for a, b in pairs]
            values += [1.96 * stdev(differences) / math.sqrt(len(differences))]
    values.append(len(against(results, s)) - 1)  # beside the one that is told
    for audit in results.get("audits", []):
        rows = [audit["original"], *(audit["solutions"][m["id"]] for m in models[1:] if m and "id" in m)]
        values += [v["over"] if isinstance(v, dict) and "over" in v else v for row in rows for v in row.values()]
        for its in audit["figures"].values():
            values += [its["forgotten"], its.get("chance")]
    for limit in results.get("limits", []):
        kept = limit["solutions"][s["id"]]["kept"]
        values += [limit["at_most"], limit["solutions"][s["id"]]["found"], int(kept is True), len(results["limits"])]
    return [float(v) for v in values if isinstance(v, int | float)]


def test_every_figure_of_the_headline_is_of_the_results(gone: Any, super_resolution: Any, results: Any) -> None:
    made = [gone, audited(gone, AUC, original=0.91, epsilon_0=0.82), super_resolution]
    every = audited(gone, AUC, original=0.91, **{s["id"]: 0.82 for s in gone["solutions"]})
    made += [limited(every, "membership/it", bound) for bound in (0.8, 0.85)]
    found = [results, *(json.loads(path.read_text(encoding="utf-8")) for path in GALLERY)]
    assert len(found) > 5
    runs = [(run, solution(run)) for run in made] + [(run, recommended(run)[0]) for run in found]
    for run, first in runs:
        text = headline(run, first)
        for metric in run["metrics"].values():  # such as FID by a MobileNetV2
            text = text.replace(metric.get("name") or " ", " ")
        assert len(shown(text)) > 3
        for figure in shown(text):
            value, last = float(figure.replace("−", "-")), 10.0 ** -len(figure.partition(".")[2])
            assert min(abs(known - value) for known in held(run, first)) <= 0.501 * last, (figure, text)


def test_a_set_that_scores_as_a_fill_no_longer_comes_back(gone: Any) -> None:
    said = headline(gone, solution(gone))
    assert said.startswith("Faces no longer come back: of what the original model shows of them beyond the mean-colour")
    assert "88 % is gone (PSNR: 19.00 → 12.00 dB; mean-colour fill 11.00 dB)" in said
    assert "; no audit looked for what the weights still hold. The other classes (airplanes, motorbikes and" in said
    assert re.search(r"watch\) lost 0\.30 ± 0\.\d\d dB, 5 % of what they had \(18\.00 → 17\.70 dB", said)
    assert said.count(". ") == 1  # two sentences


@pytest.mark.parametrize(
    ("now", "words"), [(13.5, "come back in part"), (18.5, "still come back"), (19.5, "nothing is gone")]
)
def test_what_comes_back_is_said(gone: Any, now: float, words: str) -> None:
    solution(gone)["metrics"]["forget"]["validation"]["truth"]["psnr"] = now
    assert words in headline(gone, solution(gone))
    assert "no longer" not in headline(gone, solution(gone))


@pytest.mark.parametrize(
    ("figure", "values", "speaks"),
    [
        (AUC, {"original": 0.91, "epsilon_0": 0.82}, True),
        (AUC, {"original": 0.91, "epsilon_0": 0.14}, True),  # a trace, turned round
        (AUC, {"original": 0.91, "epsilon_0": 0.57}, False),
        (AUC | {"chance": None}, {"original": 0.91, "epsilon_0": 0.67}, False),
        (AUC | {"chance": None}, {"original": 0.91, "epsilon_0": 0.73}, True),
        (AUC, {"original": 0.56, "epsilon_0": 0.57}, False),  # within chance
        (SHARE, {"original": 0.5, "epsilon_0": 0.62}, True),
        (SHARE, {"original": 0.5, "epsilon_0": 0.58}, False),
        (SHARE, {"original": 0.5, "epsilon_0": 0.1}, False),  # fewer images are no trace
        (SHARE, {"original": 0.5, "epsilon_0": 0.3, "max_loss": 0.5}, False),
        (SHARE, {"original": 0.5, "epsilon_0": 0.7, "max_loss": 0.5}, True),
        (PEAK, {"original": 15.0, "epsilon_0": 15.2}, True),
        (PEAK, {"original": 15.0, "epsilon_0": 12.0}, False),
        (PEAK, {"original": 15.0, "epsilon_0": 14.0, "max_loss": 11.0}, True),  # nearer to the original
        (PEAK, {"original": 15.0, "epsilon_0": 12.0, "max_loss": 11.0}, False),
    ],
)
def test_nothing_is_called_forgotten_that_an_audit_speaks_against(
    gone: Any, figure: dict[str, Any], values: dict[str, float], speaks: bool
) -> None:
    solution(gone, "max-loss")["retrained"] = "max_loss" in values
    run = audited(gone, figure, **values)
    said = headline(run, solution(run))
    assert bool(against(run, solution(run))) == speaks
    assert ("audits speak against calling them forgotten: membership, " in said) == speaks
    assert ("Faces no longer come back" in said) != speaks
    assert ("no audit speaks against it" in said) != speaks
    useless = values["original"] == 0.56  # within chance for the original model too
    assert ("no audit speaks against it: membership, " in said) == (not speaks and not useless)
    assert ("none against the original model either" in said) == useless


def test_chance_is_enough_where_the_original_was_not_measured(gone: Any) -> None:
    run = audited(gone, AUC, original=0.9, epsilon_0=0.9)
    run["audits"][0]["original"] = {"it": {"failed": "too few images"}}
    assert against(run, solution(run))


def test_of_several_retrained_models_the_mean_counts_and_each_is_held_against_the_others(gone: Any) -> None:
    scores = {"max-loss": 11.0, "composite-0": 12.0, "composite-1": 16.0}
    for name, psnr in scores.items():
        s = solution(gone, name)
        s["retrained"], s["metrics"]["forget"]["validation"]["truth"]["psnr"] = True, psnr
    for name, least in (("epsilon-0", 13.0), ("max-loss", 14.0)):
        its = held_against(gone, solution(gone, name), "forget", "psnr")
        assert its is not None
        assert its.retrained == least
    assert "; mean of retrained models 13.00 dB)" in headline(gone, solution(gone))
    figures = {"original": 15.0, "epsilon_0": 13.0, "max_loss": 14.0, "composite_0": 10.0, "composite_1": 9.0}
    run = audited(gone, PEAK, **figures)  # half the way from 15 to the mean, 11
    assert not against(run, solution(run))
    run = audited(gone, PEAK, **figures | {"epsilon_0": 13.1})
    assert "13.1 dB (original 15.0, retrained 11.0)" in against(run, solution(run))[0]
    assert "14.0 dB (original 15.0, retrained 9.50)" in against(run, solution(run, "max-loss"))[0]
    run["audits"][0]["solutions"]["max-loss"]["it"] = {"failed": "too few images"}
    assert "13.1 dB (original 15.0)" in next(iter(against(run, solution(run))), headline(run, solution(run)))


def test_one_row_of_several_retrained_models_says_so(run: Path, results: Any) -> None:
    names = {"max-loss", "composite-0"}
    for s in results["solutions"]:
        s["retrained"] = s["id"] in names
    (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert "composite α = 0.25 (first of 2)" in "".join(Page(html(run)).text).replace("\u00a0", " ")


def test_the_limits_of_the_recipe_are_judged_and_one_that_an_audit_breaks_speaks_against_it(gone: Any) -> None:
    others = {s["id"]: 0.5 for s in gone["solutions"]}
    run = audited(gone, AUC, original=0.91, **{**others, "epsilon-0": 0.57})
    kept, broken = (limited(run, "membership/it", bound) for bound in (0.6, 0.55))
    said = headline(kept, solution(kept))
    assert said.startswith("Faces no longer come back")
    assert said.endswith(" 1 of 1 limits of the recipe kept.")
    said = headline(broken, solution(broken))
    assert against(broken, solution(broken))
    assert not against(kept, solution(kept))
    assert "no longer come back" not in said
    assert "audits speak against calling them forgotten: membership, AUC 0.570" in said
    assert said.endswith(" 0 of 1 limits of the recipe kept; BROKEN: membership AUC ≤ 0.55 (found 0.5700).")


def test_a_broken_limit_speaks_against_a_model_whatever_way_its_figure_points(gone: Any) -> None:
    apart = AUC | {"name": "apart", "forgotten": None, "chance": None}
    run = audited(gone, apart, original=1.0, **{s["id"]: 1.5 for s in gone["solutions"]})
    kept, broken = (limited(run, "membership/it", bound) for bound in (1.6, 1.4))
    assert not against(run, solution(run))
    assert not against(kept, solution(kept))
    assert against(broken, solution(broken)) == ["membership, apart 1.50 (original 1.00)"]
    said = headline(broken, solution(broken))
    assert "no longer come back" not in said
    assert "audits speak against calling them forgotten: membership, apart 1.50" in said
    assert "no audit looked for what the weights still hold" in headline(kept, solution(kept))


@pytest.mark.parametrize(("name", "figure"), [("it", AUC), ("", AUC | {"forgotten": None})])
def test_audits_that_failed_are_not_called_ones_that_nobody_asked_for(gone: Any, name: str, figure: Any) -> None:
    run = audited(gone, figure, original=0.0, epsilon_0=0.0)
    entry = run["audits"][0]
    cells = [entry["original"], entry["solutions"]["epsilon-0"]]
    for cell in cells:
        cell.pop("it")
        cell[name] = {"failed": "too few images"}
    entry["figures"] = {name: figure}
    said = headline(run, solution(run))
    assert said.startswith("Faces no longer come back")
    assert "; the audits of what the weights still hold failed. The other classes" in said
    assert "no audit" not in said
    for cell, value in zip(cells if name else (), (0.9, 0.5), strict=False):
        cell[name] = value
    assert not name or "no audit speaks against it: membership, AUC 0.500" in headline(run, solution(run))


@pytest.mark.parametrize(("now", "speaks"), [(-0.9, True), (-0.2, False), (0.2, False), (0.9, True)])
def test_a_whole_number_that_a_plugin_gives_is_a_value_with_two_sides(gone: Any, now: float, speaks: bool) -> None:
    run = audited(gone, vars(Figure("excess", "Excess.", 0)) | {"chance": None}, original=1.0, epsilon_0=now)
    run = json.loads(json.dumps(run))
    assert bool(against(run, solution(run))) == speaks
    assert "without a trace 0)" in headline(run, solution(run))


def test_where_no_score_shows_it_is_said_what_a_person_sees(super_resolution: Any) -> None:
    said = headline(super_resolution, solution(super_resolution))
    assert said.startswith("PSNR alone does not tell whether faces are restored (PSNR: 25.00 → 24.70 dB; input as it")
    assert "to the eye they look visibly other than the original model's (24.0 dB between them)" in said
    assert "no longer" not in said


def test_the_next_metric_is_told_where_the_first_shows_nothing(super_resolution: Any, results: Any) -> None:
    super_resolution["metrics"] = results["metrics"] | {"ssim": {"name": "SSIM", "better": "higher"}}
    super_resolution["fill"]["metrics"]["forget"]["validation"]["truth"]["ssim"] = 0.2
    said = headline(super_resolution, solution(super_resolution))
    assert re.match(
        r"Faces are no longer restored: .* 97 % is gone \(SSIM: 0\.710 → 0\.215; input as it is 0\.200\)", said
    )


def test_the_recommended_takes_most_of_those_that_take_little(gone: Any) -> None:
    gone["metrics"] = {"psnr": gone["metrics"]["psnr"]}
    for name, forget, retain in (("epsilon-1", 12.5, 17.5), ("epsilon-2", 14.0, 17.9), ("epsilon-0", 11.1, 16.0)):
        for of, value in (("forget", forget), ("retain", retain)):
            solution(gone, name)["metrics"][of]["validation"]["truth"]["psnr"] = value
    first, why = recommended(gone)
    assert first["id"] == "epsilon-1"
    assert "it takes most from the forget set, 81 % of what the original model has over the mean-colour fill" in why
    assert "of all that take at most 10 % from the retain set; it takes 8 % (PSNR)." in why


def test_the_page_and_the_markdown_open_with_it(run: Path, gone: Any) -> None:
    (run / "results.json").write_text(json.dumps(gone), encoding="utf-8")
    first, why = recommended(gone)
    page = Page(html(run))
    text = (run / "report.md").read_text(encoding="utf-8")
    assert headline(gone, first) in page.text
    assert text.split("\n\n")[1:3] == [headline(gone, first), why]
    assert [a["href"] for tag, a in page.elements if tag == "a"][:2] == ["#explorer", "#cautions"]
    ids = {a["id"] for _, a in page.elements if "id" in a}
    assert {a["href"][1:] for tag, a in page.elements if tag == "a" and a["href"][:2] != "#s"} <= ids


def test_the_worst_of_single_images_are_tabulated(run: Path, gone: Any) -> None:
    (run / "results.json").write_text(json.dumps(gone), encoding="utf-8")
    section = html(run).partition('<h2 id="images">')[2].partition("</section>")[0]
    rows = re.findall(r'<tr data-row="epsilon-0">(.*?)</tr>', section)
    cells = [re.findall(r"<t[hd][^>]*>(?:<a[^>]*>)?([^<]*)", row)[1:] for row in rows]
    scores = gone["each"]["forget"]["scores"]["epsilon-0"]
    best = sorted(range(COUNT), key=lambda i: -scores[i])[:3]
    assert [row[1] for row in cells[:3]] == [f"forget/{i}.png" for i in best]
    before, after = (gone["each"]["retain"]["scores"][name] for name in ("original", "epsilon-0"))
    lost = sorted((a - b for a, b in zip(before, after, strict=True)), reverse=True)[:3]
    assert [float(row[-1]) for row in cells[3:]] == pytest.approx(lost, abs=5e-3)
    assert len({len(row[i].partition(".")[2]) for row in cells[3:] for i in (3, -1)}) == 1  # no more digits than scores


def test_sets_that_share_a_class_are_not_told_by_their_classes(gone: Any) -> None:
    gone["sets"]["retain"]["classes"] = ["airplanes", "faces"]
    said = headline(gone, solution(gone))
    assert said.startswith("The images of the forget set no longer come back: ")
    assert ". The retained images lost 0.30 ± " in said
