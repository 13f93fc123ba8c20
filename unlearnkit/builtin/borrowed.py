"""Mixtures whose rule is a library's own: the weightings of TorchJD and the multiplier of Cooper."""

import torch
from torch import Tensor

from unlearnkit.control import Facts, Mixture
from unlearnkit.errors import Exit, UserError


class Weighting(Mixture):
    """w and λ are what a weighting of TorchJD makes of the Gramian of ∇f and ∇h."""

    def __init__(self, name: str, **settings: float) -> None:
        """Take the name of a weighting, such as MGDA; raise `UserError` where the library is missing."""
        super().__init__()
        try:
            from torchjd import aggregation

            self.weighting = getattr(aggregation, f"{name}Weighting")(**settings)
        except ImportError as error:
            raise UserError(
                f"compare: {name.lower()} needs `pip install 'unlearnkit[torchjd]'`: {error}", Exit.PLUGIN
            ) from None

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        """Return the two weights."""
        norm, product, objective = facts.gradients()
        gramian = torch.stack([torch.stack([objective, product]), torch.stack([product, norm])])
        weight, lam = self.weighting(gramian)
        return weight, lam


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
            raise UserError(
                f"compare: lagrangian needs `pip install 'unlearnkit[cooper]'`: {error}", Exit.PLUGIN
            ) from None
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
