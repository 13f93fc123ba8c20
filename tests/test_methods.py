"""Methods from recipe to report: whole-model solutions, sweeps, targets, resuming, export, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_task import ran, resumed

from unlearnkit.errors import UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.solver.side import Side
from unlearnkit.solver.workbench import build, flattened, fresh

ALL = [
    "{kind: composite, alpha: [0.1, 0.5]}",
    "{kind: composite, target: {kind: surrogate-class, name: green}}",
    "{kind: max-loss}", "{kind: noisy-label}", "{kind: retain-label}", "{kind: random-encoder}",
    "{kind: retain-fine-tuning}", "{kind: neggrad-plus}", "{kind: undo, budget: 1}", "{kind: retrain, budget: 2}",
    "{kind: decoupling, distance: 9, sensitivity: 1.0e-3}",
    "{kind: cup, intensity: [0.2, 0.8]}", "{kind: eupmu}", "{kind: lur}", "{kind: pcgrad}", "{kind: cagrad}",
    "{kind: lagrangian, epsilon: 1.0e-3}", "{kind: hamu}", "{kind: munba}", "{kind: mgda}",
    "{kind: salun}", "{kind: restricted-gradient}", "{kind: regun, target: {kind: held-out, root: pictures}}",
]  # fmt: skip
FEWER = ["epsilons={fractions: [0.5]}", "training.steps=12", "training.optimizer={kind: adamw, lr: 1.0e-3}"]


def loaded(tiny, *overrides):
    return load(tiny, discover(), list(overrides)).recipe


@pytest.fixture(scope="module")
def whole(shared_tiny):
    """Return the folder and the results of a run with every method."""
    run = ran(shared_tiny, shared_tiny.parent / "whole", f"compare=[{', '.join(ALL)}]", *FEWER)
    return run, json.loads((run / "results.json").read_text())


def beside(results):
    return [row for row in results["solutions"] if row["phase"] is None]


def test_every_method_runs_and_is_named(whole):
    run, results = whole
    labels = [row["label"] for row in beside(results)]
    assert labels[:3] == [
        "composite alpha = 0.1",
        "composite alpha = 0.5",
        "composite alpha = 0.25, target = surrogate-class name = green",
    ]
    assert len(labels) == len(ALL) + 2
    report = (run / "report.html").read_text()
    assert all(label in report for label in labels)
    assert not results["warnings"]


def test_a_method_changes_what_it_trains_and_nothing_else(whole):
    run, results = whole
    original = results["original"]["metrics"]
    assert all(row["frozen_unchanged"] for row in results["solutions"])
    assert all(row["metrics"] != original for row in beside(results))
    sizes = {
        row["id"]: len(load_file(run / "solutions" / row["id"] / "tensors.safetensors")["theta"])
        for row in results["solutions"]
    }
    encoder = sizes["boundary-highest"]
    assert all((sizes[row["id"]] == encoder) == (row["part"] == "encoder") for row in results["solutions"])
    assert {row["method"] for row in beside(results) if row["part"] == "encoder"} == {
        "composite", "random-encoder", "cup", "eupmu", "lur", "pcgrad", "lagrangian",
    }  # fmt: skip


def test_only_losses_that_are_f1_and_f2_are_drawn_as_such(whole):
    _, results = whole
    drawn = [row["label"] for row in beside(results) if row["history"] is not None]
    assert drawn[:2] == ["composite alpha = 0.1", "composite alpha = 0.5"]
    assert {label.split()[0] for label in drawn} == {
        "composite", "cup", "eupmu", "lur", "pcgrad", "lagrangian",
    }  # fmt: skip


def test_budgets_and_stages_are_in_the_results(whole):
    _, results = whole
    steps = {row["method"]: row["steps"] for row in beside(results)}
    assert steps["retrain"] == 24
    assert steps["decoupling"] == steps["max-loss"] == 12
    row = next(row for row in beside(results) if row["method"] == "decoupling")
    assert [stage["steps"] for stage in row["stages"]] == [3, 9]
    assert row["ended"] == "budget"


def test_what_never_saw_the_forget_set_is_marked_as_such(whole):
    _, results = whole
    assert {row["method"] for row in results["solutions"] if row.get("retrained")} == {"retrain"}
    assert all(row.get("retrained", True) is True for row in results["solutions"])


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_undo_starts_between_the_original_and_a_fresh_model(tiny, alpha):
    bench = build(loaded(tiny, f"compare=[{{kind: undo, alpha: {alpha}}}]"), tiny.parent)
    (problem,) = bench.methods
    descent, start = bench.begun(problem), bench.original("all")
    descent.begin(start)
    (stage,) = problem.stages
    assert stage.seed != bench.recipe.seed, "whose weights the original may have begun at"
    anew = flattened(fresh(bench.recipe, bench.reference, stage.seed))
    torch.testing.assert_close(descent.flat.theta.detach(), (1 - alpha) * start + alpha * anew)
    view, told = bench.sides["retain"].under(stage.retain).batch(torch.arange(3), "tried")
    loss = stage.retain.distance(bench.student, view, told)
    assert torch.equal(loss, bench.student.own_loss(bench.reference.output(view), view))
    assert problem.anew == (alpha == 1)
    assert problem.steps(10) == 50
    assert not problem.scratch


def test_only_a_rule_that_starts_warm_looks_at_the_whole_sets_before_its_first_step(tiny, monkeypatch):
    looks, before, terms = [], {}, Side.terms

    def counted(side, *shard):
        looks.append(side.name)
        return terms(side, *shard)

    def tell(event):
        if event["event"] == "problem":
            before[event["id"]] = list(looks)
        elif event["event"] == "solution":
            looks.clear()

    monkeypatch.setattr(Side, "terms", counted)
    joint = "compare=[{kind: composite}, {kind: max-loss}, {kind: eupmu}, {kind: lagrangian, epsilon: 1.0e-3}]"
    warm = ["control.multiplier={kind: proportional-integral}", "sweep={kind: independent, start: original}"]
    run = ran(tiny, tiny.parent / "run", *FEWER, *warm, joint, tell=tell)
    # f1 of the original model, where the dial ends, is looked at before phase 2.
    assert sorted(before.pop("epsilon-at-0.5")) == ["forget", "forget", "retain"]
    assert len(before) == 2 + 4
    assert not any(before.values())
    checks = {row["id"]: row["checks"] for row in json.loads((run / "results.json").read_text())["solutions"]}
    assert [name for name in checks if checks[name][0]["step"] == 0] == ["epsilon-at-0.5"]
    assert all(checks[name][-1]["step"] > 0 for name in checks)


class CrashError(Exception):
    """A stop at any point."""


def test_a_method_that_is_cut_off_again_and_again_ends_in_the_same_bytes(whole, shared_tiny, tmp_path):
    """Within the first stage, within the second, and among whole-model weights."""

    restarted = next(row["id"] for row in beside(whole[1]) if row["method"] == "decoupling")

    def crash_at(step):
        def tell(event):
            if event["event"] == "step" and (event["id"], event["step"]) == (restarted, step):
                raise CrashError

        return tell

    run = tmp_path / "run"
    overrides = [f"compare=[{', '.join(ALL)}]", *FEWER, "training.checkpoint_every=1"]
    with pytest.raises(CrashError):
        ran(shared_tiny, run, *overrides, tell=crash_at(2))
    for step in (7, 11):
        with pytest.raises(CrashError):
            resumed(run, tell=crash_at(step))
    resumed(run)
    assert (run / "results.json").read_bytes() == (whole[0] / "results.json").read_bytes()


def test_a_whole_model_solution_is_exported_with_its_decoder(whole, shared_tiny, tmp_path, unlearnkit):
    run, results = whole
    for method, moves in (("max-loss", True), ("random-encoder", False)):
        row = next(row for row in beside(results) if row["method"] == method)
        unlearnkit("export", run, "--epsilon", row["id"], "--to", method).succeeded()
        found = load_file(tmp_path / method / "model.safetensors")
        recipe = loaded(shared_tiny)
        before = build(recipe, shared_tiny.parent).student.module.state_dict()
        decoder = [name for name in found if name.startswith("decoder.")]
        assert any(not torch.equal(found[name], before[name]) for name in decoder) == moves


def test_the_forget_loss_of_the_recipe_takes_each_target(tiny):
    found = {}
    for kind in ("noise, distribution: uniform", "surrogate-class", "blurred", "mean-filled"):
        recipe = loaded(tiny, f"forget={{kind: target-embedding, target: {{kind: {kind}}}}}")
        bench = build(recipe, tiny.parent)
        found[kind] = bench.sides["forget"].exact()
        assert bench.sides["forget"].lasting == (kind in ("blurred", "mean-filled"))
    assert len(set(found.values())) == len(found)
    assert found["blurred"] < found["noise, distribution: uniform"]


def test_a_retrained_model_answers_for_forget_images(whole, tiny, unlearnkit):
    run, results = whole
    row = next(row for row in beside(results) if row["method"] == "retrain")
    unlearnkit("export", run, "--epsilon", row["id"], "--to", "retrained").succeeded()
    target = "{kind: retrained, weights: retrained}"
    recipe = loaded(tiny, f"forget={{kind: target-output, target: {target}}}", "seed=3")
    bench = build(recipe, tiny.parent)
    other = recipe.model.build(tiny.parent / "retrained")
    side = bench.sides["forget"]
    with torch.no_grad():
        view = side.view(torch.arange(side.count), "check", 0)
        outputs = [adapter.decode(adapter.embed(view), view) for adapter in (bench.reference, other)]
    assert side.exact() == pytest.approx(float((outputs[0] - outputs[1]).square().mean()), rel=1e-5)
    assert side.exact() > 0
    assert list(bench.facts["target_weights"]) == ["retrained"]
    before = bench.store.identity
    shorter = load_file(tiny.parent / "retrained" / "model.safetensors")
    save_file({name: value + 1 for name, value in shorter.items()}, tiny.parent / "retrained" / "model.safetensors")
    assert build(recipe, tiny.parent).store.identity != before
    compare = f"compare=[{{kind: composite, target: {target}}}]"
    outcome = unlearnkit("run", tiny, "--to", "run", "--set", compare)
    assert outcome.code == 3
    assert "'retrained' needs a loss between outputs" in outcome.err


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("{kind: composite, target: {kind: surrogate-class, name: red}}", "no training images of class 'red'"),
        ("{kind: composite, target: {kind: surrogate-image, path: none.png}}", "none.png: not a readable image"),
        ("{kind: siss}", "this model is none"),
        (
            "{kind: retain-label, target: {kind: retrained, weights: none}}",
            "target.weights: there is no file or folder",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_run(tiny, unlearnkit, method, message):
    outcome = unlearnkit("run", tiny, "--to", "run", "--set", f"compare=[{method}]")
    assert outcome.code == 3
    assert message in outcome.err
    assert not (tiny.parent / "run").exists()


def test_retraining_needs_the_sizes_of_the_weights(tiny):
    recipe = loaded(tiny)
    other = loaded(tiny, "model.width=24")
    with pytest.raises(UserError, match="trained anew has other sizes than the weights"):
        fresh(other, recipe.model.build(None))


def test_mistakes_in_a_method_are_explained(tiny, unlearnkit):
    wrong = {
        "{kind: composite, alpha: [-1.0]}": "at least 0",
        "{kind: composite, target: {kind: blured}}": "blurred",
        "{kind: neggrad-plus, beta: much}": "number",
        "{kind: max-los}": "max-loss",
    }
    for method, message in wrong.items():
        outcome = unlearnkit("validate", tiny, "--set", f"compare=[{method}]")
        assert outcome.code == 3
        assert message in outcome.err, outcome.err
