"""The quickstart's recipe on real images: shortened here, as shipped in the slow suite."""

import json
from pathlib import Path
from typing import Any

import pytest

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"


def phase_2(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in results["solutions"] if row["phase"] == 2]


def shown(row: dict[str, Any], name: str) -> float:
    """Return the PSNR of the filled-in region on images that were never trained on."""
    return row["metrics"][name]["validation"]["truth"]["hidden-psnr"]


def test_a_short_quickstart_forgets_and_retains(unlearnkit, tmp_path):
    short = [
        "training.steps=20",
        "training.checks=1",
        "training.batch_size=8",
        "data.per_class={train: 24, validation: 12}",
    ]
    overrides = [part for value in short for part in ("--set", value)]
    fewer = ["--set", "epsilons={fractions: [0.2, 0.6]}", "--set", "evaluate.metrics=[{kind: hidden-psnr}]"]
    unlearnkit("run", RECIPE, "--to", "run", *overrides, *fewer).succeeded()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    original, (tight, loose) = results["original"], phase_2(results)
    assert tight["f1"] < loose["f1"] < original["f1"]
    assert shown(original, "forget") - shown(tight, "forget") > 1.5
    assert shown(original, "retain") - shown(tight, "retain") < 1.5
    assert shown(tight, "forget") < shown(loose, "forget") < shown(original, "forget")
    assert all(row["frozen_unchanged"] for row in results["solutions"])
    report = (tmp_path / "run" / "report.html").read_text()
    assert all(row["id"] in report for row in results["solutions"])


@pytest.mark.slow
def test_the_quickstart_shows_what_it_promises(unlearnkit, tmp_path):
    unlearnkit("run", RECIPE, "--to", "run").succeeded()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    rows = phase_2(results)
    assert len(rows) >= 5
    assert all(row["f1"] <= 1.02 * row["epsilon"] for row in rows)
    assert [row["f1"] for row in rows] == sorted(row["f1"] for row in rows)
    assert [row["f2"] for row in rows] == sorted((row["f2"] for row in rows), reverse=True)
    ids = {row["id"] for row in rows}
    assert not [row["id"] for row in rows if ids & set(row["dominated_by"])]
    forget = [shown(row, "forget") for row in rows]
    assert forget == sorted(forget)
    assert shown(results["original"], "forget") - forget[0] > 3
    assert shown(results["original"], "retain") - shown(rows[0], "retain") < 1
