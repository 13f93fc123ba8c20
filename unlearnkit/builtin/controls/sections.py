"""Control functions ψ(θ) and rules for the multiplier λ."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unlearnkit import contracts, control, hookimpl
from unlearnkit.builtin import controls
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.sections import MultiplierSection, PsiSection


class GradientNorm(PsiSection):
    """ψ = α‖∇h‖^δ, the published control function of phase 1 (Feng et al. 2025)."""

    kind: Literal["gradient-norm"]
    """A power of the constraint's gradient norm."""
    alpha: float = Field(5.0, gt=0)
    """α."""
    delta: float = Field(2.0, gt=0)
    """δ; the convergence rate is best at 2."""

    def build(self) -> contracts.Psi:
        return lambda loss, epsilon, norm, objective: control.gradient_norm(norm, self.alpha, self.delta)


class ConstraintGap(PsiSection):
    """ψ = β sign(h − ε)|h − ε|^δ, the published control function of phase 2 (Feng et al. 2025)."""

    kind: Literal["constraint-gap"]
    """A power of the distance to ε."""
    beta: float = Field(5.0, gt=0)
    """β; it carries the unit of ‖∇h‖²/h."""
    delta: float = Field(1.0, gt=0)
    """δ; at 1 the violation decays exponentially."""

    def build(self) -> contracts.Psi:
        return lambda loss, epsilon, norm, objective: control.constraint_gap(
            loss, _bound(epsilon, self.kind), self.beta, self.delta
        )


class RelativeGap(PsiSection):
    """ψ = β‖∇f‖‖∇h‖ sign(e)|e|^δ with e = (h − ε)/ε: the published function with a β that has no unit."""

    kind: Literal["relative-gap"]
    """A power of the distance to ε, as a part of ε and of the gradients' norms."""
    beta: float = Field(5.0, gt=0)
    """β; at 5 a gap of a fifth of ε outweighs any conflict of the gradients."""
    delta: float = Field(1.0, gt=0)
    """δ; at 1 the violation decays exponentially."""

    def build(self) -> contracts.Psi:
        return lambda loss, epsilon, norm, objective: control.relative_gap(
            loss, _bound(epsilon, self.kind), norm, objective, self.beta, self.delta
        )


def _bound(epsilon: float | None, kind: str) -> float:
    if epsilon is None:
        advice = "use gradient-norm for `boundary` and `lowest`"
        raise UserError(f"control: '{kind}' needs an ε, which phase 1 has not; {advice}", Exit.RECIPE)
    return epsilon


class ClosedForm(MultiplierSection):
    """The published rule: λ = max(0, (ψ − ∇f·∇h) / ‖∇h‖²) on the batch's own values."""

    kind: Literal["closed-form"]
    """As published."""

    def build(self) -> control.Multiplier:
        return control.ClosedForm()


class Averaged(MultiplierSection):
    """The closed form on averages over steps, with an integral trim of ε, against the bias of mini-batch noise.

    λ = max(0, (ψ − p̄) / n̄), where h̄, n̄ and p̄ are exponential averages of h, ‖∇h‖² and ∇f·∇h; ψ is taken at ε − τ,
    and the trim τ ← τ + κ(h̄ − ε) integrates what is left of the gap.
    """

    kind: Literal["averaged"]
    """Averages and an integral trim."""
    average: float = Field(0.9, ge=0, lt=1)
    """Decay of the averages."""
    trim: float = Field(0.05, ge=0, le=1)
    """Gain κ of the integral trim of ε."""

    def build(self) -> control.Multiplier:
        return controls.Averaged(self.average, self.trim)


class ProportionalIntegral(MultiplierSection):
    """λ from the loss alone: λ = max(0, p·e + ι), ι ← max(0, ι + i·e) with e = (h̄ − ε)/ε; one joint backward pass."""

    kind: Literal["proportional-integral"]
    """The cheap mode: no second gradient."""
    proportional: float = Field(20.0, ge=0)
    """Gain p."""
    integral: float = Field(1.0, gt=0)
    """Gain i."""
    loss_average: float = Field(0.5, ge=0, lt=1)
    """Decay of the average h̄ of the constraint's loss."""

    def build(self) -> control.Multiplier:
        return controls.ProportionalIntegral(self.proportional, self.integral, self.loss_average)


@hookimpl
def register_controls() -> list[type[PsiSection] | type[MultiplierSection]]:
    """Return the built-in control functions and rules."""
    return [GradientNorm, ConstraintGap, RelativeGap, ClosedForm, Averaged, ProportionalIntegral]
