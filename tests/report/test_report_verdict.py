"""The verdict says what the numbers say."""

import math
from typing import Any

from unlearnkit.report import verdict
from unlearnkit.report.numbers import figure, percent, whole


def test_a_good_run_is_told_with_its_numbers(results: Any) -> None:
    text = verdict(results)
    assert "5 of 5 ε satisfied (largest gap +0.8 %)." in text
    assert "From the original model to ε at 0 %, the forget loss f1 falls from 0.970 to 0.415" in text
    assert "the retain loss f2 rises from 0 to 0.0494." in text
    assert "the forget set's PSNR against the truth falls from 19.1 to 8.30 dB" in text
    assert "the retain set's falls from 19.1 to 18.5 dB." in text


def test_a_missed_epsilon_is_named_and_not_described(results: Any) -> None:
    next(s for s in results["solutions"] if s["id"] == "epsilon-0").update(satisfied=False, gap=0.3)
    text = verdict(results)
    assert "4 of 5 ε satisfied (largest gap +30.0 %); missed: ε = 0.412." in text
    assert "From the original model to ε at 25 %" in text


def test_without_a_kept_epsilon_the_boundary_is_described(results: Any) -> None:
    for solution in results["solutions"]:
        solution["satisfied"] = False
    assert "From the original model to boundary: highest completeness" in verdict(results)


def test_a_failed_phase_1_is_said(results: Any) -> None:
    results.update(range=None, solutions=[])
    assert verdict(results) == "Phase 1 found no valid range of ε, so no ε was run."


def test_a_failed_metric_gives_way_to_the_next(results: Any) -> None:
    for splits in results["original"]["metrics"].values():
        splits["validation"]["truth"]["psnr"] = {"failed": "no"}
    assert "the forget set's SSIM against the truth falls from 0.710 to 0.215" in verdict(results)


def test_the_recipes_first_metric_is_told(results: Any) -> None:
    results["metrics"] = {key: results["metrics"][key] for key in ("ssim", "kid", "psnr")}
    assert "the forget set's SSIM against the truth falls from 0.710 to 0.215" in verdict(results)


def test_a_dominated_solution_is_said(results: Any) -> None:
    next(s for s in results["solutions"] if s["id"] == "epsilon-3")["dominated_by"] = ["boundary-lowest"]
    said = "Dominated, so not part of the front: ε at 75 % (by boundary: lowest completeness)."
    assert said in verdict(results)


def test_the_hypervolume_of_the_front_is_said(results: Any) -> None:
    results["front"] = {"reference": [1.0, 0.05], "hypervolume": 0.0305, "share": 0.61}
    said = "The front dominates 61 % of the area below the original model's f1 and the f2 of the highest completeness"
    assert f"{said} (hypervolume 0.0305)." in verdict(results)
    results["front"] = None
    assert "The front dominates" not in verdict(results)


def test_a_number_reads_back_at_four_digits() -> None:
    for value in (0.0, 1.0, 12.5, -0.0021, 3.14159e-9, 123456.0, 0.99996, -7e20):
        assert math.isclose(float(figure(value).replace("−", "-")), value, rel_tol=5e-4)
        assert "." not in figure(value)[-1:]


def test_what_is_not_a_number_is_a_dash() -> None:
    for value in (None, math.nan, "x", True, -math.inf):
        assert {figure(value), percent(value), whole(value)} == {"—"}
    assert figure(math.inf) == "∞"
    assert percent(-0.0001) == "0.0 %"


def test_what_rounding_left_is_0() -> None:
    assert figure(-5.55e-17) == figure(7.8e-14) == "0"
