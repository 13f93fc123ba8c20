"""Laws of the rules that weigh two gradients or raise a multiplier."""

import math

import pytest
import torch
from two_numbers import (
    A0,
    GREY,
    GREYS,
    P,
    Q,
    kept_and_aimed,
    run,
    toy,
)

from unlearnkit.builtin.methods import mixtures, trade_offs
from unlearnkit.control import Facts, direction
from unlearnkit.data import seeded
from unlearnkit.errors import UserError


def gradients(seed, size=4):
    """Return two random vectors, ∇f and ∇h."""
    return torch.randn(2, size, generator=seeded("gradients", seed), dtype=torch.float64) * torch.tensor([[1.0], [3.0]])


def mixed(rule, f, h):
    """Return the direction that a rule makes of two gradients."""
    facts = Facts(
        torch.tensor(1.0).double(), None, lambda *given: torch.zeros(()),
        squared_norm=h @ h, product=f @ h, objective_norm=f @ f,
    )  # fmt: skip
    weight, lam = rule.weights(facts)
    return direction(f.clone(), h, lam, weight)


RANDOM = pytest.mark.parametrize("seed", range(20))


def released_cup(f, h, gamma, guard=1e-6):
    """CUP's direction on whole vectors, formula by formula as the authors' optim/CUP.py has it."""
    forgetting = h.norm() + guard
    f_across = f - f.dot(h) / forgetting**2 * h
    h_across = h - f.dot(h) / (f.dot(f) + guard) * f
    f_across, h_across = (part / (part.norm() + guard) for part in (f_across, h_across))
    turn = gamma * f_across.dot(h_across).clamp(-1, 1).acos()
    return ((f + h) / 2).norm() * (turn.sin() * h / forgetting + turn.cos() * f_across)


def test_cup_is_the_released_rule_whether_the_gradients_agree_or_not():
    signs = set()
    for seed in range(300):
        f, h = gradients(seed, 8) * 10.0 ** (seed % 7 - 4)
        gamma = (seed % 11) / 10
        found, expected = mixed(mixtures.Pivot(gamma), f, h), released_cup(f, h, gamma)
        assert torch.cosine_similarity(found, expected, 0) > 1 - 1e-5
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7 * float(expected.norm()))
        signs.add(bool(f @ h > 0))
    assert signs == {True, False}


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_cup_where_a_gradient_vanishes_or_they_cancel_is_the_released_rule(gamma):
    f, h = gradients(0)
    for one, other in [(0 * f, h), (f, 0 * h), (f, -f), (0 * f, 0 * h)]:
        torch.testing.assert_close(mixed(mixtures.Pivot(gamma), one, other), released_cup(one, other, gamma))


@pytest.mark.parametrize("factor", [2.0, -2.0, 1e-3])
def test_cup_keeps_only_the_forget_gradient_where_the_two_are_parallel(factor):
    _, h = gradients(0)
    expected = (h * (1 + factor)).norm() / 2 * math.sin(0.3 * math.pi / 2) * h / h.norm()
    torch.testing.assert_close(mixed(mixtures.Pivot(0.3), factor * h, h), expected, rtol=1e-5, atol=1e-5)


@RANDOM
def test_cup_holds_one_of_the_two_losses_at_each_end(seed):
    f, h = gradients(seed)
    scale = float(f.norm() * h.norm())
    kept, gone = mixed(mixtures.Pivot(0.0), f, h), mixed(mixtures.Pivot(1.0), f, h)
    assert abs(kept @ h) < 1e-5 * scale < kept @ f
    assert abs(gone @ f) < 1e-5 * scale < gone @ h


@RANDOM
@pytest.mark.parametrize("quota", [0.0, 0.5, 2.0])
def test_a_step_of_hamu_meets_its_quota_at_the_least_retain_loss(seed, quota):
    f, h = gradients(seed)
    g = mixed(mixtures.Quota(quota, stops=False), f, h)
    assert g @ h >= quota - 1e-9
    reach = f.norm()
    if quota > reach * h.norm():
        torch.testing.assert_close(g, quota * h / (h @ h))
        return
    assert g.norm() <= reach * (1 + 1e-9)
    # The best step lies in the plane of the two gradients: look at all angles in it.
    one = h / h.norm()
    other = f - (f @ one) * one
    angles = torch.linspace(0, 2 * math.pi, 100001, dtype=torch.float64)[:, None]
    circle = reach * (angles.cos() * one + angles.sin() * other / other.norm())
    best = (circle @ f)[circle @ h >= quota].max()
    assert float(g @ f) == pytest.approx(float(best), rel=1e-3, abs=1e-3 * float(reach) ** 2)


def test_hamu_ends_where_no_step_meets_its_quota_without_raising_the_retain_loss():
    f, h = torch.tensor([1.0, 0.0]).double(), torch.tensor([-2.0, 0.5]).double()
    for quota, over in ((0.4, False), (0.6, True)):  # ‖∇f‖ times the part of ∇h across ∇f is 0.5
        rule = mixtures.Quota(quota, stops=True)
        g = mixed(rule, f, h)
        assert rule.over() == over
        assert (g.norm() == 0) == over
    rule = mixtures.Quota(0.6, stops=False)
    assert mixed(rule, f, h) @ f < 0
    assert not rule.over()
    descent, _ = toy(trade_offs.Hamu(kind="hamu", quota=5.0, stop=True), steps=10)
    start = descent.flat.theta.tolist()
    assert run(descent) == start
    assert descent.ends == [{"steps": 1, "stopped": True}]


@RANDOM
def test_munba_strikes_the_nash_bargain(seed):
    """Each player's gain is the reciprocal of its weight, and both gain the same part of their gradient's length."""
    f, h = gradients(seed)
    g = mixed(mixtures.Bargain(), f, h)
    u, v = f / f.norm(), h / h.norm()
    room = (1 + u @ v).sqrt()
    torch.testing.assert_close(g, (u + v) / room)
    assert float(g @ f) == pytest.approx(float(f.norm() * room))
    assert float(g @ h) == pytest.approx(float(h.norm() * room))
    # The closed form as the released code has it.
    squared, product, other = f @ f, f @ h, h @ h
    alpha = (
        (squared * other - product * (squared * other).sqrt()) / (squared**2 * other - squared * product**2)
    ).sqrt()
    torch.testing.assert_close(g, alpha * f + (1 - squared * alpha**2) / (product * alpha) * h)


def test_eupmu_raises_its_multiplier_where_the_retain_loss_rises():
    section = trade_offs.Eupmu(kind="eupmu", rate=0.1, target=GREYS)
    descent, images = toy(section, a=A0, steps=3, lr=0.1)
    a, lam = A0, 0.0
    moments, f = [0.0, 0.0], lambda a: ((a - A0) * Q) ** 2
    for step in (1, 2, 3):
        kept, aimed = kept_and_aimed(a)
        after = a - 0.1 * (lam * kept + aimed) / (1 + lam)
        rise = f(after) - f(a)
        moments = [0.9 * moments[0] + 0.1 * rise, 0.999 * moments[1] + 0.001 * rise**2]
        lam = max(0, lam + 0.1 * (moments[0] / (1 - 0.9**step)) / ((moments[1] / (1 - 0.999**step)) ** 0.5 + 1e-8))
        a = after
    assert run(descent) == pytest.approx([a], rel=1e-5)
    assert float(descent.stage.rule.state["lam"]) == pytest.approx(lam, rel=1e-3)
    assert lam > 0.2
    assert images["retain"].reads == 3 * 2 * 4  # a batch for the view and for the targets, once in a step


def test_a_tolerance_lets_eupmu_forget_more():
    """With none the retain loss may not rise; with a wide one λ stays 0, which is descent on the forget loss alone."""
    runs = {}
    for tolerance in (0.0, 1.0):
        section = trade_offs.Eupmu(kind="eupmu", tolerance=tolerance, rate=0.3, target=GREYS)
        descent, _ = toy(section, a=A0, steps=60, lr=0.1)
        runs[tolerance] = abs(run(descent)[0] - A0)
    assert runs[1.0] > 2 * runs[0.0]


def weighed(name, f, h, **settings):
    from unlearnkit.builtin.methods.mixtures import Weighting

    return mixed(Weighting(name, **settings), f, h)


@RANDOM
def test_mgda_is_the_shortest_vector_between_the_gradients(seed):
    f, h = gradients(seed)
    part = float(((f - h) @ f / ((f - h) @ (f - h))).clamp(0, 1))
    torch.testing.assert_close(weighed("MGDA", f, h), (1 - part) * f + part * h, rtol=1e-2, atol=2e-2)


@RANDOM
def test_pcgrad_takes_the_opposed_parts_away(seed):
    f, h = gradients(seed)
    conflict = min(float(f @ h), 0.0)
    torch.testing.assert_close(weighed("PCGrad", f, h), f - conflict / (h @ h) * h + h - conflict / (f @ f) * f)


@RANDOM
@pytest.mark.parametrize("alpha", [0.5, 5.0])
def test_restricted_gradient_is_the_released_rule(seed, alpha):
    """Of ascent and descent the part that opposes the other goes (apply_pcgrad_update), and α weighs the descent."""
    f, h = gradients(seed)
    ascent, descent = (one - min(one @ other, 0) / (other @ other) * other for one, other in ((h, f), (f, h)))
    (stage,) = trade_offs.RestrictedGradient(kind="restricted-gradient", alpha=alpha).build(None, None, None)
    assert (stage.forget.sign, stage.retain.sign) == (-1, 1)
    found = mixed(stage.rule, f, h)
    torch.testing.assert_close(found, ascent + alpha * descent)
    assert found @ f > -1e-9
    assert found @ h > -1e-9


@RANDOM
def test_cagrad_is_the_best_step_for_the_worse_off_loss_near_the_mean(seed):
    f, h = gradients(seed)
    mean = (f + h) / 2
    g = weighed("CAGrad", f, h, c=0.5)
    radius = 0.5 * mean.norm()
    assert (g - mean).norm() <= radius * 1.01
    one = f / f.norm()
    other = h - (h @ one) * one
    angles = torch.linspace(0, 2 * math.pi, 20001, dtype=torch.float64)[:, None]
    ball = mean + radius * (angles.cos() * one + angles.sin() * other / other.norm())
    best = torch.minimum(ball @ f, ball @ h).max()
    assert float(torch.minimum(g @ f, g @ h)) == pytest.approx(float(best), rel=2e-2, abs=2e-2)


def test_the_lagrangian_ascends_on_the_relative_violation():
    section = trade_offs.Lagrangian(kind="lagrangian", epsilon=0.1, rate=0.2, target=GREYS)
    descent, _ = toy(section, a=A0, steps=5, lr=0.3)
    a, lam = A0, 0.0
    for _ in range(5):
        kept, aimed = kept_and_aimed(a)
        h = (a * P - A0 * GREY) ** 2
        a, lam = a - 0.3 * (kept + lam * aimed), max(0.0, lam + 0.2 * (h - 0.1) / 0.1)
    assert run(descent) == pytest.approx([a], rel=1e-5)
    assert float(descent.stage.rule.state["lam"]) == pytest.approx(lam, rel=1e-4)


def test_the_lagrangian_ends_at_its_bound():
    section = trade_offs.Lagrangian(kind="lagrangian", epsilon=0.1, rate=0.1, target=GREYS)
    descent, _ = toy(section, a=A0, steps=1000, lr=0.1)
    (a,) = run(descent)
    assert (a * P - A0 * GREY) ** 2 == pytest.approx(0.1, rel=1e-2)


@pytest.mark.parametrize(("library", "method"), [("torchjd", "mgda"), ("cvxpy", "cagrad"), ("cooper", "lagrangian")])
def test_a_missing_library_is_said(monkeypatch, library, method):
    import sys

    from unlearnkit.builtin.methods import mixtures

    monkeypatch.setitem(sys.modules, library, None)
    if library == "cvxpy":
        pytest.importorskip("torchjd")
        monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    build = {
        "mgda": lambda: mixtures.Weighting("MGDA"),
        "cagrad": lambda: mixtures.Weighting("CAGrad", c=0.5),
        "lagrangian": lambda: mixtures.PrimalDual(0.1, 0.1),
    }[method]
    with pytest.raises(UserError, match=r"pip install 'unlearnkit\["):
        build()
