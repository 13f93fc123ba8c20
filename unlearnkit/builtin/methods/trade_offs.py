"""Methods that find each step's direction from both gradients, or a multiplier from how the losses move.

f is a loss on the retain set and h one on the forget set, both minimised. Where nothing else is said they are the
recipe's f2 and f1, over what the recipe trains. A field that takes a number takes a list too.
"""

from __future__ import annotations

from typing import Literal

from unlearnkit import contracts, control
from unlearnkit.builtin import methods
from unlearnkit.builtin.losses.targets import NOISE, Aim, Truth, aimed, told
from unlearnkit.builtin.methods.baselines import Fractions, Positives, Weights, WholeModel, one
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.sections import MethodSection


class Cup(MethodSection):
    """CUP, controllable unlearning by pivoting gradients (Hwang and Lim 2025, arXiv 2510.19226).

    After the released code (youngsikhwang/Controllable-Machine-Unlearning-by-Pivoting-Gradient, eba4fe6,
    Image_classification/unlearn/optim/CUP.py): the step turns by γθ from the part of ∇f across
    ∇h towards ∇h, where θ is the angle between the parts of each gradient across the other. So γ = 0 leaves h where it
    is and γ = 1 leaves f, to first order. Chosen here: f and h are the recipe's; the released h is −own(forget).
    """

    kind: Literal["cup"]
    """Pivot between the two gradients by an intensity."""
    intensity: Fractions = 0.5
    """Unlearning intensity γ, from 0 (retaining) to 1 (forgetting); the authors sweep 0.01 to 0.99."""
    target: Aim = None

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        return [control.Stage(aimed(self.target, setting, forget), retain, methods.Pivot(one(self.intensity)))]


class Eupmu(MethodSection):
    """EUPMU: min h such that f rises by at most a tolerance (Zhou et al. 2025, arXiv 2510.22124).

    Its implicit gradient surgery, after the released code: g = (λ∇f + ∇h)/(1 + λ) in one backward pass; then f is
    looked at again on the same batch, and λ takes a step of Adam up where f has risen. Chosen here: f and h rather than
    their logarithms, as f is 0 at the reference; λ is kept at 0 or above and does not decay.
    """

    kind: Literal["eupmu"]
    """Forgetting under a bounded rise of the retain loss."""
    tolerance: Weights = 0.0
    """Rise of f on its batch that one step may bring, in the unit of f."""
    rate: Positives = 0.025
    """Learning rate of λ, that of the released code."""
    target: Aim = None

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        rule = methods.Watched(one(self.tolerance), one(self.rate))
        return [control.Stage(aimed(self.target, setting, forget), retain, rule)]


class Hamu(WholeModel):
    """HAMU-Q: own(forget) must rise by a quota inside a trust region, at the least own(retain) (arXiv 2606.02119).

    f = own(retain), h = −own(forget), over the whole model. After the released code: the step −μg minimises f to first
    order such that h falls by μq and ‖g‖ ≤ ‖∇f‖; where the region is too small for the quota it is left. κ = g_r·g_f
    switches between ∇f and the mixed direction. Deviation: the gradients of the whole model rather than of each
    tensor. The quota is met to first order by plain SGD; other optimisers rescale the step.
    """

    kind: Literal["hamu"]
    """A quota of forgetting at each step."""
    quota: Weights = 1e-4
    """Rise q of own(forget) asked of each step, divided by the learning rate. The region allows ‖g_r‖‖g_f‖, which is
    about 9e-4 for `sample:mae-64` at the start; chosen here."""
    stop: bool = False
    """End where no step in the trust region meets the quota without raising f: q² > ‖∇f‖²‖∇h‖² − κ²."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        return [control.Stage(contracts.OwnLoss(-1), contracts.OwnLoss(), methods.Quota(one(self.quota), self.stop))]


class Lur(MethodSection):
    """A reading of LUR, learning to unlearn while retaining (Patel and Qiu 2025, arXiv 2503.06339).

    Its formula was not at hand; a third party's code of it, which fits the abstract, minimises
    f(θ) + w h(θ − α∇f(θ)), so that −αw ∇h·∇f rewards gradients that agree. That code also prunes weights first, which
    is left out. The gradient through the inner step is taken by central differences.
    """

    kind: Literal["lur"]
    """The forget loss after a look-ahead step on the retain loss."""
    lookahead: Positives = 0.1
    """Rate α of the inner step; chosen here."""
    alpha: Weights = 0.25
    """Weight w of the forget loss; chosen here as for `composite`."""
    target: Aim = None

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        rule = control.Constant(1, one(self.alpha))
        return [control.Stage(aimed(self.target, setting, forget), retain, rule, lookahead=one(self.lookahead))]


class Munba(WholeModel):
    """MUNBa: the Nash bargain between forgetting and retaining (Wu and Harandi, ICCV 2025, arXiv 2411.15537).

    g = (u_f + u_h)/√(1 + cos φ) with the unit gradients u and the angle φ between them, which is the closed form of the
    released code, and its ∇f + 0.1∇h where no bargain is struck. f = own(retain) and h = own(forget with another truth)
    over the whole model; the paper's other truth are random labels.
    """

    kind: Literal["munba"]
    """Bargaining between unit gradients."""
    target: Truth = NOISE

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        return [control.Stage(told(self.target, setting), contracts.OwnLoss(), methods.Bargain())]


class Siss(WholeModel):
    """SISS without importance sampling, for diffusion models (Alberti et al., ICLR 2025, arXiv 2503.01034).

    g = ∇own(retain) − s∇own(forget) over the whole model. The released code scales the second term to a constant norm,
    which it recommends to be a tenth of the first one's. Chosen here: s = share ‖∇own(retain)‖/‖∇own(forget)‖ at each
    step. Deviations: the first term is over the retain set rather than all images, and each batch has its own noise.
    """

    kind: Literal["siss"]
    """Scaled subtraction of the forget set's score loss."""
    share: Weights = 0.1
    """Norm of the subtracted gradient as a part of the retain gradient's."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        if not setting.reference.sees_truth:
            found = "siss subtracts the losses of a diffusion model, and this model is none"
            raise UserError(f"compare: {found}; neggrad-plus is the method for others", Exit.RECIPE)
        return [control.Stage(contracts.OwnLoss(-1), contracts.OwnLoss(), methods.Share(one(self.share)))]


class Mgda(WholeModel):
    """MGDA: the shortest vector between the two gradients (Désidéri 2012; Sener and Koltun 2018), by TorchJD.

    The reference minimises the recipe's f2, so that it is Pareto stationary and MGDA would stay there. So, chosen here:
    f = own(retain) and h = own(forget with another truth), over the whole model.
    """

    kind: Literal["mgda"]
    """The direction that lowers both losses most."""
    target: Truth = NOISE

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        return [control.Stage(told(self.target, setting), contracts.OwnLoss(), methods.Weighting("MGDA"))]


class PcGrad(MethodSection):
    """PCGrad: each gradient loses the part that is opposed to the other (Yu et al., NeurIPS 2020), by TorchJD."""

    kind: Literal["pcgrad"]
    """Gradient surgery."""
    target: Aim = None

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        return [control.Stage(aimed(self.target, setting, forget), retain, methods.Weighting("PCGrad"))]


class RestrictedGradient(WholeModel):
    """Restricted gradient: ascent and descent, each without what undoes the other (Ko et al., NeurIPS 2024).

    arXiv 2412.07808; after the released code (reds-lab/Restricted_gradient_diversity_unlearning, 0075ecb, CIFAR): with
    f = own(retain) and h = −own(forget) over the whole model, g = h' + αf', where a gradient that opposes the other
    loses its part along it, as in PCGrad, by TorchJD. Deviations: own(forget) is not truncated, so that the ascent ends
    with the budget alone, and f is of the batch rather than of a diverse subset.
    """

    kind: Literal["restricted-gradient"]
    """Gradient surgery between ascent and descent."""
    alpha: Positives = 5.0
    """Weight α of the retain gradient, that of the released runs on CIFAR-10."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        rule = methods.Weighting("PCGrad", one(self.alpha))
        return [control.Stage(contracts.OwnLoss(-1), contracts.OwnLoss(), rule)]


class CaGrad(WholeModel):
    """CAGrad: the best step for the worse-off loss near the mean gradient (Liu et al., NeurIPS 2021), by TorchJD.

    f = own(retain) and h = own(forget with another truth) over the whole model, for the reason that `mgda` has.
    """

    kind: Literal["cagrad"]
    """Conflict-averse gradient descent."""
    c: Weights = 0.5
    """Radius c of the ball around the mean gradient, as a part of its norm; chosen here."""
    target: Truth = NOISE

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        rule = methods.Weighting("CAGrad", c=one(self.c))
        return [control.Stage(told(self.target, setting), contracts.OwnLoss(), rule)]


class Lagrangian(MethodSection):
    """Min f such that h ≤ ε by simultaneous descent and ascent on f + λ(h − ε)/ε, by Cooper.

    λ ← max(0, λ + η(h − ε)/ε) after each step's direction ∇f + λ∇h; the violation is relative to ε, chosen here so that
    η has no unit.
    """

    kind: Literal["lagrangian"]
    """Primal-dual gradient descent and ascent."""
    epsilon: Positives
    """Bound ε on h, in its own unit: the ε solutions' values stand in the report."""
    rate: Positives = 0.05
    """Rate η of the ascent; chosen here."""
    target: Aim = None

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        rule = methods.PrimalDual(one(self.epsilon), one(self.rate))
        return [control.Stage(aimed(self.target, setting, forget), retain, rule)]


METHODS: list[type[MethodSection]] = [
    Cup, Eupmu, Hamu, Lur, Munba, Siss, Mgda, PcGrad, RestrictedGradient, CaGrad, Lagrangian,
]  # fmt: skip
