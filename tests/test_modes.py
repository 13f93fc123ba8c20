"""Every rule, loss space and kind of target runs from recipe to report, and the results name them."""

import json

import pytest
from tiny_task import ran

MODES = {
    "as published": (
        [
            "control.multiplier={kind: closed-form}",
            "control.epsilon={kind: constraint-gap}",
            "control.landing=none",
            "forget={kind: noise-embedding, target: fresh}",
        ],
        {"multiplier": "closed-form", "epsilon": "constraint-gap", "landing": "none", "target": "fresh"},
    ),
    "cheap": (["control.multiplier={kind: proportional-integral}"], {"multiplier": "proportional-integral"}),
    "output space": (
        ["forget={kind: noise-output}", "retain={kind: reference-output}"],
        {"forget": "noise-output", "retain": "reference-output", "target": "mean"},
    ),
    "random task": (["task={kind: random-tokens, token: 4}"], {"target": "fresh"}),
    "whole model, SGD": (["model.train=all", "training.optimizer={kind: sgd, lr: 0.02, momentum: 0.5}"], {}),
    "beside the composite loss": (["compare=[{kind: composite, alpha: 0.5}]"], {}),
}


@pytest.mark.parametrize(("overrides", "named"), MODES.values(), ids=MODES)
def test_a_mode_runs_and_is_named(tiny, overrides, named):
    run = ran(tiny, tiny.parent / "run", *overrides)
    results = json.loads((run / "results.json").read_text())
    assert results["mode"] | named == results["mode"]
    assert all(row["frozen_unchanged"] for row in results["solutions"])
    methods = [row for row in results["solutions"] if row["phase"] is None]
    assert len(methods) == len(json.loads((run / "recipe.resolved.json").read_text())["compare"])
    assert all(row["label"] in (run / "report.html").read_text() for row in methods)
