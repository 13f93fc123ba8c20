"""Laws of the closed form: λ, the direction and ψ."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from unlearnkit.control import (
    LAM_MAX,
    constraint_gap,
    direction,
    dot,
    gradient_norm,
    largest,
    multiplier,
    relative_gap,
    residual,
)

SAMPLES = [torch.Generator().manual_seed(seed) for seed in range(40)]


def draw(generator: torch.Generator, size: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    f, h = torch.randn(2, size, generator=generator, dtype=torch.float64)
    return f, h, 3 * torch.randn((), generator=generator, dtype=torch.float64)


def solve(f: torch.Tensor, h: torch.Tensor, psi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    lam = multiplier(psi, dot(h, h), dot(f, h), dot(f, f))
    return lam, direction(f.clone(), h, lam)


@pytest.mark.parametrize("generator", SAMPLES)
def test_direction_meets_psi_and_lam_vanishes_when_inactive(generator):
    f, h, psi = draw(generator)
    lam, g = solve(f, h, psi)
    assert dot(h, g) >= psi - 1e-9
    if dot(f, h) >= psi:
        assert lam == 0
        assert torch.equal(g, f)
    else:
        assert lam > 0
        torch.testing.assert_close(dot(h, g), psi)


@pytest.mark.parametrize("generator", SAMPLES[:15])
def test_direction_equals_a_quadratic_programme_solver(generator):
    f, h, psi = (value.numpy() for value in draw(generator))
    found = minimize(
        lambda g: 0.5 * np.sum((f - g) ** 2),
        f,
        jac=lambda g: g - f,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda g: h @ g - psi, "jac": lambda g: h},
        options={"ftol": 1e-14, "maxiter": 200},
    )
    _, g = solve(*(torch.from_numpy(np.asarray(value)) for value in (f, h, psi)))
    np.testing.assert_allclose(g.numpy(), found.x, atol=1e-6)


def test_no_step_along_a_vanishing_constraint_gradient():
    f, zero = torch.ones(4), torch.zeros(4)
    lam, g = solve(f, zero, torch.tensor(5.0))
    assert lam == 0
    assert torch.equal(g, f)
    tiny = torch.full((4,), 1e-9)
    assert solve(f, tiny, torch.tensor(5.0))[0] == 0


def test_lam_is_bounded_as_the_constraint_gradient_vanishes():
    f = torch.ones(4)
    lams = [solve(f, torch.full((4,), size), torch.tensor(1.0))[0] for size in (1e-1, 1e-3, 1e-5)]
    assert lams == sorted(lams)
    assert max(lams) <= LAM_MAX


def test_equal_losses_scaled_alike_keep_lam_in_phase_1():
    f, h, _ = draw(torch.Generator().manual_seed(1))

    def lam(scale: float) -> torch.Tensor:
        psi = gradient_norm(dot(scale * h, scale * h), 5.0, 2.0)
        return solve(scale * f, scale * h, psi)[0]

    torch.testing.assert_close(lam(1.0), lam(7.0))


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_phase_2_psi_has_the_sign_of_the_gap(delta):
    above = constraint_gap(torch.tensor(1.5), 1.0, 2.0, delta)
    below = constraint_gap(torch.tensor(0.5), 1.0, 2.0, delta)
    assert above > 0 > below
    torch.testing.assert_close(above, -below)
    assert constraint_gap(torch.tensor(1.0), 1.0, 2.0, delta) == 0


def test_relative_gap_makes_lam_free_of_units():
    f, h, _ = draw(torch.Generator().manual_seed(2))

    def lam(scale: float) -> torch.Tensor:
        loss, epsilon = torch.tensor(1.2 * scale, dtype=torch.float64), 1.0 * scale
        psi = relative_gap(loss, epsilon, dot(scale * h, scale * h), dot(f, f), 5.0, 1.0)
        return solve(f, scale * h, psi)[0] * scale

    torch.testing.assert_close(lam(1.0), lam(100.0))
    cosine = dot(f, h) / (f.norm() * h.norm())
    torch.testing.assert_close(lam(1.0), (f.norm() / h.norm() * (5.0 * 0.2 - cosine)).clamp(min=0))


def test_phase_1_psi_is_a_power_of_the_norm():
    h = torch.tensor([3.0, 4.0], dtype=torch.float64)
    for delta in (1.0, 2.0, 3.0):
        torch.testing.assert_close(gradient_norm(dot(h, h), 2.0, delta), torch.tensor(2.0 * 5.0**delta).double())


@pytest.mark.parametrize("generator", SAMPLES[:15])
def test_residual_is_the_least_over_nonnegative_lam(generator):
    f, h, _ = draw(generator)
    least, lam = residual(dot(h, h), dot(f, h), dot(f, f))
    grid = torch.linspace(0, 5, 5001, dtype=torch.float64)
    brute = (f[None] + grid[:, None] * h[None]).norm(dim=1).min()
    assert lam >= 0
    torch.testing.assert_close(least, (f + lam * h).norm())
    assert least <= brute + 1e-12
    assert brute - least < 1e-3 * h.norm()


def test_dot_keeps_precision_where_one_long_sum_does_not():
    generator = torch.Generator().manual_seed(0)
    vector = torch.rand(30_000_000, generator=generator)
    exact = sum(piece.double().square().sum() for piece in vector.split(1 << 22))
    assert abs(dot(vector, vector) / exact - 1) < 1e-5


@pytest.mark.parametrize("part", [0.1, 0.5, 0.55, 1.0])
def test_the_largest_part_is_that_of_the_released_ranking(part):
    """SalUn's generate_mask.py ranks all entries by their absolute values; those below so many ranks are in."""
    for generator in SAMPLES[:10]:
        vector = torch.randn(101, generator=generator)
        ranks = (-vector.abs()).argsort().argsort()
        assert torch.equal(largest(vector, part), ranks < int(101 * part))
