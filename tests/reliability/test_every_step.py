"""A run that stops after any of its steps and goes on has the bytes of one that never stopped."""

import shutil

import pytest
from tiny_task import ran, resumed

from unlearnkit.plugins import discover
from unlearnkit.run import runner
from unlearnkit.solver.descent import Descent

STEPS = 6
SHORT = [
    f"training={{steps: {STEPS}, batch_size: 4, checks: 2, checkpoint_every: 1, device: cpu, optimizer: OPTIMIZER}}",
    "epsilons={fractions: [0.5]}",
    "evaluate={metrics: [{kind: hidden-psnr}], images: 1, stops: 1}",
]
STATES = {
    "moments-and-averages": (
        "{kind: adamw, lr: 3.0e-3}",
        ["control.multiplier={kind: averaged}", "compare=[{kind: decoupling, distance: 9, sensitivity: 1.0e-3}]"],
    ),
    "momentum-and-integral": (
        "{kind: sgd, lr: 1.0e-2, momentum: 0.9}",
        ["control.multiplier={kind: proportional-integral}", "compare=[{kind: lagrangian, epsilon: 1.0e-3}]"],
    ),
    "curve-and-polish": ("{kind: adamw, lr: 3.0e-3}", ["sweep={kind: curve, budget: 2, polish: 5}"]),
}
"""Of the optimiser and of the rule for λ, each with a method: one of two stages, one whose λ is Adam's; of a curve."""


def files(run):
    found = [run / "results.json", *run.glob("solutions/*/*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


@pytest.mark.parametrize(("optimizer", "state"), STATES.values(), ids=STATES)
def test_a_run_restored_after_any_step_ends_in_the_same_bytes(shared_tiny, tmp_path, monkeypatch, optimizer, state):
    monkeypatch.setattr(runner, "write_report", lambda folder: [])  # not in question here, and most of the time
    monkeypatch.setattr(Descent, "every", 2)  # steps of a window of the history, so that it can be cut in two
    plugins, run, moments, steps = discover(), tmp_path / "run", tmp_path / "moments", {}

    def keep(event):
        """Copy the run folder when a checkpoint is new in it."""
        if event["event"] == "problem":
            steps[event["id"]] = event["steps"]
        for checkpoint in run.glob("checkpoints/*/step-*"):
            moment = moments / checkpoint.relative_to(run / "checkpoints")
            if not moment.exists():
                shutil.copytree(run, moment)

    overrides = [override.replace("OPTIMIZER", optimizer) for override in SHORT]
    ran(shared_tiny, run, *overrides, *state, plugins=plugins, tell=keep)
    whole = files(run)
    assert len(steps) == 4
    restored = sorted(moments.glob("*/*"))
    wanted = {f"{problem}/step-{step:09d}" for problem, count in steps.items() for step in range(1, count + 1)}
    assert {str(moment.relative_to(moments)) for moment in restored} == wanted
    for moment in restored:
        resumed(moment, plugins=plugins)
        assert files(moment) == whole, moment
