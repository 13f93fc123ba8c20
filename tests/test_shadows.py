"""Shadow models: the attack that they serve against its closed form, and how a run trains, shares and leaves them."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import norm
from tiny_task import lasting, ran, resumed

from unlearnkit.builtin.audits.likelihood import lacking, ratios
from unlearnkit.builtin.audits.membership import fitting
from unlearnkit.contracts import Missing, Shadow
from unlearnkit.errors import Stopped, UserError
from unlearnkit.evaluation import instruments
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run import plan
from unlearnkit.run.shadows import costs, planned
from unlearnkit.run.tasks import Task, lengths, weigh
from unlearnkit.solver.workbench import build

SHORT = (
    "training.steps=12",
    "training.checks=1",
    "epsilons={fractions: [0.5]}",
    "evaluate.images=1",
    "evaluate.stops=0",
)
COUNT, STEPS = 4, 30
AUDITED = (*SHORT, f"evaluate.audits=[{{kind: u-lira, shadows: {COUNT}, steps: {STEPS}}}]")
BESIDE = "compare=[{kind: composite, alpha: 0.5}, {kind: retrain, budget: 1}]"


def shadows(logs, had):
    """Return shadow models with log losses [M, N] of images by their numbers, and which had which."""
    return [
        Shadow(frozenset(str(i) for i in range(len(row)) if its[i]), {str(i): math.exp(v) for i, v in enumerate(row)})
        for row, its in zip(logs, had, strict=True)
    ]


def test_the_likelihood_ratio_is_that_of_two_normal_distributions():
    draw = np.random.default_rng(0)
    had = np.array([[True, False], [False, True]] * 4)
    logs, own = draw.normal(size=(8, 2)), draw.normal(size=2)
    score, apart = ratios(torch.tensor(own).exp(), ["0", "1"], shadows(logs, had))
    means, variances = {}, {}
    for which in (True, False):
        found = [logs[had[:, i] == which, i] for i in range(2)]
        means[which] = [one.mean() for one in found]
        variances[which] = (
            np.concatenate([one - one.mean() for one in found])
            @ np.concatenate([one - one.mean() for one in found])
            / (2 * (4 - 1))
        )
    expected = [
        norm.logpdf(own[i], means[True][i], variances[True] ** 0.5)
        - norm.logpdf(own[i], means[False][i], variances[False] ** 0.5)
        for i in range(2)
    ]
    assert score.tolist() == pytest.approx(expected)
    assert apart == pytest.approx(
        np.mean([means[False][i] - means[True][i] for i in range(2)])
        / ((variances[True] + variances[False]) / 2) ** 0.5
    )


def test_a_trace_that_differs_from_image_to_image_is_found_where_a_threshold_finds_none():
    draw = np.random.default_rng(1)
    count = 60
    member = np.arange(count) < count // 2
    hard = draw.normal(0, 3, count)  # what a threshold sees
    had = np.array([(np.arange(count) % 2 == number % 2) for number in range(16)])
    logs = hard - 0.5 * had + draw.normal(0, 0.2, (16, count))
    own = torch.tensor(hard - 0.5 * member + draw.normal(0, 0.2, count))
    score, apart = ratios(own.exp(), [str(i) for i in range(count)], shadows(logs, had))

    def area(of):
        return float((of[member][:, None] > of[~member][None]).double().mean())

    assert area(score) > 0.9
    assert abs(area(-own) - 0.5) < 0.2
    assert apart == pytest.approx(0.5 / 0.2, rel=0.15)


@pytest.mark.parametrize(
    ("logs", "had", "said"),
    [
        ([[0.0], [0.0], [0.0]], [[True], [True], [False]], "3 shadow models were unlearned as this model was"),
        ([], [], "0 shadow models"),
    ],
)
def test_too_few_shadow_models_say_so(logs, had, said):
    assert lacking(["0"], shadows(logs, had)).startswith(said)


@pytest.mark.parametrize("count", [1, 3])
def test_iam_is_the_sum_that_its_released_code_takes(count):
    draw = np.random.default_rng(2)
    own, fit = draw.normal(size=12), draw.normal(-1, 1, 12)
    never = draw.normal(size=(12, count))
    alphas, found = np.linspace(0, 1, 100), np.zeros(12)
    for place in range(99):
        ways = -never + alphas[place] * (never - fit[:, None])
        found += alphas[place + 1] * norm.cdf(-own, ways.mean(1), ways.std())
    expected = (found / alphas[1:].sum()).mean()
    assert fitting(*(torch.tensor(one).exp() for one in (own, fit, never))) == pytest.approx(expected)


def test_iam_rises_from_a_model_that_never_saw_to_the_original():
    draw = torch.Generator().manual_seed(3)
    fit = torch.rand(40, generator=draw, dtype=torch.float64) + 0.5
    never = fit[:, None] * 4
    scores = [fitting(fit * 4**part, fit, never) for part in (1.5, 1.0, 0.5, 0.0)]
    assert scores == sorted(scores)
    assert scores[1] < 0.5 < scores[3]
    assert isinstance(fitting(fit - fit, fit, never), Missing)


@pytest.fixture(scope="module")
def whole(shared_tiny):
    return ran(shared_tiny, shared_tiny.parent / "run", *AUDITED, BESIDE)


def test_every_problem_has_its_shadow_models_and_a_retrained_one_those_that_did_not_unlearn(whole):
    results = json.loads((whole / "results.json").read_text())
    (audit,) = results["audits"]
    assert audit["samples"].endswith("Each has 2 of 4 shadow models that had it.")
    rows = {"original": audit["original"], **audit["solutions"]}
    retrained = next(one for one in rows if one.startswith("retrain"))
    assert rows.keys() == {"original", *(one["id"] for one in results["solutions"])}
    assert all(0 <= row["auc"] <= 1 for row in rows.values())
    assert rows[retrained]["apart"] == rows["original"]["apart"]
    assert len({row["apart"] for row in rows.values()}) == len(rows) - 1
    assert not (whole / "shadows").exists()


def test_two_in_a_row_have_each_half_of_the_forget_images(shared_tiny, tmp_path):
    seen = Counter()

    def look(event):
        if event["event"] == "shadow":
            for path in sorted((tmp_path / "run" / "shadows").glob("*.json"))[event["number"] - 1 : event["number"]]:
                seen.update(json.loads(path.read_text())["value"]["members"])
            if event["number"] == 2:
                raise Stopped(15)

    with pytest.raises(Stopped):
        ran(shared_tiny, tmp_path / "run", *AUDITED, tell=look)
    assert len(seen) == 8 + 4
    assert {*seen.values()} == {1}


def test_a_run_that_is_stopped_in_a_shadow_model_ends_in_the_same_bytes(whole, shared_tiny, tmp_path, monkeypatch):
    from unlearnkit.run import shadows as module

    monkeypatch.setenv("UNLEARNKIT_CACHE", str(tmp_path / "cache"))
    real, calls = module.solve, []

    def stopping(run, bench, problem, begin, ends):
        calls.append(problem.id)
        if len(calls) == 4:
            run.stop.signal = 15
        return real(run, bench, problem, begin, ends)

    monkeypatch.setattr(module, "solve", stopping)
    with pytest.raises(Stopped):
        ran(shared_tiny, tmp_path / "run", *AUDITED, BESIDE)
    assert any((tmp_path / "run" / "shadows").glob("u-lira-*/checkpoints/*/*")), "nothing was saved on the way"
    assert lasting(resumed(tmp_path / "run")) == lasting(whole)


def test_trained_shadow_models_are_shared_by_runs_of_other_methods(whole, shared_tiny, tmp_path, monkeypatch):
    from unlearnkit.run import scratch

    kept = []
    monkeypatch.setattr(scratch, "keep", lambda run, origin, descent: kept.append(origin))
    ran(shared_tiny, tmp_path / "run", *AUDITED, "compare=[{kind: noisy-label}]", "epsilons={fractions: [0.25]}")
    assert kept == []


def test_how_long_they_are_trained_has_to_be_known_before_anything_begins(shared_tiny, tmp_path):
    without = (*SHORT, "evaluate.audits=[{kind: u-lira, shadows: 4}]")
    with pytest.raises(UserError, match="state them in `steps`"):
        ran(shared_tiny, tmp_path / "run", *without)
    assert not (tmp_path / "run").exists()
    found = plan.describe(load(shared_tiny, discover(), without).recipe, shared_tiny.parent)
    assert any("state them in `steps`" in line for line in found["missing"])


def test_none_is_trained_where_no_forget_image_was_held_out(shared_tiny, tmp_path):
    told = []
    (tmp_path / "list.txt").write_text("red/00.png\nred/01.png\nred/02.png\n")
    listed = f"data.forget={{files: {tmp_path / 'list.txt'}}}"
    run = ran(shared_tiny, tmp_path / "run", *AUDITED, listed, tell=told.append)
    (audit,) = json.loads((run / "results.json").read_text())["audits"]
    assert "no forget validation images" in audit["original"]["auc"]["failed"]
    assert "shadow" not in {event["event"] for event in told}


def test_a_model_that_cannot_be_trained_anew_is_refused_before_anything_begins(shared_tiny):
    recipe = load(shared_tiny, discover(), AUDITED).recipe
    like = load(shared_tiny, discover(), ("model.width=24",)).recipe.model.build(None)
    audits = [section.build(shared_tiny.parent, torch.device("cpu")) for section in recipe.evaluate.audits]
    with pytest.raises(UserError, match="trained anew has other sizes"):
        planned(recipe, shared_tiny.parent, like, audits, 12, [])


def test_a_plan_counts_them(shared_tiny):
    found = plan.describe(load(shared_tiny, discover(), (*AUDITED, BESIDE)).recipe, shared_tiny.parent)
    unlearned = 12 * (2 + 1 + 1)  # phase 1, one ε, the composite loss; nothing is retrained
    assert found["shadows"] == {"models": COUNT, "steps": COUNT * (STEPS + unlearned)}
    assert any(
        f"4 shadow models, trained and unlearned: {4 * (STEPS + unlearned)} steps" in line for line in plan.lines(found)
    )


def test_a_shadow_model_costs_its_steps_and_those_of_its_problems(shared_tiny):
    recipe = load(shared_tiny, discover(), AUDITED).recipe
    bench = build(recipe, shared_tiny.parent)
    tools = instruments.build(recipe.evaluate, bench.base, bench.device)
    known = costs(bench, tools, bench.steps, bench.methods)
    cost = weigh(recipe, lengths(recipe, bench.steps, bench.methods) | known)
    assert {cost(Task("", "shadow", name)) for name in known} == {(STEPS + 3 * 12) / 12}
    assert len(known) == COUNT
