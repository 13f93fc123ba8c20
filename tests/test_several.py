"""A recipe of several runs, a seed or another value each: what is alike, one comparison, resuming, what is refused."""

import json
import re
import shutil

import pytest
from tiny_task import lasting, ran, resumed

from unlearnkit import disk
from unlearnkit.disk import read_record, write_record
from unlearnkit.errors import Stopped, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.problem import RecipeError
from unlearnkit.recipe.validate import load
from unlearnkit.recipe.vary import _name, children
from unlearnkit.report import comparison
from unlearnkit.run import runner
from unlearnkit.run.plan import describe, lines
from unlearnkit.seal import Sealed
from unlearnkit.solver.descent import Descent

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
    told = "4 problems on a budget of 12 steps, and such in each of 2 runs: 96 steps"
    assert any(told in line for line in lines(plan))


COMPARED = ["[{kind: composite}]", "[{kind: retain-fine-tuning}]", "[{kind: retrain, budget: 10}]"]


@pytest.mark.usefixtures("unreported")
@pytest.mark.parametrize("order", [1, -1])
def test_a_plan_counts_the_methods_of_each_run_by_its_own_steps(order, tiny, monkeypatch):
    monkeypatch.setenv(disk.CACHE, str(tiny.parent / "cache"))
    steps, compared = [24, 48][::order], ", ".join(COMPARED[::order])
    retrained = "compare=[{kind: retrain, original_steps: 240}]"
    for changes, whole in (
        ([f"vary={{training.steps: {steps}}}", retrained], 5 * 24 + 240 + 5 * 48 + 240),
        ([f"vary={{compare: [{compared}]}}"], 5 * 24 + 24 + 24 + 10 * 24),
    ):
        assert describe(load(tiny, discover(), changes).recipe, tiny.parent, timed=False)["steps"] == whole
    few = [*changes, "training.steps=2", "training.checks=1", "epsilons={fractions: [0.5]}", "evaluate.stops=0"]
    taken, step = [], Descent.step
    monkeypatch.setattr(Descent, "step", lambda self: taken.append(step(self)))
    ran(tiny, tiny.parent / "run", *few)
    assert describe(load(tiny, discover(), few).recipe, tiny.parent, timed=False)["steps"] == len(taken)


def test_the_command_line_runs_compares_and_refuses(whole, tiny, unlearnkit):
    overrides = [part for override in QUICK for part in ("--set", override)]
    unlearnkit("run", tiny, "--to", "run", *overrides).succeeded()
    assert results(tiny.parent / "run") == results(whole)
    unlearnkit("compare", "run", "--to", "out", "--x", "forget/validation/truth/hidden-psnr").succeeded()
    assert (tiny.parent / "out" / "tables" / "hypervolume.csv").exists()
    left = tiny.parent / "run" / "plots" / "montage-7.png"  # as of more runs, before comparisons removed it
    left.write_bytes(b"")
    Sealed.measured(tiny.parent / "run").write()
    assert "comparison.html" in unlearnkit("report", "run").succeeded().out
    assert not left.exists()
    for command, message in (
        (("compare", "run", "--x", "psnr"), "'psnr' is no axis of these runs"),
        (("compare", "nowhere"), "nowhere: this is no run folder"),
        (("compare", "run", "--to", "run"), "--to run: there is a finished run or an exported model, whose"),
        (("compare", "run", "--to", "run/seed-0"), "--to run/seed-0: there is a finished run or an exported model"),
        (("export", "run", "--epsilon", "epsilon-0", "--to", "x"), "give one of them, such as run/seed-0"),
        (("run", tiny, "--to", "run", *overrides), "exists already"),
        (("run", tiny, "--to", "again", "--set", "seeds=[1, 1]"), "already entry [0]"),
    ):
        outcome = unlearnkit(*command)
        assert outcome.code != 0
        assert message in outcome.err, outcome.err
    assert "nothing in it has changed" in unlearnkit("resume", "run").succeeded().err


VARIED = (
    "training={steps: 6, batch_size: 4, checks: 2, checkpoint_every: 2, device: cpu,"
    " optimizer: {kind: adamw, lr: 3.0e-3}}",
    "epsilons={fractions: [0.25, 0.75]}",
    "evaluate={metrics: [{kind: hidden-psnr}], images: 1, stops: 1}",
    "control={epsilon: {kind: relative-gap}}",
)
SECTIONS = "vary={control.epsilon.delta: [1, 2], task: [{kind: center-crop}, {kind: half}]}"


@pytest.fixture
def unreported(monkeypatch):
    """Leave reports and comparisons out, which take most of the time of a tiny run."""
    monkeypatch.setattr(runner, "write_report", lambda sealed: [])
    monkeypatch.setattr(comparison, "write", lambda runs, to: [to])


@pytest.mark.usefixtures("unreported")
@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_varied_recipe_ends_in_the_bytes_of_single_runs_and_solves_what_is_alike_once(count, tiny):
    deltas = [1 + place / 4 for place in range(count)]
    asked, told = (*VARIED, f"vary={{control.epsilon.delta: {deltas}, evaluate.images: [1, 2]}}"), []
    whole = ran(tiny, tiny.parent / "whole", *asked, tell=told.append)
    for delta in deltas:
        for images in (1, 2):
            its = (f"control.epsilon.delta={delta}", f"evaluate.images={images}")
            single = ran(tiny, tiny.parent / f"single-{delta}-{images}", *VARIED, *its)
            assert lasting(single) == lasting(whole / f"control.epsilon.delta-{delta}--evaluate.images-{images}")
    plan = describe(load(tiny, discover(), asked).recipe, tiny.parent, timed=False)
    seen = [event["event"] for event in told]
    shared = [event["name"] for event in told if event["event"] == "taken" and event["name"].startswith("solutions/")]
    assert (plan["runs"], plan["steps"]) == (2 * count, 6 * seen.count("solution"))
    assert seen.count("step") == plan["steps"] == 6 * (2 + 2 * count)  # phase 1 once, each ε once for each δ
    assert plan["shared"] == {"problems": len(shared), "steps": 6 * len(shared)}
    passes = [event["retain train: reference"] for event in told if event.get("retain train: reference")]
    assert passes == [16]  # the whole retain set, once


@pytest.mark.usefixtures("unreported")
@pytest.mark.parametrize("by", ["serial", "processes:workers=2"])
def test_what_is_retrained_with_a_seed_of_its_own_is_trained_once_for_all_runs(by, tiny, monkeypatch):
    monkeypatch.setenv(disk.CACHE, str(tiny.parent / "cache"))
    own, each = "{kind: retrain, seed: 5, budget: 2}", "{kind: retrain, budget: 2}"
    asked, told = (*VARIED, "seeds=[3, 4]", f"compare=[{own}, {each}]"), []
    whole = ran(tiny, tiny.parent / "whole", *asked, tell=told.append, by=by)
    trained = [event["id"] for event in told if event["event"] == "step" and event["id"].startswith("retrain")]
    assert sorted(map(trained.count, set(trained))) == [12, 24]
    plan = describe(load(tiny, discover(), asked).recipe, tiny.parent, timed=False)
    assert plan["shared"] == {"problems": 1, "steps": 12}
    assert plan["steps"] == sum(event["event"] == "step" for event in told)
    ends = [{path.read_bytes() for path in whole.glob(f"seed-*/solutions/{one}/*.safetensors")} for one in {*trained}]
    assert sorted(map(len, ends)) == [1, 2]


@pytest.mark.usefixtures("unreported")
def test_a_varied_run_that_is_stopped_anywhere_goes_on_to_the_same_bytes(tiny):
    whole, told = tiny.parent / "whole", []
    ran(tiny, whole, *VARIED, SECTIONS, tell=told.append)
    kinds = ("taken", "solution", "evaluated")
    moments = [place for place, event in enumerate(told) if event["event"] in kinds]
    for place in moments[5::15]:
        seen, run = [], tiny.parent / f"run-{place}"

        def stop(event, seen=seen, place=place):
            seen.append(event)
            if len(seen) == place + 1:
                raise Stopped(15)

        with pytest.raises(Stopped):
            ran(tiny, run, *VARIED, SECTIONS, tell=stop)
        assert lasting(resumed(run)) == lasting(whole)


@pytest.mark.usefixtures("unreported")
def test_a_varied_run_takes_more_values_and_leaves_others_out(tiny):
    run = ran(tiny, tiny.parent / "run", *VARIED, "vary={control.epsilon.delta: [1, 2]}")
    told = []
    resumed(run, "vary={control.epsilon.delta: [2, 3]}", tell=told.append)
    assert sorted(path.name for path in run.glob("control*")) == ["control.epsilon.delta-2", "control.epsilon.delta-3"]
    assert sum(event["event"] == "solution" for event in told) == 2  # both ε of the new value
    again = ran(tiny, tiny.parent / "again", *VARIED, "vary={control.epsilon.delta: [2, 3]}")
    assert lasting(run) == lasting(again)
    with pytest.raises(UserError, match=r"vary, seeds: .* has several runs"):
        resumed(run, "vary=null")


def test_runs_of_seeds_from_before_there_was_vary_are_read_and_go_on(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    manifest = read_record(run / "manifest.json")
    del manifest["runs"]
    write_record(run / "manifest.json", manifest | {"seeds": [0, 5]})
    for name in ("seed-0", "seed-5"):
        its = read_record(run / name / "manifest.json")
        del its["varied"]
        write_record(run / name / "manifest.json", its)
        (run / name / "seal.json").unlink()
        Sealed.measured(run / name).write()
    (run / "seal.json").unlink()
    Sealed.measured(run).write()
    told = []
    resumed(run, tell=told.append)
    assert [event["event"] for event in told] == ["finished"]
    resumed(run, "seeds=[5]")
    assert sorted(path.name for path in run.glob("seed-*")) == ["seed-5"]


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("{name: [a]}", "vary.name: all runs of a recipe have its name"),
        ("{seed: [1]}", "vary.seed: give `seeds` or vary `seed`, not both"),
        ("{training: [{steps: 3}], training.steps: [4]}", "it is a part of 'training', which is varied too"),
        ("{training.steps: [4, 5, 4]}", "vary.'training.steps'[2]: 4 is already entry [0]"),
        ("{training.steps: [5, ten]}", "vary.'training.steps'[1]: expected a whole number, got the text 'ten'"),
        ("{control.epsilon.detla: [1]}", "vary.'control.epsilon.detla': unknown key; did you mean 'delta'?"),
        ("{epsilons.values: [[1]]}", "vary epsilons as a whole"),
        ("{training.epochs: [1]}", "training.steps: give steps or epochs, not both"),
        ('{"compare[3].alpha": [1]}', "there is no such place in this recipe"),
        ('{"a b": [1]}', "expected a key such as training.steps"),
        ("{data.forget.classes: [[red], [blue]], data.retain.classes: [[green], [blue]]}",
         """vary.'data.retain.classes'[1]: together with seed = 0, data.forget.classes = ["blue"]"""),
        (f"{{training.steps: {[*range(1, 502)]}}}", "1,002 runs, and no more than 1,000"),
    ],
)  # fmt: skip
def test_what_cannot_be_varied_is_told_at_its_place(vary, said, tiny):
    with pytest.raises(RecipeError) as error:
        load(tiny, discover(), ("seeds=[0, 1]", f"vary={vary}"))
    assert said in str(error.value)


def test_every_run_has_a_name_of_its_own_that_other_values_do_not_change(tiny):
    tasks = "[{kind: half}, {kind: half, side: left}, {kind: center-crop, ratio: 0.25}]"

    def names(vary):
        loaded = load(tiny, discover(), (f"vary={vary}", "seeds=[0, 1]"))
        return [run.name for run in children(loaded.recipe, loaded.resolved)]

    first = names(f"{{task: {tasks}, training.steps: [5]}}")
    more = names(f"{{task: {tasks}, training.steps: [4, 5]}}")
    assert len(set(more)) == len(more) == 12
    assert set(first) < set(more)
    assert all(re.fullmatch(r"[\w.-]{1,120}", name) for name in more)


@pytest.mark.parametrize(
    ("key", "values"),
    [("training.device", [None, "null"]), ("a", ["1", 1, True, "true", False]), ("a", ["x", {"kind": "x"}])],
)
def test_values_that_read_alike_have_folders_of_their_own(key, values):
    assert len({_name({key: value}) for value in values}) == len(values)


def test_values_of_two_keys_do_not_run_into_each_other():
    assert _name({"a": "1--b-1", "b": "2"}) != _name({"a": "1", "b": "1--b-2"})
    assert _name({"control.epsilon.delta": 0.5, "training.steps": 4}) == "control.epsilon.delta-0.5--training.steps-4"
