"""Steps in bf16: fp32 near the original weights and in all that is reported."""

from functools import partial

import pytest
import torch

from unlearnkit.control import dot
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.solver.descent import NEAR, Descent
from unlearnkit.solver.phases import boundaries
from unlearnkit.solver.workbench import build


@pytest.fixture
def benches(shared_tiny):
    return {
        precision: build(load(shared_tiny, discover(), [f"training.precision={precision}"]).recipe, shared_tiny.parent)
        for precision in ("fp32", "bf16")
    }


def at(bench, distance, *, guarded=True):
    """Return a boundary problem at so many times the original weights' norm from them, in a fixed direction."""
    recipe, close = bench.recipe, partial(bench.close, bench.flat, bench.origin) if guarded else None
    problem = boundaries(bench.losses, recipe.control, bench.origin, lambda problem, begin, ends: problem).highest
    descent = Descent(problem, bench.flat, bench.sides, recipe.training, 10, close=close)
    away = torch.randn(len(bench.origin), generator=torch.Generator().manual_seed(0))
    descent.begin(bench.origin + distance * bench.origin.norm() * away / away.norm())
    return descent


def retain_gradient(descent):
    side = descent.sides["retain"]
    rows = torch.arange(4)
    return descent.flat.backward(0, [lambda: side.value(rows, 1, 0, precise=descent.near)])[1].clone()


def cosine(a, b):
    return float(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt())


def test_near_the_original_weights_a_step_is_that_of_fp32(benches):
    distance = NEAR / 20
    exact, guarded, bare = (
        retain_gradient(at(benches[precision], distance, guarded=guarded))
        for precision, guarded in (("fp32", True), ("bf16", True), ("bf16", False))
    )
    assert torch.equal(guarded, exact)
    assert cosine(bare, exact) < 0.95  # what the guard is for


def test_far_from_them_it_is_taken_in_bf16(benches):
    exact, half = (retain_gradient(at(benches[precision], 10 * NEAR)) for precision in ("fp32", "bf16"))
    assert not torch.equal(half, exact)
    assert cosine(half, exact) > 0.99


def test_the_step_finds_out_when_it_has_left(benches):
    descent = at(benches["bf16"], NEAR / 20)
    assert descent.near
    while descent.near and descent.done < 10:
        descent.step()
    assert 0 < descent.done < 10
    other = at(benches["bf16"], NEAR / 20)
    other.load(*descent.state())
    assert not other.near


@pytest.mark.parametrize("distance", [NEAR / 20, 10 * NEAR])
def test_what_is_reported_is_computed_in_fp32(benches, distance):
    exact, half = (at(bench, distance).check() for bench in benches.values())
    assert half == exact
