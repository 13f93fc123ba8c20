"""A recipe with several seeds: the same images, a run each, one comparison; stopping, resuming and what is refused."""

import json

import pytest
from tiny_task import ran, resumed

from unlearnkit.errors import Stopped
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run.plan import describe, lines

QUICK = ["seeds=[0, 5]", "training.steps=12", "epsilons={fractions: [0.5]}", "compare=[{kind: composite}]"]


@pytest.fixture(scope="module")
def whole(shared_tiny):
    """Return a run of both seeds."""
    return ran(shared_tiny, shared_tiny.parent / "whole", *QUICK)


def results(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("seed-*/results.json")}


def test_seeds_share_their_images_and_nothing_else_that_is_drawn(whole):
    found = results(whole)
    assert sorted(found) == ["seed-0", "seed-5"]
    digests = [json.loads((whole / name / "manifest.json").read_text())["data"] for name in found]
    assert digests[0] == digests[1]
    resolved = [json.loads((whole / name / "recipe.resolved.json").read_text()) for name in sorted(found)]
    assert [(one["seed"], one["data"]["seed"], one["seeds"]) for one in resolved] == [(0, 3, None), (5, 3, None)]
    assert found["seed-0"]["solutions"][0]["f1"] != found["seed-5"]["solutions"][0]["f1"]
    assert "±" in (whole / "comparison.md").read_text()


def test_a_seed_of_several_is_the_run_of_that_seed_alone(whole, tiny):
    one = ran(tiny, tiny.parent / "one", *QUICK[1:], "seed=5", "data.seed=3")
    assert json.loads((one / "results.json").read_text()) == results(whole)["seed-5"]


def test_stopping_in_the_second_seed_and_resuming_gives_the_same(whole, tiny):
    seen = []

    def stop(event):
        seen.append(event["event"])
        if seen.count("start") == 2 and event["event"] == "solution":
            raise Stopped(15)

    with pytest.raises(Stopped):
        ran(tiny, tiny.parent / "run", *QUICK, tell=stop)
    folder = tiny.parent / "run"
    assert sorted(results(folder)) == ["seed-0"]
    told = []
    resumed(folder, tell=told.append)
    assert results(folder) == results(whole)
    assert sum(event["event"] == "start" for event in told) == 1


def test_a_plan_counts_the_steps_of_all_seeds(tiny):
    plan = describe(load(tiny, discover(), QUICK).recipe, tiny.parent)
    assert plan["steps"] == 2 * 4 * 12
    assert any("4 problems of up to 12 steps, and such in each of 2 runs: 96 steps" in line for line in lines(plan))


def test_the_command_line_runs_compares_and_refuses(whole, tiny, unlearnkit):
    overrides = [part for override in QUICK for part in ("--set", override)]
    unlearnkit("run", tiny, "--to", "run", *overrides).succeeded()
    assert results(tiny.parent / "run") == results(whole)
    unlearnkit("compare", "run", "--to", "out", "--x", "forget/validation/truth/hidden-psnr").succeeded()
    assert (tiny.parent / "out" / "tables" / "hypervolume.csv").exists()
    assert "comparison.html" in unlearnkit("report", "run").succeeded().out
    for command, message in (
        (("compare", "run", "--x", "psnr"), "'psnr' is no axis of these runs"),
        (("compare", "nowhere"), "nowhere: this is no run folder"),
        (("export", "run", "--epsilon", "epsilon-0", "--to", "x"), "give one of them, such as run/seed-0"),
        (("run", tiny, "--to", "run", *overrides), "exists already"),
        (("run", tiny, "--to", "again", "--set", "seeds=[1, 1]"), "already entry [0]"),
    ):
        outcome = unlearnkit(*command)
        assert outcome.code != 0
        assert message in outcome.err, outcome.err
