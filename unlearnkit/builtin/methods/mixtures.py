"""The code of the methods' rules that mix the two gradients, f the retain loss and h the forget loss.

Some are a library's own: the weightings of TorchJD and the multiplier of Cooper.
"""

import torch
from torch import Tensor

from unlearnkit.control import Facts, Mixture
from unlearnkit.errors import Exit, UserError

TINY = 1e-30
"""Squared norm below which a gradient counts as none."""

PARALLEL = 1e-12
"""sin² φ below which two gradients count as parallel."""

OPPOSED = 1e-6
"""1 + cos φ below which two gradients count as opposed."""

ALIGNED = 1e-6
"""sin² φ below which the part of a gradient across the other is rounding."""

GUARD = 1e-6
"""What CUP's released code adds to lengths that it divides by."""

FALLBACK = 0.1
"""Weight of the forget gradient where no bargain is struck."""


class Pivot(Mixture):
    r"""CUP's direction, turned by γθ from the retain gradient's part across h towards the forget gradient.

    $$g = \tfrac12\lVert\nabla f + \nabla h\rVert\left(\sin(\gamma\theta)\,\frac{\nabla h}{\lVert\nabla h\rVert}
      + \cos(\gamma\theta)\,\frac{f_\perp}{\lVert f_\perp\rVert}\right),\qquad
      f_\perp = \nabla f - \frac{\nabla f^\top\nabla h}{\lVert\nabla h\rVert^2}\nabla h,$$

    with $h_\perp$ alike and θ the angle between $f_\perp$ and $h_\perp$. The released code's 1e-6 is added to
    ‖∇h‖, ‖∇f‖², ‖f⊥‖ and ‖h⊥‖. Where the gradients are parallel or one vanishes, θ is π/2 as there.
    """

    def __init__(self, intensity: float) -> None:
        super().__init__()
        self.intensity = intensity

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        norm, product, objective = facts.gradients()
        length = norm.sqrt() + GUARD
        a, b = product / length**2, product / (objective + GUARD)
        across = (objective - 2 * a * product + a**2 * norm).clamp(min=0).sqrt() + GUARD
        other = (norm - 2 * b * product + b**2 * objective).clamp(min=0).sqrt() + GUARD
        cosine = (product - a * norm - b * objective + a * b * product) / (across * other)
        parallel = (product**2 >= (1 - ALIGNED) * objective * norm) & (objective * norm > 0)
        turn = self.intensity * torch.where(parallel, 0.0, cosine.clamp(-1, 1)).acos()
        total = (objective + 2 * product + norm).clamp(min=0).sqrt() / 2
        weight = torch.where(parallel, 0.0, total * turn.cos() / across)
        return weight, total * turn.sin() / length - weight * a


class Bargain(Mixture):
    r"""$g = (u_f + u_h)/\sqrt{1 + \cos\varphi}$ with the unit gradients u and the angle φ between them.

    It solves $G^\top G\alpha = 1/\alpha$, the Nash bargain between the two. Where they are opposed or one vanishes
    there is none, and g is $\nabla f + 0.1\nabla h$, as in the released code.
    """

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        norm, product, objective = facts.gradients()
        lengths = (objective * norm).sqrt()
        room = 1 + product / lengths.clamp(min=TINY)
        agreed = (lengths > TINY) & (room > OPPOSED)
        weight, lam = (1 / (x.clamp(min=TINY) * room.clamp(min=OPPOSED)).sqrt() for x in (objective, norm))
        return torch.where(agreed, weight, 1.0), torch.where(agreed, lam, FALLBACK)


class Quota(Mixture):
    r"""The largest fall of f in the trust region $\lVert g\rVert = \lVert\nabla f\rVert$ where h falls by a quota.

    $$g = \nabla f \text{ if } \nabla f^\top\nabla h \ge q,\text{ else }\;
      g = \frac{q}{\lVert\nabla h\rVert^2}\nabla h + \sqrt{\lVert\nabla f\rVert^2 - q^2/\lVert\nabla h\rVert^2}\,
      \frac{n}{\lVert n\rVert},\qquad n = \nabla f - \frac{\nabla f^\top\nabla h}{\lVert\nabla h\rVert^2}\nabla h,$$

    and $q\nabla h/\lVert\nabla h\rVert^2$, which leaves the region, where no step inside it meets the quota.
    """

    def __init__(self, quota: float, stops: bool) -> None:
        super().__init__()
        self.quota, self.stops = quota, stops

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        """Return the two weights; both are 0 from the step on from which the rule is over."""
        norm, product, objective = facts.gradients()
        squared = norm.clamp(min=TINY)
        across = (objective - product**2 / squared).clamp(min=0)
        room = objective - self.quota**2 / squared
        inside = (room > 0) & (across > PARALLEL * objective)
        along = torch.where(inside, (room.clamp(min=0) / across.clamp(min=TINY)).sqrt(), 0.0)
        direct = (product >= self.quota) | (norm <= TINY)
        weight = torch.where(direct, 1.0, along)
        lam = torch.where(direct, 0.0, (self.quota - along * product) / squared)
        if self.stops:
            harm = self.quota > (across * norm).sqrt()
            self.state["over"] = self.state.get("over", torch.zeros_like(harm)) | harm
            weight, lam = (torch.where(self.state["over"], 0.0, x) for x in (weight, lam))
        return weight, lam

    def over(self) -> bool:
        return "over" in self.state and bool(self.state["over"])


class Share(Mixture):
    r"""$g = \nabla f + s\,(\lVert\nabla f\rVert/\lVert\nabla h\rVert)\,\nabla h$."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        norm, _, objective = facts.gradients()
        return None, self.share * (objective / norm.clamp(min=TINY)).sqrt()


class Watched(Mixture):
    r"""$g = (\lambda\nabla f + \nabla h)/(1 + \lambda)$, λ from how f changes in a step, in one backward pass.

    After each step λ goes up by a step of Adam along f(θ⁺) − f(θ) − t for a tolerance t, and not below 0.
    """

    joint = watches = True

    def __init__(self, tolerance: float, rate: float) -> None:
        super().__init__()
        self.tolerance, self.rate = tolerance, rate

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        lam = self.state.get("lam", torch.zeros_like(facts.loss))
        return lam / (1 + lam), 1 / (1 + lam)

    def watch(self, before: Tensor, after: Tensor) -> None:
        excess = after - before - self.tolerance
        first, second = self.average("excess", excess, 0.9), self.average("square", excess**2, 0.999)
        lam = self.state.get("lam", torch.zeros_like(excess))
        self.state["lam"] = (lam + self.rate * first / (second.sqrt() + 1e-8)).clamp(min=0)


class Weighting(Mixture):
    """w and λ are what a weighting of TorchJD makes of the Gramian of α∇f and ∇h."""

    def __init__(self, name: str, alpha: float = 1.0, **settings: float) -> None:
        """Take the name of a weighting, such as MGDA, and α; raise `UserError` where the library is missing."""
        super().__init__()
        self.alpha = alpha
        try:
            from torchjd import aggregation

            self.weighting = getattr(aggregation, f"{name}Weighting")(**settings)
        except ImportError as error:
            advice = f"needs `pip install 'unlearnkit[torchjd]'`: {error}"
            raise UserError(f"compare: {name.lower()} {advice}", Exit.PLUGIN) from None

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        norm, product, objective = facts.gradients()
        across = self.alpha * product
        gramian = torch.stack([torch.stack([self.alpha**2 * objective, across]), torch.stack([across, norm])])
        weight, lam = self.weighting(gramian)
        return self.alpha * weight, lam


class PrimalDual(Mixture):
    """λ by gradient ascent on the Lagrangian, with the multiplier and the formulation of Cooper."""

    joint = True

    def __init__(self, epsilon: float, rate: float) -> None:
        """Take the bound on h and the rate of the ascent; raise `UserError` where the library is missing."""
        super().__init__()
        try:
            from cooper import Constraint, ConstraintState, ConstraintType
            from cooper.multipliers import DenseMultiplier
        except ImportError as error:
            advice = f"needs `pip install 'unlearnkit[cooper]'`: {error}"
            raise UserError(f"compare: lagrangian {advice}", Exit.PLUGIN) from None
        self.epsilon, self.observed = epsilon, ConstraintState
        self.multiplier = DenseMultiplier(num_constraints=1, dtype=torch.float64)
        self.constraint = Constraint(ConstraintType.INEQUALITY, multiplier=self.multiplier)
        self.ascent = torch.optim.SGD(self.multiplier.parameters(), lr=rate, maximize=True)

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        """Return 1 and λ, and take a step of ascent on λ (h − ε)/ε."""
        self.multiplier.to(facts.loss.device)
        self.multiplier.weight.data.copy_(self.state.get("lam", torch.zeros_like(self.multiplier.weight)))
        lam = self.multiplier().detach()[0].to(facts.loss.dtype)
        violation = ((facts.loss.detach() - self.epsilon) / self.epsilon).double().reshape(1)
        self.ascent.zero_grad()
        dual = self.constraint.compute_contribution_to_lagrangian(self.observed(violation), "dual")
        assert dual is not None
        dual.lagrangian_contribution.backward()
        self.ascent.step()
        self.multiplier.post_step_()
        self.state["lam"] = self.multiplier.weight.detach().clone()
        return None, lam
