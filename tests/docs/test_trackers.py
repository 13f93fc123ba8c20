"""The tracker's plugin on the page does what the page says, run beside a module that notes what it is told."""

import json

import pytest
from blocks import ROOT, blocks

NAMES = ("f1", "f2", "lam", "gap", "residual")
(PLUGIN,) = [b for b in blocks(ROOT / "docs/how-to/trackers.md") if b.said == "mlflow_unlearning.py"]
NOTES = """\
import json, os

def noted(name):
    def note(*values, **named):
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(json.dumps([name, values, named]) + "\\n")
    return note

start_run, log_metrics, set_tag, end_run = map(noted, ("start_run", "log_metrics", "set_tag", "end_run"))
"""
"""The four functions of MLflow that the plugin calls; with any other, or with what is no JSON, it would fail."""


@pytest.fixture
def told(tiny, unlearnkit):
    """Return a function that runs the recipe with the plugin, and gives what the tracker was told and the events."""

    def run(*overrides):
        (tiny.parent / PLUGIN.said).write_text(PLUGIN.text)
        (tiny.parent / "mlflow.py").write_text(NOTES)
        env = {"UNLEARNKIT_PLUGINS": "mlflow_unlearning", "NOTES": str(tiny.parent / "notes.jsonl")}
        outcome = unlearnkit("run", tiny, "--to", "runs/tracked", *overrides, env=env)
        assert "mlflow_unlearning" not in outcome.err
        return [
            [json.loads(line) for line in (tiny.parent / name).read_text().splitlines()]
            for name in ("notes.jsonl", "runs/tracked/events.jsonl")
        ]

    return run


def test_the_tracker_is_told_every_figure_of_every_step_and_check(told):
    calls, events = told()
    assert calls[0] == ["start_run", [], {"run_name": "tracked"}]
    assert calls[-1] == ["end_run", [], {}]
    wanted = []
    for event in events:
        if event["event"] in ("step", "check"):
            where = {"step": "batch", "check": "set"}[event["event"]]
            figures = {f"{event['id']}/{n}/{where}": event[n] for n in NAMES if event.get(n) is not None}
            wanted.append(["log_metrics", [figures], {"step": event["step"]}])
    assert [call for call in calls if call[0] == "log_metrics"] == wanted
    kinds = {name.split("/", 1)[1] for _, (figures, *_), _ in wanted for name in figures}
    assert {"f1/batch", "f2/batch", "f1/set", "gap/set", "residual/set"} <= kinds
    assert all(isinstance(value, float | int) for _, (figures, *_), _ in wanted for value in figures.values())


def test_the_tracker_is_told_of_warnings(told):
    calls, events = told("--set", "epsilons={values: [0.025, 90.0]}")  # no model loses so much on this task
    warnings = [event["message"] for event in events if event["event"] == "warning"]
    assert warnings
    assert [call[1] for call in calls if call[0] == "set_tag"] == [["warning", message] for message in warnings]


def test_the_plugin_has_about_thirty_lines():
    assert len([line for line in PLUGIN.text.splitlines() if line.strip()]) <= 33
