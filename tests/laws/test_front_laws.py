"""Hypervolume and IGD against closed forms, an independent count, and the laws that make them measures of a set."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnkit.fronts import dominates, front, hypervolume, inverted_generational_distance

COORDINATE = st.integers(0, 12).map(float)
POINTS = st.lists(st.tuples(COORDINATE, COORDINATE), max_size=12)
CORNER = (10.0, 10.0)


def cells(points, corner=CORNER):
    """Count the unit squares below the corner whose lower left corner some point dominates or is."""
    grid = [(x, y) for x in range(int(corner[0])) for y in range(int(corner[1]))]
    return sum(any(p[0] <= x and p[1] <= y for p in points) for x, y in grid)


@given(POINTS)
def test_hypervolume_is_the_number_of_dominated_unit_squares(points):
    assert hypervolume(points, CORNER) == cells(points)


@given(POINTS, st.tuples(COORDINATE, COORDINATE))
def test_a_further_point_never_lowers_the_hypervolume_and_a_dominated_one_leaves_it(points, new):
    before, after = hypervolume(points, CORNER), hypervolume([*points, new], CORNER)
    assert after >= before
    if any(dominates(point, new) or point == new for point in points):
        assert after == before


@given(POINTS)
def test_the_front_is_what_no_other_point_dominates(points):
    expected = {point for point in points if not any(dominates(other, point) for other in points)}
    assert front(points) == sorted(expected)


@given(POINTS.filter(bool), st.floats(0.1, 10), st.floats(0.1, 10))
def test_hypervolume_scales_with_its_units(points, a, b):
    scaled = hypervolume([(a * x, b * y) for x, y in points], (a * CORNER[0], b * CORNER[1]))
    assert scaled == pytest.approx(a * b * hypervolume(points, CORNER), rel=1e-9, abs=1e-9)


def test_hypervolume_of_a_line_and_of_a_quarter_circle_come_to_their_areas():
    steps = np.linspace(0, 1, 20001)
    assert hypervolume([(t, 1 - t) for t in steps], (1, 1)) == pytest.approx(1 / 2, abs=1e-4)
    arc = [(1 - math.cos(t * math.pi / 2), 1 - math.sin(t * math.pi / 2)) for t in steps]
    assert hypervolume(arc, (1, 1)) == pytest.approx(math.pi / 4, abs=1e-3)


def test_hypervolume_agrees_with_moocore():
    moocore = pytest.importorskip("moocore", reason="moocore, the independent implementation, is not installed")
    draw = np.random.default_rng(0)
    for count in (1, 5, 60):
        points = draw.random((count, 2)) * 1.2
        expected = moocore.hypervolume(points, ref=np.array([1.0, 1.0]))
        assert hypervolume(map(tuple, points.tolist()), (1.0, 1.0)) == pytest.approx(expected, rel=1e-12, abs=1e-15)
        target = draw.random((7, 2))
        distance = inverted_generational_distance(map(tuple, points.tolist()), map(tuple, target.tolist()))
        assert distance == pytest.approx(moocore.igd(points, ref=target), rel=1e-12)


def test_igd_in_closed_form():
    line = [(t, 1 - t) for t in (0.0, 0.5, 1.0)]
    assert inverted_generational_distance(line, line) == 0
    moved = [(x + 0.3, y + 0.4) for x, y in line]
    assert inverted_generational_distance(moved, [line[1]]) == pytest.approx(min(math.dist(p, line[1]) for p in moved))
    assert inverted_generational_distance([(0.0, 0.0)], [(3.0, 4.0), (0.0, 1.0)]) == 3.0


@pytest.mark.parametrize("bad", [(math.nan, 0.0), (0.0, math.inf)])
def test_what_is_not_finite_is_refused(bad):
    for measure in (lambda: hypervolume([bad], CORNER), lambda: front([bad])):
        with pytest.raises(ValueError, match="is not finite"):
            measure()
    with pytest.raises(ValueError, match="at least one point"):
        inverted_generational_distance([], [(0.0, 0.0)])


def test_the_share_of_a_run_is_the_area_below_the_original_and_the_highest_boundary():
    from unlearnkit.evaluation.results import _front

    rows = [
        {"id": "boundary-lowest", "phase": 1, "f1": 4.0, "f2": 0.0},
        {"id": "epsilon-0", "phase": 2, "f1": 2.0, "f2": 1.0},
        {"id": "boundary-highest", "phase": 1, "f1": 1.0, "f2": 2.0},
        {"id": "composite", "phase": None, "f1": 0.0, "f2": 0.0},
    ]
    assert _front(4.0, rows) == {"reference": [4.0, 2.0], "hypervolume": 2.0, "share": 0.25}
    assert _front(4.0, [row | {"f1": math.nan} for row in rows]) is None
    assert _front(4.0, rows[:2]) is None
