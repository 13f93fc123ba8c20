"""Rules that mix the two gradients of a step, with the state that they carry from step to step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnkit.contracts import Psi
from unlearnkit.control.rule import multiplier


@dataclass(frozen=True)
class Facts:
    """What a rule for λ may look at in one step; all tensors are scalars on the device."""

    loss: Tensor
    """The constraint's loss h on the batch."""
    epsilon: float | None
    """Its bound, or None in phase 1, where the bound is inf h."""
    psi: Psi
    """The control function of the phase."""
    squared_norm: Tensor | None = None
    """‖∇h‖², absent where the rule asks for no gradients."""
    product: Tensor | None = None
    """∇f·∇h."""
    objective_norm: Tensor | None = None
    """‖∇f‖²."""
    objective_loss: Tensor | None = None
    """The objective's loss f on the batch."""

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return ‖∇h‖², ∇f·∇h and ‖∇f‖² for a rule that is not joint."""
        assert self.squared_norm is not None
        assert self.product is not None
        assert self.objective_norm is not None
        return self.squared_norm, self.product, self.objective_norm


class Mixture(ABC):
    """A rule that mixes the two gradients of a step, together with the state it carries from step to step."""

    joint: bool = False
    """True where the weights depend on the losses alone, so that one backward pass through the mixture does."""
    watches: bool = False
    """True where `watch` is told after each step what the objective's loss has become on its batch."""
    warms: bool = False
    """True where `warm` takes an estimate of λ, which costs a look at both whole sets."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    @abstractmethod
    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        """Return w (None is 1) and λ of w∇f + λ∇h for this step and advance the state, without a host wait."""

    def over(self) -> bool:
        """Tell from the state whether no further step is worth its harm; the stage then ends. By default never."""
        return False

    def watch(self, before: Tensor, after: Tensor) -> None:  # noqa: B027
        """Advance the state by the objective's loss f on the batch before and after the step."""

    def warm(self, lam: Tensor) -> None:  # noqa: B027
        """Take an estimate of λ at the start point."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved state."""
        self.state = dict(state)

    def average(self, name: str, value: Tensor, decay: float) -> Tensor:
        """Return the bias-corrected exponential average of `value`, kept in the state under `name`."""
        total = self.state.get(name, torch.zeros_like(value)) * decay + (1 - decay) * value
        weight = self.state.get(name + "_weight", torch.zeros_like(value)) * decay + (1 - decay)
        self.state[name], self.state[name + "_weight"] = total, weight
        return total / weight


class Multiplier(Mixture):
    """A rule for λ of ∇f + λ∇h."""

    @abstractmethod
    def lam(self, facts: Facts) -> Tensor:
        """Return λ ≥ 0 for this step and advance the state, without a host synchronisation."""

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        """Return 1 and λ."""
        return None, self.lam(facts)


class Constant(Mixture):
    """w∇f + λ∇h with constant weights."""

    joint = True

    def __init__(self, weight: float, lam: float) -> None:
        super().__init__()
        self.weight, self.lam = weight, lam

    def weights(self, facts: Facts) -> tuple[Tensor | None, Tensor]:
        """Return the constants."""
        weight = None if self.weight == 1 else torch.full_like(facts.loss, self.weight)
        return weight, torch.full_like(facts.loss, self.lam)


class ClosedForm(Multiplier):
    r"""$\lambda = \max(0, (\psi - \nabla f^\top\nabla h)/\lVert\nabla h\rVert^2)$."""

    def lam(self, facts: Facts) -> Tensor:
        """Return λ of the batch."""
        norm, product, objective = facts.gradients()
        return multiplier(facts.psi(facts.loss, facts.epsilon, norm, objective), norm, product, objective)
