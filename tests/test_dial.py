"""Any ε after one training, and what a user wants in place of an ε: found on the dial, recorded, exported."""

import json
import shutil
import time

import numpy as np
import pytest
import tiny_task
import torch
from safetensors.torch import load_file

from unlearnkit.errors import Stopped, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run.interrupts import Stop
from unlearnkit.run.plan import describe
from unlearnkit.run.tasks import Task
from unlearnkit.run.worker import Opened
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.landing import LANDED
from unlearnkit.solver.workbench import build

CURVE = "sweep={kind: curve}"
TARGETS = [
    "{kind: epsilon, fraction: 1.4}",
    "{kind: epsilon, fraction: 0.3, polish: 6}",
    "{kind: score, set: retain, against: original, at_least: 25}",
    "{kind: score, split: train, at_most: 5.495}",
    "{kind: retain-cost, at_most: 0.001}",
    "{kind: unseen}",
    "{kind: membership}",
    "{kind: audit, audit: {kind: membership}, figure: members, at_least: 0.6}",
    "{kind: retrained}",
]


def results(run):
    return json.loads((run / "results.json").read_text())


def rows(run):
    return {row["id"]: row for row in results(run)["solutions"]}


def files(run):
    found = [run / "results.json", *run.glob("solutions/*/*"), *run.glob("images/*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


@pytest.fixture(scope="module", params=[CURVE, "sweep={kind: independent}"], ids=["curve", "polyline"])
def finished(request, shared_tiny, tmp_path_factory):
    """A finished run with all targets, its recipe, and the events it told."""
    run, told = tmp_path_factory.mktemp("dial") / "run", []
    overrides = [
        request.param,
        f"epsilons.targets=[{', '.join(TARGETS)}]",
        "compare=[{kind: retrain, seed: [1, 2]}]",
        "evaluate.stops=5",
    ]
    tiny_task.ran(shared_tiny, run, *overrides, tell=told.append)
    return shared_tiny, overrides, run, told


def test_every_epsilon_and_target_is_on_its_bound(finished):
    _, _, run, _ = finished
    found = results(run)
    kind = "curve" if found["mode"]["sweep"] == "curve" else "polyline"
    ours = [row for row in found["solutions"] if row["phase"] == 2]
    assert all(abs(row["gap"]) <= LANDED for row in ours)
    for row in ours:
        served = row.get("served")
        assert (served is None) == (kind == "polyline" and "target" not in row)
        assert served is None or (served["dial"] == kind and (row["steps"] == 0 or row["id"] == "epsilon-at-0.3"))
    assert found["dial"]["kind"] == kind
    assert len(found["dial"]["stops"]) == 5
    start, tight = found["original"]["f1"], min(row["f1"] for row in ours)
    assert all(tight * (1 - LANDED) <= stop["f1"] <= start for stop in found["dial"]["stops"] if kind == "polyline")


def test_what_a_target_says_holds_for_the_weights_of_its_solution(finished):
    """Recomputed here from the stored weights, without the code that looked for them."""
    recipe, overrides, run, _ = finished
    bench = build(load(recipe, discover(), overrides).recipe, recipe.parent)
    from unlearnkit.contracts import psnr
    from unlearnkit.data import views_of

    def score(theta, name, split, against):
        bench.put("encoder", theta)
        values = []
        made = views_of(bench.reference, bench.task, bench.images[name][split], bench.device,
                        lambda number: (3, "evaluate", name, split, number))  # fmt: skip
        for _, view in made:
            wanted = view.truth if against == "truth" else bench.reference.output(view)
            values.append(psnr(bench.student.output(view), wanted, view.region))
        return torch.cat(values)

    found = {row["id"]: row for row in results(run)["solutions"] if "target" in row}
    assert len(found) == len(TARGETS)

    def theta(name):
        return load_file(run / "solutions" / name / "tensors.safetensors")["theta"]

    with torch.no_grad():
        for name, of in {
            "target-score": ("retain", "validation", "original"),
            "target-score--2": ("forget", "train", "truth"),
            "target-unseen": ("forget", "train", "truth"),
        }.items():
            assert float(score(theta(name), *of).mean()) == pytest.approx(found[name]["target"]["value"], abs=1e-4)
        kept, lost = (score(at, "retain", "validation", "truth") for at in (bench.origin, theta("target-retain-cost")))
        its, pairs = found["target-retain-cost"]["target"], kept - lost
        assert float(pairs.mean()) == pytest.approx(its["value"], abs=1e-4)
        assert its["error"] == pytest.approx(float(pairs.std()) / len(pairs) ** 0.5, abs=1e-4)
        unseen = float(score(bench.origin, "forget", "validation", "truth").mean())
        assert unseen == pytest.approx(found["target-unseen"]["target"]["wanted"], abs=1e-4)
        bench.put("encoder", theta("epsilon-at-1.4"))
        f1 = bench.sides["forget"].exact()
    assert f1 == pytest.approx(found["epsilon-at-1.4"]["epsilon"], rel=LANDED)
    for row in found.values():
        its = row["target"]
        if its["kind"] == "score":
            assert its["met"] == (
                its["value"] >= its["wanted"] if "≥" in its["label"] else its["value"] <= its["wanted"]
            )
        assert its["met"] or its["note"]


def test_several_retrained_models_are_come_near_to_by_their_mean(finished):
    found = rows(finished[2])

    def scores(row):
        return np.array([row["metrics"][name]["validation"]["truth"]["hidden-psnr"] for name in ("forget", "retain")])

    gold = [scores(found[name]) for name in ("retrain-seed-1", "retrain-seed-2")]
    nearest = found["target-retrained"]
    assert np.linalg.norm(gold[0] - gold[1]) > 0
    apart = np.linalg.norm(scores(nearest) - np.mean(gold, axis=0))
    assert nearest["target"]["value"] == pytest.approx(apart, abs=1e-4)


def test_the_loosest_or_the_most_complete_that_meets_a_target_is_taken(finished):
    _, _, run, _ = finished
    found = rows(run)
    tight = min(row["f1"] for row in found.values() if row["phase"] == 2)
    cost = found["target-retain-cost"]
    assert cost["target"]["met"]
    its = cost["target"]
    assert cost["f1"] == tight or its["value"] == pytest.approx(its["wanted"], rel=0.01)
    score = found["target-score--2"]["target"]
    assert not score["met"] or score["value"] == pytest.approx(score["wanted"], rel=0.01) or score["note"]


def test_a_target_that_cannot_be_met_has_the_nearest_and_says_so(shared_tiny, tmp_path):
    run = tiny_task.ran(shared_tiny, tmp_path / "run", "epsilons.targets=[{kind: score, at_most: 1}]")
    (row,) = [row for row in results(run)["solutions"] if "target" in row]
    assert row["target"]["met"] is False
    assert "cannot be met" in row["target"]["note"]
    others = [other["metrics"]["forget"]["validation"]["truth"]["hidden-psnr"] for other in results(run)["solutions"]]
    assert row["target"]["value"] <= min(others) + 1e-6


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("[{kind: retrained}]", "epsilons.targets[0]: there is no retrained model"),
        ("[{kind: membership, figure: nothing}]", "epsilons.targets[0]: the audit has no figure nothing; it has: auc"),
        ("[{kind: unseen}, {kind: unseen, metric: lpips}]", "epsilons.targets[1]: evaluate.metrics has no lpips"),
    ],
)
def test_a_target_that_the_recipe_cannot_measure_is_refused_before_anything_runs(shared_tiny, tmp_path, targets, said):
    with pytest.raises(UserError) as refused:
        tiny_task.ran(shared_tiny, tmp_path / "run", f"epsilons.targets={targets}")
    assert said in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_target_that_cannot_be_measured_is_told_and_nothing_is_lost(shared_tiny, tmp_path, unlearnkit):
    overrides = ["data.per_class={train: 8, validation: 0}", "epsilons.targets=[{kind: unseen}, {kind: membership}]"]
    run = tiny_task.ran(shared_tiny, tmp_path / "run", *overrides)
    assert [row for row in results(run)["solutions"] if "target" in row] == []
    warnings = json.loads((run / "manifest.json").read_text())["warnings"]
    assert any("epsilons.targets[1], membership auc within chance: it was not looked for" in line for line in warnings)
    done = unlearnkit("export", run, "--epsilon", "unseen", "--to", tmp_path / "x")
    assert done.code == 3
    assert "it was not looked for" in done.err
    assert "Traceback" not in done.err


def test_the_same_recipe_gives_the_same_bytes_and_a_stopped_run_too(finished, tmp_path):
    recipe, overrides, run, told = finished
    looking = [event["id"] for event in told if event["event"] == "target"]
    at = {"problem": "front-curve" if CURVE in overrides else "epsilon-at-0.5", "aimed": looking[3]}
    for kind, name in at.items():
        folder = tmp_path / kind

        def stop(event, kind=kind, name=name):
            if event["event"] == kind and event["id"] == name:
                raise Stopped(15)

        with pytest.raises(Stopped):
            tiny_task.ran(recipe, folder, *overrides, tell=stop)
        assert not (folder / "results.json").exists()
        tiny_task.resumed(folder)
        assert files(folder) == files(run)


def test_an_epsilon_is_added_to_a_finished_run_without_a_step(finished, tmp_path, unlearnkit):
    recipe, overrides, _, _ = finished
    run = tiny_task.ran(recipe, tmp_path / "run", *overrides[:1])
    before, lines = rows(run), len((run / "events.jsonl").read_text().splitlines())
    done = unlearnkit("export", run, "--epsilon", "37 %", "--to", tmp_path / "model")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()[lines:]]
    assert [event for event in events if event["event"] == "step"] == []
    assert {event["id"] for event in events if event["event"] == "kept"} >= set(before)
    after = rows(run)
    assert {name: after[name] for name in before} == {name: {**row, "dominated_by": after[name]["dominated_by"]}
                                                      for name, row in before.items()}  # fmt: skip
    (name,) = after.keys() - before.keys()
    row = after[name]
    assert name == "epsilon-at-0.37"
    width = results(run)["range"]["highest"] - results(run)["range"]["lowest"]
    assert row["epsilon"] == pytest.approx(results(run)["range"]["lowest"] + 0.37 * width)
    bench = build(load(recipe, discover()).recipe, recipe.parent)
    exported = load_file(tmp_path / "model" / "model.safetensors")
    bench.student.module.load_state_dict(exported, strict=False)
    Flat(bench.flat.parameters).set(torch.cat([p.detach().reshape(-1) for p in bench.flat.parameters]))
    assert bench.sides["forget"].exact() == pytest.approx(row["f1"], rel=1e-6)
    again = unlearnkit("export", run, "--epsilon", "37 %", "--to", tmp_path / "again")
    assert again.code == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "model" / "model.safetensors"
    ).read_bytes()


def test_export_takes_a_target_and_refuses_what_it_cannot_give(shared_tiny, tmp_path, unlearnkit):
    run = tiny_task.ran(shared_tiny, tmp_path / "run")
    for number, asked in enumerate(("unseen", "{kind: score, at_most: 20}", "epsilon-at-0.7", "0.0301")):
        done = unlearnkit("export", run, "--epsilon", asked, "--to", tmp_path / f"{number}")
        assert done.code == 0, done.err
        assert (tmp_path / f"{number}" / "model.safetensors").exists()
    for asked, code, said, *more in (
        ("{kind: score, at_most: 1}", 3, "cannot be met"),
        ("{kind: score, at_most: 1}", 3, "--epsilon target-score--2` exports it"),
        ("5", 3, "this is the original model, in which nothing is forgotten; give an ε below 0.03"),
        ("epsilon-5", 3, "--epsilon epsilon-5: this is the original model"),
        ("{kind: nothing}", 3, "unknown kind 'nothing'"),
        ("tightest", 2, "a percentage of the valid range"),
        ("0", 3, "ε cannot be 0"),
        ("highest", 2, "highest completeness is no bound on f1: leave it out", "--polish", 5),
    ):
        done = unlearnkit("export", run, "--epsilon", asked, "--to", tmp_path / "x", *more)
        assert done.code == code
        assert said in done.err
        assert "Traceback" not in done.err
        assert not (tmp_path / "x").exists()


def test_a_polish_is_kept_only_where_it_helps(shared_tiny, tmp_path):
    plain, polished = (
        rows(tiny_task.ran(shared_tiny, tmp_path / f"{steps}", f"sweep={{kind: curve, budget: 0.25, polish: {steps}}}"))
        for steps in (0, 150)
    )
    names = [name for name, row in plain.items() if row["phase"] == 2]
    assert all(polished[name]["f2"] <= plain[name]["f2"] for name in names)
    helped = [name for name in names if polished[name]["served"]["polish"]]
    assert helped
    assert all(polished[name]["f2"] < plain[name]["f2"] for name in helped)
    assert all(polished[name]["steps"] == 150 for name in names)


def test_polish_lands_on_its_epsilon_beyond_the_valid_range_too(shared_tiny, tmp_path):
    wanted = "epsilons.targets=[{kind: epsilon, fraction: 1.3, polish: 40}, {kind: epsilon, fraction: 0.6, polish: 40}]"
    found = rows(tiny_task.ran(shared_tiny, tmp_path / "run", CURVE, wanted))
    for name in ("epsilon-at-1.3", "epsilon-at-0.6"):
        ends = [check["gap"] for check in found[name]["checks"] if check["step"] == 40]
        assert ends
        assert max(map(abs, ends)) <= LANDED


def test_a_polish_that_ends_above_its_epsilon_falls_back_to_where_it_began(shared_tiny, tmp_path, monkeypatch):
    tights, land = [], Descent.land
    monkeypatch.setattr(Descent, "land", lambda self, *ends: tights.append(ends[0]) or land(self, *ends))
    plain, _ = (tiny_task.ran(shared_tiny, tmp_path / f"{n}", CURVE, f"sweep.polish={n}") for n in (0, 3))
    began = [row for row in rows(plain).values() if row["phase"] == 2]
    for (theta, f1), row in zip(tights[-3:], began, strict=True):
        assert torch.equal(theta, load_file(plain / "solutions" / row["id"] / "tensors.safetensors")["theta"])
        assert f1 == pytest.approx(row["f1"])


def test_polish_takes_its_steps_under_a_rule_that_starts_from_an_estimate(shared_tiny, tmp_path):
    rule = ("control.multiplier={kind: proportional-integral}", "training.decay=0", "epsilons.fractions=[0.5]")
    wanted = ("sweep={kind: curve}", "epsilons.targets=[{kind: epsilon, fraction: 0.4, polish: 20}]")
    found = rows(tiny_task.ran(shared_tiny, tmp_path / "run", *rule, *wanted))["epsilon-at-0.4"]
    assert found["steps"] == 20
    assert [check["step"] for check in found["checks"]][:2] != [0, 0]


def test_a_place_of_a_curve_waits_for_no_epsilon(finished, tmp_path):
    _, overrides, run, _ = finished
    copied = shutil.copytree(run, tmp_path / "run")
    solved = [*copied.glob("solutions/epsilon-at-*")]
    for folder in solved:
        shutil.rmtree(folder)
    (copied / "checkpoints").mkdir(exist_ok=True)
    opened, task = Opened(copied, discover()), Task(str(copied), "evaluate", "dial-00")
    (copied / "tasks" / task.name).mkdir(parents=True)
    opened.run.begin(task, Stop(print))
    assert opened.model("dial-00") is not None
    assert any(folder.exists() for folder in solved) == (CURVE not in overrides)


def test_the_seconds_of_what_was_stopped_are_all_of_them(shared_tiny, tmp_path):
    def stop(event):
        if event["event"] == "step" and event["step"] == 3:
            time.sleep(0.4)
        if event["event"] == "step" and event["step"] == 12:
            raise Stopped(15)

    with pytest.raises(Stopped):
        tiny_task.ran(shared_tiny, tmp_path / "run", tell=stop)
    tiny_task.resumed(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["times"]["boundary-highest"] > 0.4


def test_values_up_to_the_original_are_inside_where_the_front_is_one_curve(shared_tiny, tmp_path):
    run = tiny_task.ran(shared_tiny, tmp_path / "run", CURVE, "epsilons={values: [0.0301, 0.5]}")
    found = results(run)
    assert found["range"]["highest"] < 0.0301 < found["original"]["f1"]
    assert "epsilon-0.0301" in rows(run)
    assert [entry["epsilon"] for entry in found["outside"]] == [0.5]


def test_the_plan_counts_the_curve_and_names_the_targets(shared_tiny):
    recipe = load(
        shared_tiny, discover(), ["sweep={kind: curve, polish: 7}", "epsilons.targets=[{kind: unseen}]"]
    ).recipe
    plan = describe(recipe, shared_tiny.parent, timed=False)
    assert plan["steps"] == 2 * 24 + 5 * 24 + 3 * 7
    assert plan["targets"] == ["unseen polish = 0"]
    assert "front-curve" in plan["problems"]


def test_the_file_of_a_curve_says_that_it_leads_back(finished):
    _, overrides, run, _ = finished
    facts = run / "solutions" / "front-curve" / "facts.json"
    assert facts.exists() == (CURVE in overrides)
    assert not facts.exists() or "leads back to the original" in facts.read_text()
