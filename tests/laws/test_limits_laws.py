"""Limits: a figure keeps a bound, breaks it, or tells nothing of it; what is said never hides a broken one."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnkit.recipe.recipe import Limit
from unlearnkit.report.limits import held, said

FINITE = st.floats(-1e6, 1e6)


def results(value: Any) -> dict[str, Any]:
    """Return results of one solution with one audit that found a value."""
    figures = {"x": {"name": "X", "unit": "dB"}}
    entry = {"id": "memory", "figures": figures, "original": {"x": 1}, "solutions": {"a": {"x": value}}}
    return {
        "original": {"f1": 1.0, "f2": 0.0}, "solutions": [{"id": "a", "label": "a", "f1": 0.5, "f2": 0.25}],
        "audits": [entry], "metrics": {},
    }  # fmt: skip


def kept(value: Any, at_least: float | None = None, at_most: float | None = None) -> bool | None:
    """Tell whether a value that the audit found keeps a limit."""
    (limit,) = held([{"figure": "memory/x", "at_least": at_least, "at_most": at_most}], results(value))
    return limit["solutions"]["a"]["kept"]


@settings(max_examples=60, deadline=None)
@given(FINITE, FINITE)
def test_a_number_keeps_a_bound_that_it_reaches(value, bound):
    assert kept(value, at_least=bound) is (value >= bound)
    assert kept(value, at_most=bound) is (value <= bound)
    assert kept(value, bound, bound) is (value == bound)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_a_count_that_ended_tells_what_holds_of_every_larger_one(most, bound):
    """More than `most` was counted: whatever the count is, `True` and `False` have to hold of it."""
    larger = [most + more for more in (1, 2, 500)]
    for sides in ((bound, None), (None, bound), (bound, bound)):
        told, truth = kept({"over": most}, *sides), {kept(count, *sides) for count in larger}
        assert told in (None, *truth)
        assert told is None or truth == {told}
    assert kept({"over": bound}, at_least=bound)
    assert kept({"over": bound}, at_most=bound) is False


@pytest.mark.parametrize("value", [None, {"failed": "too few images"}])
def test_what_has_no_figure_is_not_told(value):
    limits = held([{"figure": "memory/x", "at_least": 0.0, "at_most": None}], results(value))
    assert limits[0]["solutions"]["a"]["kept"] is None
    assert said(limits, "a").startswith("0 of 1 limits of the recipe kept; not to be told: memory X ≥ 0 dB (")


def test_what_is_said_names_every_broken_limit_with_its_figure():
    asked = [
        {"figure": "f1", "at_least": None, "at_most": 0.7}, {"figure": "f2", "at_least": None, "at_most": 0.1},
        {"figure": "memory/x", "at_least": 3.0, "at_most": 4.0},
    ]  # fmt: skip
    limits = held(asked, results(2))
    assert said(limits, "a") == (
        "1 of 3 limits of the recipe kept; BROKEN: f2 ≤ 0.1 (found 0.2500); memory X ≥ 3 and ≤ 4 dB (found 2)."
    )
    assert said(limits, "original").startswith("1 of 3 limits of the recipe kept; BROKEN: f1 ≤ 0.7 (found 1.000);")
    assert "nothing is judged" in said([], "a")


@pytest.mark.parametrize("bounds", [{}, {"at_least": 2, "at_most": 1}, {"at_least": math.nan}])
def test_bounds_that_say_nothing_are_refused(bounds):
    with pytest.raises(ValueError, match=r"at_least|finite"):
        Limit(figure="f1", **bounds)
