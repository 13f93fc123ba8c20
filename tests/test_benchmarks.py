"""The benchmark measures what it says: memory against known sizes, and steps that take the same gradients."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import audits, dial, steps
from benchmarks.convergence import FORMS, Convex, fitted, measured
from benchmarks.fronts import PUBLISHED, Front, fronts, share, table
from benchmarks.growth import ways
from benchmarks.measure import in_turn, operations, peak_bytes, ratio
from benchmarks.steps import ALPHA, WAYS, cooper, li_et_al, prepared, switched, torchjd
from unlearnkit.data import batch_index, seeded, to_float, view_of
from unlearnkit.plugins import discover
from unlearnkit.solver.landing import LANDED
from unlearnkit.solver.problem import Check
from unlearnkit.solver.workbench import frozen_digest

CPU = torch.device("cpu")


@pytest.fixture
def bench(tiny):
    overrides = ["forget={kind: noise-embedding, target: fresh}", "training.batch_size=8"]
    return prepared(tiny, overrides, discover())


def test_a_step_is_the_same_work_with_generated_pictures(tiny, tmp_path):
    changes = steps.generated(tmp_path, tiny, ["training.batch_size=8"], discover())
    bench, own = prepared(tiny, changes, discover()), prepared(tiny, ["training.batch_size=8"], discover())
    assert bench.recipe.training.batch_size == own.recipe.training.batch_size == 8
    ours = [operations(steps.constrained(one)) for one in (bench, own)]
    assert ours[0] == ours[1] > 0


def test_memory_is_that_of_the_tensors_alive_together():
    def work():
        for _ in range(3):
            first = torch.ones(1000)
            second = torch.cat([first, first])  # 4,000 and 8,000 bytes; a view is no memory
            del first
            second.view(2, 1000)
            del second

    assert peak_bytes(work, CPU) == 12_000


def test_operations_are_those_of_the_matrix_products_forward_and_backward():
    a, b = torch.rand(3, 5, requires_grad=True), torch.rand(5, 7, requires_grad=True)
    assert operations(lambda: (a @ b).sum().backward()) == 3 * (2 * 3 * 5 * 7)


def test_our_step_takes_the_arithmetic_of_a_weighted_sum(bench):
    assert operations(WAYS["ε-constrained (ours)"](bench)) == operations(WAYS["weighted sum (ours)"](bench))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_stacked_step_is_the_step_of_each(bench):
    torch.manual_seed(0)
    theta = bench.origin + 0.05 * torch.randn_like(bench.origin)
    bench.put("encoder", theta)
    weights = {}
    for count in (1, 3):
        step, weights[count] = steps.stacked(bench, count)
        steps.several(step, 2)
    assert torch.equal(bench.flat.theta, theta)
    for name, three in weights[3].items():
        torch.testing.assert_close(three, weights[1][name].expand_as(three))
        moved = (three[0] - dict(steps._Loss(bench).named_parameters())[name]).detach().abs()
        assert float(moved.max()) == pytest.approx(2 * steps.LR, rel=0.2)


def test_deterministic_kernels_are_asked_for_in_one_step_alone(bench, monkeypatch):
    seen = []
    monkeypatch.setattr(
        steps, "constrained", lambda of: lambda: seen.append(torch.are_deterministic_algorithms_enabled())
    )
    for on in (True, False):
        switched(bench, on)()
    assert seen == [True, False]
    assert not torch.are_deterministic_algorithms_enabled()


def test_ways_run_in_turn_and_two_rounds_do_not_count():
    seen = []
    found = in_turn({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3, CPU)
    assert "".join(seen) == "abbaabbaab"
    assert [len(values) for values in found.values()] == [3, 3]
    assert ratio([2.0, 6.0, 4.0], [1.0, 1.0, 1.0]) == (4.0, 3.0, 5.0)


@pytest.mark.parametrize("way", WAYS)
def test_a_way_trains_what_the_recipe_trains_and_nothing_else(bench, way):
    before = frozen_digest(bench.student, "encoder")
    step = WAYS[way](bench)
    torch.manual_seed(0)
    bench.put("encoder", bench.origin + 0.05 * torch.randn_like(bench.origin))
    theta = bench.flat.theta.detach().clone()
    for _ in range(2):
        step()
    assert not torch.equal(bench.flat.theta, theta)
    assert frozen_digest(bench.student, "encoder") == before
    assert torch.isfinite(bench.flat.theta).all()


def rows(bench, name):
    """Return the rows of the first step."""
    side = bench.sides[name]
    return batch_index(1, side.count, 8, side.seed, "benchmark", name)


def gradient(bench):
    return torch.cat([parameter.grad.reshape(-1) for parameter in bench.flat.parameters])


def test_libraries_get_the_gradients_of_the_two_losses(bench):
    """At the reference the retain loss has no gradient, so that MGDA's direction vanishes and Cooper's is λ∇f1 = 0."""
    for way in (torchjd, cooper):
        bench.put("encoder", bench.origin)
        way(bench)()
        assert gradient(bench).norm() < 1e-6
    # Away from it, Cooper's first step is ∇f2, as λ starts at 0.
    torch.manual_seed(0)
    theta = bench.origin + 0.01 * torch.randn_like(bench.origin)
    bench.put("encoder", theta)
    step = cooper(bench)
    step()
    found = gradient(bench).clone()
    bench.put("encoder", theta)
    side = bench.sides["retain"]
    expected = torch.autograd.grad(side.value(rows(bench, "retain"), 1), list(bench.flat.parameters))
    torch.testing.assert_close(found, torch.cat([value.reshape(-1) for value in expected]))


def test_the_published_step_is_the_composite_loss_of_its_description(bench):
    torch.manual_seed(1)
    step = li_et_al(bench)
    bench.put("encoder", bench.origin + 0.05 * torch.randn_like(bench.origin))
    theta = bench.flat.theta.detach().clone()
    torch.manual_seed(2)
    step()
    found = gradient(bench).clone()
    bench.put("encoder", theta)
    torch.manual_seed(2)
    images = {name: to_float(bench.sides[name].images[rows(bench, name)]) for name in ("retain", "forget")}
    both = torch.cat(list(images.values()))
    noise = (torch.randn_like(both) * both.std() + both.mean()).clamp(0, 1)[len(images["retain"]) :]

    def embedded(adapter, of):
        return adapter.embed(view_of(adapter, bench.task, of, seeded()))

    kept = (embedded(bench.student, images["retain"]) - embedded(bench.reference, images["retain"])).square().mean()
    gone = (embedded(bench.student, images["forget"]) - embedded(bench.reference, noise)).square().mean()
    expected = torch.autograd.grad(kept + ALPHA * gone, list(bench.flat.parameters))
    torch.testing.assert_close(found, torch.cat([value.reshape(-1) for value in expected]), rtol=1e-4, atol=1e-6)


def test_ways_through_phase_2_share_phase_1_and_nothing_else(tiny):
    found = fronts(tiny, ["seed=3"], {"default": (), "published": PUBLISHED, "again": ()}, discover())
    assert found["default"].checks == found["again"].checks
    assert found["default"].checks != found["published"].checks
    assert all(check.gap <= LANDED for check in found["default"].checks)


def test_a_front_is_measured_between_the_original_and_the_highest_completeness():
    """With f1 from 2 (highest) to 4 (original) and f2 up to 8, the point (3, 2) dominates half times three quarters."""
    corner, point = Check(1, 2.0, 8.0, None, 0.0, 0.0), Check(1, 3.0, 2.0, 0.0, 0.0, 1.0)
    assert share([point], corner, 4.0) == pytest.approx(0.5 * 0.75)


def test_a_table_of_fronts_has_means_and_spreads_over_seeds():
    def front(gap, lam, area, seconds):
        return Front([Check(1, 1.0, 0.5, gap, 0.0, lam)], area, seconds, 10.0)

    rows = table(
        {"a": [front(0.01, 1.0, 0.5, 10.0), front(0.03, 1.0, 0.7, 10.0)], "b": [front(-0.05, 0.0, 0.1, 5.0)] * 2}
    )
    assert "| a: gap % | +2.0 ± 1.4 |" in rows
    assert "| b: f2 | 0.5 ± 0 | 0.1000 ± 0.0000 | 0.50 ± 0.00 |" in rows
    assert "largest gap +3.0 %, least with λ > 0 +1.0 %" in rows
    assert "A run for all 1 ε costs 1.00 of a run for each" in rows
    assert "b: largest gap -5.0 %, least with λ > 0 —" in rows


def test_growth_is_that_of_parameters_and_images(tiny):
    found = ways(tiny, "model.width", ("16", "32"), ["training.batch_size=4"], discover())
    assert [size for size, _ in found.values()] == sorted(size for size, _ in found.values())
    for _, step in found.values():
        step()


def test_the_model_that_only_hides_keeps_its_encoder_and_audits_stand_beside_it(tiny, tmp_path, monkeypatch):
    plugins = discover(extra=[SimpleNamespace(__name__="hides", register_methods=lambda: [audits.Hiding])])
    monkeypatch.setattr(audits, "AUDITS", ("{kind: relative}", "{kind: layers, layers: 1}"))
    found = audits.measured(tiny, tmp_path / "run", 3, [1, 2], ["training.steps=6"], plugins)
    hiding = found["solutions"][-1]["id"]
    assert [row["retrained"] for row in found["solutions"]] == [True, True, False]
    assert found["audits"][0]["solutions"][hiding]["encoder"] == 0
    assert found["audits"][1]["solutions"][hiding]["original_1"] == pytest.approx(1)
    assert 0 < found["audits"][0]["solutions"][hiding]["apart"] != 1
    shown = audits.table({"tiny": [found, found], "other": [found]}).splitlines()
    assert shown[0] == "| audit, figure | tiny | other |"
    assert [line.split(" | ")[0] for line in shown[2:]] == [
        "| relative, outputs nearer", "| relative, encoder nearer", "| layers, original, 1 of 1",
        "| layers, probe beyond retrained",
    ]  # fmt: skip
    _, twice, once = shown[3].strip("| ").split(" | ")
    assert twice.startswith("0; ")
    assert twice.endswith("; 0 (2, 0, 2)")
    assert once == twice.replace("(2, 0, 2)", "(1, 0, 1)")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name.partition(",")[0])
def test_control_functions_converge_at_the_rates_of_theory(form):
    deltas = (1.0, 1.5, 2.0) if form.phase == 2 else (1.5, 2.0)
    found = measured(form, (0, 1), deltas, steps=4000)
    for delta, values, floors in zip(deltas, found["constraint"], found["floor"], strict=True):
        for one, floor in zip(values, floors, strict=True):
            rate = fitted(found["t"], one, floor, exponential=form.rate(delta) == 0)
            if form is not FORMS[2]:  # of ours the factor that time is scaled by still moves
                assert rate == pytest.approx(form.rate(delta) or -1.0, rel=0.2)
            assert rate < 0


def test_the_least_objective_of_the_convex_problem_is_stationary():
    problem = Convex.drawn((0, 1, 2))
    h, *_ = problem.losses(problem.start)
    least = problem.least(0.1 * h)
    x = problem.start
    for _ in range(2000):
        now, _, across, along = problem.losses(x)
        lam = ((now - 0.1 * h) - (across * along).sum(1)) / (across**2).sum(1)
        x = x - 0.01 * (along + lam.clamp(min=0)[:, None] * across)
    torch.testing.assert_close(problem.losses(x)[1], least, rtol=1e-6, atol=0)


AUDITED = ("audits", "vq-gan", "palette")


def test_the_tables_of_the_dial_are_those_of_the_committed_figures():
    root = Path(__file__).parents[1]
    tables, page = dial.tables(root / "benchmarks/found/dial"), (root / "docs/benchmarks.md").read_text()
    assert len(tables) >= 2
    assert [table for table in tables if table not in page] == []


def test_the_table_of_the_audits_is_that_of_the_committed_figures():
    root = Path(__file__).parents[1]
    found = {name: json.loads((root / f"benchmarks/found/audits/{name}.json").read_text()) for name in AUDITED}
    assert [len(runs) for runs in found.values()] == [3, 3, 3]
    assert audits.table(found) in (root / "docs/audits.md").read_text()
