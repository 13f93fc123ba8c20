"""TensorBoard gets every figure of the run's events, and a run without it says what to install."""

import json

import pytest

from unlearnkit import tensorboard
from unlearnkit.errors import UserError

WATCHED = {"UNLEARNKIT_PLUGINS": "unlearnkit.tensorboard"}


def test_tensorboard_has_the_figures_of_the_events(tiny, unlearnkit):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    unlearnkit("run", tiny, "--to", "run", env=WATCHED).succeeded()
    run = tiny.parent / "run"
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    problems = {event["id"] for event in events if event["event"] == "problem"}
    assert {path.name for path in (run / "tensorboard").iterdir()} == problems
    for name in problems:
        found = accumulator.EventAccumulator(str(run / "tensorboard" / name))
        found.Reload()
        for kind, of in (("step", "batch"), ("check", "whole set")):
            told = [event for event in events if event["event"] == kind and event["id"] == name]
            written = [(scalar.step, scalar.value) for scalar in found.Scalars(f"f1/{of}")]
            assert written == [(event["step"], pytest.approx(event["f1"], rel=1e-6)) for event in told]
        assert "residual/whole set" in found.Tags()["scalars"]


def test_a_run_without_tensorboard_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'unlearnkit\[tensorboard\]'"):
        tensorboard.observe_run({"folder": str(tmp_path)})
