"""Laws of the front as one curve of weights, on a problem whose front is known, and of points that are found on it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toys import ToySide, half_square

from unlearnkit.control import Stage
from unlearnkit.recipe.training import AdamW, Training
from unlearnkit.solver.curve import LAM_MIN, PLACES, Along, CurveDescent, at, bernstein, fitted
from unlearnkit.solver.dial import Dial, of_curve, through
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.landing import LANDED
from unlearnkit.solver.problem import Problem, Solution, Span

A, B = torch.tensor([3.0, 0.0, 1.0]), torch.tensor([-1.0, 2.0, 0.0])
"""The original model, where f2 is 0, and where f1 is least."""
LENGTH = float((A - B).norm())
ORIGINAL = LENGTH**2 / 2


ACROSS = (A - B) / LENGTH
"""The direction of the front, which is the line from B to A."""


def front(epsilon):
    """Return the optimum of min ½‖x − A‖² s.t. ½‖x − B‖² ≤ ε."""
    return B + (A - B) * (2 * epsilon) ** 0.5 / LENGTH


def toy(degree=2, steps=800, noise=0.0, tight=0.05, guarded=0.0):
    parameter = nn.Parameter(A.clone())
    sides = {
        name: ToySide(name, parameter, half_square(centre), noise) for name, centre in (("forget", B), ("retain", A))
    }
    precision = "bf16" if guarded else "fp32"
    training = Training(optimizer=AdamW(lr=0.05), steps=steps, batch_size=8, decay=0.5, precision=precision)
    span = Span(degree, tight, ORIGINAL)
    problem = Problem("front-curve", [Stage(sides["forget"].loss, sides["retain"].loss, Along())], phase=2, span=span)
    flat = Flat([parameter])
    close = (lambda: bool((flat.theta - A).norm() < guarded)) if guarded else None
    descent = CurveDescent(problem, span, flat, sides, training, steps, A, close)
    bowed = [(0.0, front(tight) + torch.tensor([0.5, 0.5, -0.5])), (1.0, A)]
    descent.begin(fitted(degree, bowed))
    descent.warm()
    return descent


def solved(descent):
    while descent.advance():
        descent.step()
    descent.look()
    return descent


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_curve_that_was_trained_is_the_whole_front(degree, noise):
    descent = solved(toy(degree, noise=noise))
    for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        theta = at(descent.points.data, A, t)
        assert float((theta - B - ((theta - B) @ ACROSS) * ACROSS).norm()) < 0.04
        # Tighter than asked at its very end, where one place of λ is shared with what lies beyond.
        assert t == 0.0 or float(half_square(B)(theta)) == pytest.approx(descent.span.epsilon(t), rel=0.1)


def test_its_last_end_is_the_original_model_to_the_bit():
    descent = solved(toy(steps=20))
    assert torch.equal(at(descent.points.data, A, 1.0), A)
    assert descent.table[-1] == (1.0, pytest.approx(ORIGINAL))
    assert [t for t, _ in descent.table] == [place / (PLACES - 1) for place in range(PLACES)]


def test_it_goes_on_from_its_state_to_the_same_bits():
    whole, cut = solved(toy(steps=31)), toy(steps=31)
    while cut.done < 17:
        cut.step()
    tensors, facts = cut.state()
    again = toy(steps=31)
    again.load({name: value.clone() for name, value in tensors.items()}, facts)
    assert torch.equal(solved(again).points, whole.points)
    assert again.table == whole.table


def test_it_goes_on_as_near_to_the_original_as_it_was():
    whole, cut = toy(steps=400, guarded=2.0), toy(steps=400, guarded=2.0)
    for _ in range(201):  # in the middle of a window of the history, at whose end it looks around
        whole.step()
        cut.step()
    again = toy(steps=400, guarded=2.0)
    again.load(*cut.state())
    seen = {whole: [], again: []}
    for descent in (whole, again) * 3:
        descent.step()
        seen[descent].append(descent.near)
    assert seen[whole] == seen[again]
    assert set(seen[whole]) == {False, True}


@given(st.integers(1, 5), st.floats(0, 1))
def test_the_weights_of_control_points_add_up_to_one(degree, t):
    weights = bernstein(degree, t)
    assert len(weights) == degree + 1
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1)


@given(st.integers(1, 4), st.floats(0, 1))
def test_a_straight_line_is_fitted_exactly(degree, t):
    points = fitted(degree, [(0.0, B), (0.5, (A + B) / 2), (1.0, A)])
    torch.testing.assert_close(at(points, A, t), torch.lerp(B, A, t), atol=1e-5, rtol=0)


def test_a_curve_is_fitted_as_near_to_a_polyline_as_least_squares_allow():
    corners = [(0.0, B), (0.3, torch.tensor([0.0, 3.0, 1.0])), (1.0, A)]
    points = fitted(2, corners)

    def off(points):
        places = torch.linspace(0, 1, 25).tolist()
        on = [torch.lerp(B, corners[1][1], t / 0.3) if t <= 0.3 else torch.lerp(corners[1][1], A, (t - 0.3) / 0.7)
              for t in places]  # fmt: skip
        return float(sum((at(points, A, t) - there).square().sum() for t, there in zip(places, on, strict=True)))

    best, generator = off(points), torch.Generator().manual_seed(0)
    for _ in range(50):
        assert off(points + 0.05 * torch.randn(points.shape, generator=generator)) > best


def test_the_multiplier_grows_where_f1_is_above_its_bound_and_nowhere_else():
    rule = Along()
    rule.state["log"] = torch.zeros(PLACES, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    facts = type("Facts", (), {"loss": 1.5 * one, "epsilon": 1.0, "gradients": lambda self: (one, one, one)})()
    rule.t = 2.25 / (PLACES - 1)
    weight, lam = rule.weights(facts)
    assert (float(weight), float(lam)) == (pytest.approx(0.5), pytest.approx(0.5))  # λ was 1 before
    expected = torch.zeros(PLACES, dtype=torch.float64)
    expected[2], expected[3] = 0.5 * 0.75 * 0.5, 0.5 * 0.25 * 0.5
    torch.testing.assert_close(rule.state["log"], expected)
    facts.loss = 0.0 * one
    for _ in range(100):
        rule.weights(facts)
    assert float(rule.state["log"].min().exp()) == pytest.approx(LAM_MIN)


def looked(dial, epsilon):
    """Return what the dial finds for an ε, and how often it looked at f1."""
    parameter = nn.Parameter(A.clone())
    side, looks = ToySide("forget", parameter, half_square(B)), []

    def there(t):
        looks.append(t)
        return dial.at(t)

    theta = dial.at(replace(dial, at=there).find(Flat([parameter]), side, epsilon))
    return float(half_square(B)(theta)), len(looks)


@pytest.fixture(scope="module")
def curve():
    """A curve that was trained."""
    descent = solved(toy())
    return Solution(descent.problem, descent.points.data, {"table": descent.table, "origin": {}})


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.35, 0.62, 0.9, 0.999, 1.0])
def test_any_epsilon_is_found_on_the_curve_in_a_few_looks(curve, share):
    dial = of_curve(curve, A)
    least, most = dial.range
    epsilon = least + share * (most - least)
    f1, looks = looked(dial, epsilon)
    assert f1 == pytest.approx(epsilon, rel=LANDED)
    assert looks <= 4


def point(epsilon, aside=0.0):
    theta = front(epsilon) + aside * torch.tensor([1.0, 2.0, 0.0])
    f1, f2 = float(half_square(B)(theta)), float(half_square(A)(theta))
    check = {"step": 0, "f1": f1, "f2": f2, "gap": None, "residual": 0.0, "lam": 0.0}
    return Solution(Problem(f"{epsilon}", []), theta, {"checks": [check], "origin": {"epsilon": epsilon}})


def test_a_polyline_goes_through_what_nothing_dominates_to_the_original():
    solutions = [point(4.0), point(1.0), point(2.0), point(2.2, aside=0.5)]
    dial = through(solutions, A, ORIGINAL)
    assert [f1 for _, f1 in dial.knots] == pytest.approx([1.0, 2.0, 4.0, ORIGINAL])
    assert (dial.knots[0][0], dial.knots[-1][0]) == (0.0, 1.0)
    for epsilon in (1.0, 1.5, 2.0, 3.0, 4.0, 7.0, ORIGINAL):
        f1, looks = looked(dial, epsilon)
        assert f1 == pytest.approx(epsilon, rel=LANDED)
        assert looks <= 6
    assert torch.equal(dial.at(1.0), A)
    torch.testing.assert_close(dial.at(0.0), front(1.0))
    assert [dial.rate(epsilon) for epsilon in (0.5, 1.0, 1.5, 4.0)] == pytest.approx([1, 1, 0.5, 1])
    assert dial.rate((4 + ORIGINAL) / 2) == pytest.approx(0.25)
    assert dial.rate(ORIGINAL) == dial.rate(2 * ORIGINAL) == 0.0


@pytest.mark.parametrize("place", [0.0, 2.3, 5.0, 7.9, 8.0])
def test_steps_from_a_point_of_the_curve_are_as_long_as_those_that_led_there(curve, place):
    dial = of_curve(curve, A)
    t, share = place / (PLACES - 1), place - int(place)
    (_, before), (_, after) = dial.knots[int(place)], dial.knots[min(int(place) + 1, PLACES - 1)]
    moved = torch.func.jacrev(lambda points: at(points, A, t))(curve.theta)
    rate = dial.rate(before + share * (after - before))
    torch.testing.assert_close(moved @ moved.T, rate * torch.eye(len(A)), atol=1e-4, rtol=1e-3)


def test_an_epsilon_beyond_both_ends_has_the_nearest_end():
    dial = Dial("polyline", lambda t: torch.lerp(front(1.0), A, t), lambda t: 1.0, [(0.0, 1.0), (1.0, ORIGINAL)], "")
    assert looked(dial, 0.5) == (pytest.approx(1.0), 0)
    assert looked(dial, 2 * ORIGINAL) == (pytest.approx(ORIGINAL), 0)
