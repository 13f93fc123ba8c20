"""The code of the methods' rules that mix the two gradients, f the retain loss and h the forget loss."""

import torch
from torch import Tensor

from unlearnkit.control import Facts, Mixture


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
