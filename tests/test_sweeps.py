"""Sweeps over ε: order, starts, budgets, and that stopping between two ε changes nothing."""

import json
from dataclasses import replace
from functools import partial

import pytest
import tiny_task
import torch

from unlearnkit.cli.screen import Screen
from unlearnkit.errors import Stopped
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run.plan import describe
from unlearnkit.solver.landing import LANDED, between
from unlearnkit.solver.phases import Bounds, front
from unlearnkit.solver.problem import Problem, Solution
from unlearnkit.solver.workbench import build

SWEEPS = {
    "line": ("{kind: independent}", [0, 1, 2], [24, 24, 24]),
    "original": ("{kind: independent, start: original}", [0, 1, 2], [24, 24, 24]),
    "tighten": ("{kind: continuation, budget: 0.5}", [2, 1, 0], [12, 12, 24]),
    "relax": ("{kind: continuation, direction: relax}", [0, 1, 2], [24, 24, 24]),
}


def loaded(tiny, sweep):
    return load(tiny, discover(), [f"sweep={sweep}"])


IDS = ["epsilon-at-0", "epsilon-at-0.5", "epsilon-at-1"]


def ran(tiny, folder, sweep, tell=lambda event: None):
    return results(tiny_task.ran(tiny, folder, f"sweep={sweep}", tell=tell))


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize(("sweep", "order", "steps"), SWEEPS.values(), ids=SWEEPS)
def test_a_sweep_has_its_order_and_its_budget(tiny, sweep, order, steps):
    told = []
    results = ran(tiny, tiny.parent / "run", sweep, told.append)
    solved = [event for event in told if event["event"] == "problem" and event["epsilon"] is not None]
    assert [event["id"] for event in solved] == [IDS[number] for number in order]
    assert [event["steps"] for event in sorted(solved, key=lambda event: event["id"])] == steps
    rows = [row for row in results["solutions"] if row["phase"] == 2]
    assert [row["id"] for row in rows] == IDS
    assert all(row["gap"] <= LANDED for row in rows)
    assert results["mode"]["sweep"] == loaded(tiny, sweep).recipe.sweep.kind
    assert describe(loaded(tiny, sweep).recipe, tiny.parent)["steps"] == 2 * 24 + sum(steps)


def solution(bench, theta):
    bench.flat.set(theta)
    check = {"step": 0, "f1": bench.sides["forget"].exact(), "f2": 0.0, "gap": None, "residual": 0.0, "lam": 0.0}
    return Solution(Problem("x", []), theta, {"checks": [check], "origin": {}})


def test_each_sweep_starts_where_it_says(tiny):
    sweeps = {name: loaded(tiny, sweep).recipe.sweep for name, (sweep, *_) in SWEEPS.items()}
    sweeps["highest"] = loaded(tiny, "{kind: independent, start: highest}").recipe.sweep
    bench = build(loaded(tiny, "{kind: independent}").recipe, tiny.parent)
    torch.manual_seed(0)
    highest, lowest, looser, far = (
        solution(bench, bench.origin + scale * torch.randn_like(bench.origin)) for scale in (0, 0.3, 0.1, 0.6)
    )
    assert highest.last.f1 < looser.last.f1 < lowest.last.f1 < far.last.f1
    middle, beyond = (highest.last.f1 + looser.last.f1) / 2, (lowest.last.f1 + far.last.f1) / 2
    bounds, line = Bounds(bench.origin, highest, lowest), partial(between, bench.flat, bench.sides["forget"])

    def begun(name, number, epsilon=middle, bounds=bounds):
        """Return where the `number`-th ε starts, with `looser` as what each before it ends at."""
        starts, problems = [], [Problem("e", [], epsilon=epsilon)] * 2

        def solve(problem, begin, ends):
            starts.append(begin())
            return looser

        assert list(front(bounds, problems, sweeps[name], line, False, far.last.f1, solve)) == [looser, looser]
        return starts[number]

    assert torch.equal(begun("original", 1), bench.origin)
    assert torch.equal(begun("highest", 1), highest.theta)
    assert torch.equal(begun("relax", 0), highest.theta)
    assert torch.equal(begun("relax", 1), looser.theta)
    for name, number, end in (("line", 1, lowest), ("tighten", 0, lowest), ("tighten", 1, looser)):
        theta = begun(name, number)
        share = float((theta - highest.theta).norm() / (end.theta - highest.theta).norm())
        torch.testing.assert_close(theta, torch.lerp(highest.theta, end.theta, share), rtol=0, atol=1e-5)
        bench.flat.set(theta)
        assert bench.sides["forget"].exact() == pytest.approx(middle, rel=LANDED)
    # Above the lowest completeness the loose end is the original model.
    bench.flat.set(begun("line", 1, beyond, replace(bounds, original=far.theta)))
    assert bench.sides["forget"].exact() == pytest.approx(beyond, rel=LANDED)


def test_stopping_between_two_epsilons_changes_no_bit(tiny):
    sweep = SWEEPS["tighten"][0]
    whole = ran(tiny, tiny.parent / "whole", sweep)

    def stop(event):
        if event["event"] == "solution" and event["id"] == "epsilon-at-1":
            raise Stopped(15)

    with pytest.raises(Stopped):
        ran(tiny, tiny.parent / "run", sweep, stop)
    assert results(tiny_task.resumed(tiny.parent / "run")) == whole


def test_a_sweep_that_does_not_exist_is_refused(tiny, unlearnkit):
    outcome = unlearnkit("validate", tiny, "--set", "sweep={kind: stacked}")
    assert outcome.code == 3
    assert "sweep.kind" in outcome.err


@pytest.mark.parametrize("sweep", tiny_task.WAYS[:3])
def test_the_bar_of_all_problems_ends_full(tiny, tmp_path, sweep):
    screen = Screen()
    tiny_task.ran(tiny, tmp_path / "run", sweep, *tiny_task.QUICK[:4], tell=screen.tell)
    (whole,) = screen.bars.tasks
    assert whole.completed == whole.total
