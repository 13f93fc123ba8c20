"""The code of the built-in rules for λ."""

import torch
from torch import Tensor

from unlearnkit.control import LAM_MAX, Facts, Multiplier, multiplier

TRIM_MAX = 0.2
"""Bound on the trim as a part of ε, so that an inactive constraint does not wind it up."""


class Averaged(Multiplier):
    """The closed form on averages, at a trimmed ε."""

    def __init__(self, decay: float, trim: float) -> None:
        super().__init__()
        self.decay, self.trim = decay, trim

    def lam(self, facts: Facts) -> Tensor:
        loss = self.average("loss", facts.loss, self.decay)
        norm, product, objective = (
            self.average(name, value, self.decay)
            for name, value in zip(("norm", "product", "objective"), facts.gradients(), strict=True)
        )
        if facts.epsilon is not None:
            most = TRIM_MAX * abs(facts.epsilon)
            tau = self.state.get("trim", torch.zeros_like(loss)) + self.trim * (loss - facts.epsilon)
            # h̄ + τ against ε is h̄ against ε − τ, and leaves the bound a plain number.
            self.state["trim"] = tau.clamp(-most, most)
            loss = loss + self.state["trim"]
        return multiplier(facts.psi(loss, facts.epsilon, norm, objective), norm, product, objective)


class ProportionalIntegral(Multiplier):
    r"""$\lambda = \max(0, p e + \iota)$ with $e = (\bar h - \epsilon)/\epsilon$ and its integral $\iota$."""

    joint = warms = True

    def __init__(self, proportional: float, integral: float, loss_average: float) -> None:
        super().__init__()
        self.proportional, self.integral, self.loss_average = proportional, integral, loss_average

    def lam(self, facts: Facts) -> Tensor:
        assert facts.epsilon is not None
        error = (self.average("loss", facts.loss, self.loss_average) - facts.epsilon) / abs(facts.epsilon)
        integral = self.state.get("integral", torch.zeros_like(error)) + self.integral * error
        integral = self.state["integral"] = integral.clamp(0, LAM_MAX)
        return (self.proportional * error + integral).clamp(0, LAM_MAX)

    def warm(self, lam: Tensor) -> None:
        self.state["integral"] = lam
