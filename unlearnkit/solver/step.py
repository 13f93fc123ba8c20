r"""The update rule: one function for each way to the direction $g = w\nabla f + \lambda\nabla h$ of a batch.

f is the objective's loss and h the constraint's. The optimiser gets g as its gradient; what it makes of it is its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from unlearnkit.control import Facts, Mixture, direction, dot
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.shares import Sum, mixed

DIFFERENCE = 0.01
"""Length of the step of the central differences through which a look-ahead is differentiated."""


@dataclass(frozen=True)
class Taken:
    """What a batch says: both losses, a loss that no step is taken on as 0, λ, and the direction."""

    constraint: Tensor
    objective: Tensor
    lam: Tensor
    gradient: Tensor


def alone(flat: Flat, loss: Sum, *, constraint: bool) -> Taken:
    """Take the gradient of the one loss there is, the constraint's or the objective's."""
    value, gradient = loss.gradient(flat, 0)
    zero, one = torch.zeros_like(value), torch.ones_like(value)
    return Taken(value, zero, one, gradient) if constraint else Taken(zero, value, zero, gradient)


def joint(flat: Flat, objective: Sum, constraint: Sum, rule: Mixture, problem: Problem) -> Taken:
    """Take one backward pass through w f + λ h, for a rule that asks for no gradients."""
    found: list[Tensor] = []

    def weigh(h: Tensor, f: Tensor) -> tuple[Tensor | None, Tensor]:
        weight, lam = rule.weights(Facts(h, problem.epsilon, problem.psi, objective_loss=f))
        found.append(lam)
        return weight, lam

    h, f, gradient = mixed(constraint, objective, flat, weigh)
    return Taken(h, f, found[0], gradient)


def apart(flat: Flat, objective: Sum, constraint: Sum, rule: Mixture, problem: Problem) -> Taken:
    """Take both gradients, one after the other, and mix them."""
    h, across = constraint.gradient(flat, 1)
    f, gradient = objective.gradient(flat, 0)
    return _mixed(h, across, f, gradient, rule, problem)


def ahead(flat: Flat, objective: Sum, constraint: Sum, rule: Mixture, problem: Problem, rate: float) -> Taken:
    r"""Take h after a step on f: $h(\theta - \alpha\nabla f(\theta))$, with its gradient through that step.

    $$\nabla_\theta h(\theta - \alpha\nabla f) = v - \alpha\nabla^2 f(\theta)\,v,\qquad
      v = \nabla h(\theta - \alpha\nabla f),$$

    with the product by central differences of ∇f at θ ± rv, r = 0.01/‖v‖ (Liu, Simonyan and Yang, ICLR 2019).
    """
    theta = flat.theta.detach().clone()
    f, found = objective.gradient(flat, 0)
    gradient = found.clone()
    flat.set(theta - rate * gradient)
    h, across = constraint.gradient(flat, 1)
    reach = (DIFFERENCE / dot(across, across).sqrt().clamp(min=1e-12)).to(theta.dtype)
    curved = torch.zeros_like(theta)
    for sign in (1, -1):
        flat.set(theta + sign * reach * across)
        curved.add_(objective.gradient(flat, 0)[1], alpha=sign)
    flat.set(theta)
    return _mixed(h, across.sub_(curved * (rate / (2 * reach))), f, gradient, rule, problem)


def _mixed(h: Tensor, across: Tensor, f: Tensor, gradient: Tensor, rule: Mixture, problem: Problem) -> Taken:
    facts = Facts(
        h.double(), problem.epsilon, problem.psi,
        squared_norm=dot(across, across), product=dot(gradient, across), objective_norm=dot(gradient, gradient),
        objective_loss=f.double(),
    )  # fmt: skip
    weight, lam = rule.weights(facts)
    return Taken(h, f, lam, direction(gradient, across, lam, weight))


def update(
    trained: Parameter, optimizer: Optimizer, taken: Taken, rate: float, salient: Tensor | None = None
) -> Tensor:
    """Step `trained` along the direction at a learning rate, and return h, f, λ and ‖g‖² on the device, [4].

    Where `salient` is False an entry keeps its bits, weight decay or not. Where one of what is returned is not finite
    nothing is changed: the fused optimisers skip an update on the device where `found_inf` is set, so that nobody waits
    for it.
    """
    gradient = taken.gradient if salient is None else taken.gradient.mul_(salient)
    before = None if salient is None else trained.detach().clone()
    said = torch.stack(
        [taken.constraint.double(), taken.objective.double(), taken.lam.double(), dot(gradient, gradient)]
    )
    optimizer.found_inf = (~said.isfinite().all()).float()  # type: ignore[attr-defined]
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    for group in optimizer.param_groups:
        group["lr"] = rate
    trained.grad = gradient
    optimizer.step()
    if salient is not None and before is not None:
        trained.data.copy_(torch.where(salient, trained.data, before))
    return said
