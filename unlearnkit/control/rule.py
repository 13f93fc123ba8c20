r"""The constrained step as pure functions of tensors.

For an objective f and a constraint h (in phase 2, f = f2 and h = f1; the roles are exchanged for the lowest
completeness) the direction is the solution of a quadratic programme with one constraint,

$$g = \arg\min_g \tfrac12\lVert \nabla f - g\rVert^2 \quad\text{s.t.}\quad \nabla h^\top g \ge \psi(\theta),$$

which has the closed form (Gong, Liu and Liu, NeurIPS 2021; Feng et al., ICLR 2025)

$$\lambda = \max\!\left(0, \frac{\psi - \nabla f^\top\nabla h}{\lVert\nabla h\rVert^2}\right),\qquad
  g = \nabla f + \lambda\nabla h.$$
"""

import torch
from torch import Tensor

LAM_MAX = 1e4
"""Bound on λ: the analysis of the rule assumes one, and λ grows without limit where ‖∇h‖ → 0 short of ε."""

CHUNK = 1 << 20
"""Entries summed in one fp32 piece; pieces are added in fp64, because one long fp32 sum is biased by a percent."""


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of two flat vectors as a float64 scalar on their device."""
    return torch.stack([torch.dot(x, y) for x, y in zip(a.split(CHUNK), b.split(CHUNK), strict=True)]).double().sum()


def gradient_norm(squared_norm: Tensor, alpha: float, delta: float) -> Tensor:
    r"""Return phase 1's $\psi = \alpha\lVert\nabla h\rVert^\delta$."""
    return alpha * squared_norm ** (delta / 2)


def constraint_gap(loss: Tensor, epsilon: float, beta: float, delta: float) -> Tensor:
    r"""Return phase 2's $\psi = \beta\,\mathrm{sign}(h - \epsilon)\,\lvert h - \epsilon\rvert^\delta$."""
    gap = loss - epsilon
    return beta * gap.sign() * gap.abs() ** delta


def relative_gap(
    loss: Tensor, epsilon: float, squared_norm: Tensor, objective_norm: Tensor, beta: float, delta: float
) -> Tensor:
    r"""Return phase 2's ψ with a β that has no unit.

    $$\psi = \beta\lVert\nabla f\rVert\lVert\nabla h\rVert\,\mathrm{sign}(e)\lvert e\rvert^\delta,\qquad
      e = (h - \epsilon)/\lvert\epsilon\rvert,$$

    so that for δ = 1 $\lambda = (\lVert\nabla f\rVert / \lVert\nabla h\rVert)(\beta e - \cos(\nabla f, \nabla h))$.
    """
    gap = (loss - epsilon) / abs(epsilon)
    return beta * (squared_norm * objective_norm).sqrt() * gap.sign() * gap.abs() ** delta


def multiplier(psi: Tensor, squared_norm: Tensor, product: Tensor, objective_norm: Tensor) -> Tensor:
    r"""Return $\lambda = \max(0, (\psi - \nabla f^\top\nabla h) / \lVert\nabla h\rVert^2)$, at most `LAM_MAX`.

    λ is 0 where ∇h vanishes against ∇f to rounding: no step along it can then change h (Gong et al. 2021), as at the
    reference, where the retain loss has its minimum. All arguments are scalars: ψ, ‖∇h‖², ∇f·∇h and ‖∇f‖².
    """
    vanishes = squared_norm <= 1e-14 * objective_norm
    vanishes = vanishes | (squared_norm <= torch.finfo(torch.float32).tiny)
    lam = (psi - product) / torch.where(vanishes, 1.0, squared_norm)
    return torch.where(vanishes, 0.0, lam).clamp(0.0, LAM_MAX)


def direction(objective: Tensor, constraint: Tensor, lam: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return $g = w\nabla f + \lambda\nabla h$ for flat gradients, built in place of `objective`; w is 1 left out."""
    if weight is not None:
        objective.mul_(weight.to(objective.dtype))
    return objective.add_(constraint * lam.to(constraint.dtype))


def largest(vector: Tensor, part: float) -> Tensor:
    """Return which entries are the `part` of all with the largest absolute values, as booleans."""
    chosen = vector.abs().topk(int(part * len(vector))).indices
    return torch.zeros_like(vector, dtype=torch.bool).index_fill_(0, chosen, True)


def residual(constraint_norm: Tensor, product: Tensor, objective_norm: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return $\min_{\lambda\ge0}\lVert\nabla f + \lambda\nabla h\rVert$ and the λ that attains it.

    Arguments are ‖∇h‖², ∇f·∇h and ‖∇f‖². It is zero exactly at a stationary point of min f s.t. h ≤ ε.
    """
    vanishes = constraint_norm <= torch.finfo(torch.float32).tiny
    lam = torch.where(vanishes, 0.0, (-product / torch.where(vanishes, 1.0, constraint_norm)).clamp(min=0.0))
    squared = objective_norm + 2 * lam * product + lam**2 * constraint_norm
    return squared.clamp(min=0.0).sqrt(), lam
