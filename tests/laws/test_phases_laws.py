"""Laws of both phases, on problems with a known answer."""

import pytest
import torch
from toys import descent, half_square, phase1, phase2, solved

from unlearnkit.builtin.controls.rules import Averaged, ProportionalIntegral
from unlearnkit.control import ClosedForm, Constant
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.training import AdamW
from unlearnkit.solver.landing import LANDED, LEAST_SCALE, between
from unlearnkit.solver.schedule import decayed

A, B = torch.tensor([3.0, 0.0, 1.0]), torch.tensor([-1.0, 2.0, 0.0])
SPAN = float((A - B).norm())


def closed_form(epsilon: float) -> tuple[torch.Tensor, float]:
    """Return optimum and multiplier of min ½‖x − A‖² s.t. ½‖x − B‖² ≤ ε."""
    lam = max(0.0, SPAN / (2 * epsilon) ** 0.5 - 1)
    return (A + lam * B) / (1 + lam), lam


@pytest.mark.parametrize("rule", [ClosedForm, lambda: Averaged(0.9, 0.05)])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0, 20.0])
def test_phase_2_reaches_the_exact_optimum_and_multiplier(rule, epsilon):
    toy = descent(half_square(B), half_square(A), torch.zeros(3), rule(), phase2(1.0), epsilon=epsilon, decay=0.3)
    x = solved(toy)
    optimum, lam = closed_form(epsilon)
    torch.testing.assert_close(x, optimum, atol=5e-3, rtol=0)
    assert toy.checks[-1].lam == pytest.approx(lam, rel=0.02, abs=1e-3)
    assert toy.checks[-1].residual < 0.02
    assert toy.checks[-1].satisfied


def test_the_cheap_mode_reaches_the_same_optimum():
    rule = ProportionalIntegral(2.0, 0.1, 0.5)
    toy = descent(half_square(B), half_square(A), torch.zeros(3), rule, phase2(), epsilon=1.0, decay=0.3)
    torch.testing.assert_close(solved(toy), closed_form(1.0)[0], atol=5e-3, rtol=0)


def test_phase_1_reaches_the_lexicographic_optimum():
    """F1 is least on the plane x0 = 0, and there f2 is least at (0, 1, −2)."""
    f1, f2 = (lambda x: 0.5 * x[0] ** 2), half_square(torch.tensor([1.0, 1.0, -2.0]))
    toy = descent(f1, f2, torch.tensor([2.0, 0.0, 0.0]), ClosedForm(), phase1(delta=2.0), lr=0.05, steps=1000)
    torch.testing.assert_close(solved(toy), torch.tensor([0.0, 1.0, -2.0]), atol=2e-3, rtol=0)


def test_lowest_completeness_leaves_the_reference_where_the_retain_gradient_vanishes():
    """At θ0 f2 and its gradient are zero: the exchanged problem must neither stop nor blow up."""
    start = torch.tensor([1.0, 1.0])
    f1, f2 = half_square(torch.zeros(2)), (lambda x: 0.5 * (x[0] - 1) ** 2)
    toy = descent(f1, f2, start, ClosedForm(), phase1(), objective="forget", lr=0.02, steps=1000)
    toy.step()
    assert toy.flat.theta.isfinite().all()
    assert not torch.equal(toy.flat.theta.detach(), start)
    torch.testing.assert_close(solved(toy), torch.tensor([1.0, 0.0]), atol=2e-3, rtol=0)


def test_a_step_follows_the_rule_worked_by_hand():
    toy = descent(half_square(B), half_square(A), torch.zeros(3), ClosedForm(), phase2(2.0), epsilon=1.0, lr=0.1)
    h, f = -B, -A
    psi = 2.0 * (0.5 * float(h @ h) - 1.0)
    lam = max(0.0, (psi - float(f @ h)) / float(h @ h))
    toy.step()
    torch.testing.assert_close(toy.flat.theta.detach(), -0.1 * (f + lam * h))


def test_fixed_weight_at_zero_never_leaves_the_minimum_of_the_retain_loss():
    toy = descent(half_square(B), half_square(A), A, Constant(1, 0.0), phase2(), steps=50)
    assert torch.equal(solved(toy), A)


def test_joint_and_separate_passes_give_one_gradient():
    joint = descent(half_square(B), half_square(A), torch.ones(3), Constant(1, 0.7), phase2(), steps=5)
    x = torch.ones(3)
    for _ in range(5):
        joint.step()
        x = x - 0.1 * ((x - A) + 0.7 * (x - B))
    torch.testing.assert_close(joint.flat.theta.detach(), x)


@pytest.mark.parametrize("rule", [ClosedForm, lambda: Averaged(0.9, 0.05), lambda: ProportionalIntegral(2, 0.1, 0.5)])
@pytest.mark.parametrize("stop", [1, 7, 33])
def test_a_saved_descent_continues_bit_for_bit(rule, stop):
    def toy():
        return descent(
            half_square(B),
            half_square(A),
            torch.zeros(3),
            rule(),
            phase2(),
            epsilon=1.0,
            steps=60,
            noise=0.3,
            optimizer=AdamW(lr=0.05),
            decay=0.5,
        )

    whole, first, second = toy(), toy(), toy()
    expected = solved(whole)
    while first.done < stop:
        first.step()
        if first.due():
            first.check()
    tensors, facts = first.state()
    second.load({name: value.clone() for name, value in tensors.items()}, facts)
    assert torch.equal(solved(second), expected)
    assert second.history == whole.history
    assert second.checks == whole.checks


def test_non_finite_values_are_caught_before_the_update():
    def explode(x):
        return 0.5 * x.square().sum() * (float("nan") if x.norm() < 1.5 else 1.0)

    toy = descent(half_square(torch.zeros(3)), explode, 2 * torch.ones(3), Constant(1, 0.0), phase2(), steps=100)
    with pytest.raises(UserError, match=r"non-finite at step \d+; the update was not applied") as caught:
        solved(toy)
    assert caught.value.code == Exit.DIVERGED
    assert toy.flat.theta.isfinite().all()


def test_the_point_between_two_weights_is_where_f1_is_epsilon():
    """On the line from B to A, f1 = ½t²‖A − B‖²."""
    toy = descent(half_square(B), half_square(A), torch.zeros(3), ClosedForm(), phase2(), epsilon=1.0)
    forget, low, high = toy.sides["forget"], (B, 0.0), (A, SPAN**2 / 2)
    for epsilon in (0.01, 0.5, 2.0, 8.0):
        share = float((between(toy.flat, forget, low, high, epsilon) - B).norm()) / SPAN
        assert share == pytest.approx((2 * epsilon) ** 0.5 / SPAN, rel=LANDED)
    assert torch.equal(between(toy.flat, forget, low, high, 20.0), A)  # no point of the line has so large a loss


@pytest.mark.parametrize("off", [0.7, 0.97, 1.03, 1.5])
def test_landing_ends_at_epsilon_from_above_and_below(off):
    """A toy's optima lie on the line between its boundaries, so that landing finds the optimum of ε itself."""
    start, _ = closed_form(off)
    toy = descent(half_square(B), half_square(A), start, ClosedForm(), phase2(), epsilon=1.0)
    toy.land((B, 0.0), (A, SPAN**2 / 2))
    assert toy.landing == {"f1": pytest.approx(off), "gap": pytest.approx(off - 1, rel=1e-4), "moved": True}
    assert abs(toy.check().gap) <= LANDED
    torch.testing.assert_close(toy.flat.theta.detach(), closed_form(1.0)[0], atol=5e-3, rtol=0)


def test_landing_from_above_is_the_shortest_way_in_the_metric_of_the_optimiser():
    """For f1 = gᵀθ, a step is −(f1 − ε)Dg/(gᵀDg): all of it in the coordinates whose gradients were small."""
    gradient = torch.tensor([4.0, 1.0, 0.25])
    toy = descent(lambda x: gradient @ x, half_square(A), torch.ones(3), ClosedForm(), phase2(), epsilon=5.0)
    toy.optimizer.state[toy.flat.theta]["exp_avg_sq"] = torch.tensor([16.0, 1.0, 0.0])
    scale = torch.tensor([4.0, 1.0, 0.0]) + LEAST_SCALE * 5 / 3
    assert toy.land((torch.full((3,), -9.0), float(-9 * gradient.sum())), (torch.ones(3), 6.0))
    expected = torch.ones(3) - 0.25 * gradient / scale / (gradient @ (gradient / scale))
    torch.testing.assert_close(toy.flat.theta.detach(), expected)


@pytest.mark.parametrize("start", [-0.4, 0.3, 0.0])
def test_landing_from_above_turns_to_the_highest_completeness_where_f1_does_not_fall(start):
    """f1 has a minimum above ε beside the start, and its least value at 4."""

    def f1(x):
        return (x**2 * (x - 4) ** 2 / 8 + 1.2 * (4 - x) / 4).sum()

    toy = descent(f1, half_square(torch.zeros(1)), torch.tensor([start]), ClosedForm(), phase2(), epsilon=1.0)
    assert toy.land((torch.tensor([4.0]), 0.0), (torch.tensor([-2.0]), float(f1(torch.tensor([-2.0])))))
    assert abs(toy.check().gap) <= LANDED


@pytest.mark.parametrize(
    ("start", "epsilon", "lowest"),
    [
        pytest.param(closed_form(1.0)[0], 1.0, (A, SPAN**2 / 2), id="at ε"),
        pytest.param(A, 20.0, (2 * A - B, 2 * SPAN**2), id="f2 is least"),
        pytest.param(closed_form(0.8)[0], 1.0, (4 * B - 3 * A, 9 * SPAN**2 / 2), id="f2 would rise"),
    ],
)
def test_landing_stays_where_nothing_is_to_be_won(start, epsilon, lowest):
    toy = descent(half_square(B), half_square(A), start, ClosedForm(), phase2(), epsilon=epsilon)
    toy.land((B, 0.0), lowest)
    assert not toy.landing["moved"]
    assert torch.equal(toy.flat.theta.detach(), start)


def test_learning_rate_stays_then_falls_to_zero():
    rates = [decayed(step, 100, 0.5) for step in range(101)]
    assert rates[:51] == [1.0] * 51
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[100] == pytest.approx(0)


def test_a_problem_ends_on_a_check_of_its_last_step():
    """A check that is older than the weights says nothing about them."""
    toy = descent(
        half_square(B), half_square(A), A, ClosedForm(), phase2(), epsilon=20.0, steps=40, decay=0.5, noise=0.5
    )
    while toy.done < toy.steps and not toy.converged():
        toy.step()
        if toy.due():
            toy.check()
    assert toy.checks[-1].step == toy.done
