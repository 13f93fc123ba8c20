"""Neighbouring methods that run beside the ε-constrained solutions.

f is a loss on the retain set and h one on the forget set; own(x) is the loss the model was trained with. A field that
takes a number takes a list too, which gives one solution for each value.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from unlearnkit import contracts, control
from unlearnkit.builtin import losses
from unlearnkit.builtin.losses.targets import NOISE, Aim, HeldOut, SurrogateClass, Target, Truth, aimed, told
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.numbers import Count, Fraction, Positive, Seed
from unlearnkit.recipe.sections import MethodSection

Weight = Annotated[float, Field(ge=0)]
Weights = Weight | Annotated[list[Weight], Field(min_length=1)]
Fractions = Fraction | Annotated[list[Fraction], Field(min_length=1)]
Positives = Positive | Annotated[list[Positive], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Shares = Share | Annotated[list[Share], Field(min_length=1)]


def one(value: float | list[float]) -> float:
    """Return the value of a field that is not swept any more."""
    assert not isinstance(value, list)
    return value


class WholeModel(MethodSection):
    """A method that trains all but a frozen first stage."""

    part: ClassVar = "all"


class Composite(MethodSection):
    """Minimise f2 + α f1 with a fixed α (Li et al. 2024), on the recipe's losses."""

    kind: Literal["composite"]
    """The composite loss."""
    alpha: Weights = 0.25
    """Weight α of the forget loss."""
    target: Aim = None

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        return [control.Stage(aimed(self.target, setting, forget), retain, control.Constant(1, one(self.alpha)))]


class MaxLoss(WholeModel):
    """Max Loss: minimise own(retain) − α own(forget) over the whole model (a baseline of Li et al. 2024)."""

    kind: Literal["max-loss"]
    """Ascent on the forget set beside descent on the retain set."""
    alpha: Weights = 0.25
    """Weight α of the ascent; chosen here as for `composite`, the published one is not known."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        return [control.Stage(contracts.OwnLoss(-1), contracts.OwnLoss(), control.Constant(1, one(self.alpha)))]


class NoisyLabel(WholeModel):
    """Noisy Label: minimise own(retain) + α own(forget with noise as the truth) (a baseline of Li et al. 2024).

    The whole model is trained. For a model that sees the hidden region noised (diffusion) the noise is in it alone.
    """

    kind: Literal["noisy-label"]
    """Noise as the truth of forget images."""
    alpha: Weights = 0.25
    """Weight α of the forget set; chosen here as for `composite`."""
    target: Truth = NOISE

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        return [control.Stage(told(self.target, setting), contracts.OwnLoss(), control.Constant(1, one(self.alpha)))]


class SalUn(WholeModel):
    """SalUn: noisy label on those weights alone that the forget set moves most (Fan et al., ICLR 2024).

    arXiv 2310.12508. The mask is that of the released code (OPTML-Group/Unlearn-Saliency, a6e89fd, generate_mask.py):
    of one ranking of all weights by the absolute value of ∇own(forget), summed over the forget set at the start, the
    upper part moves. The paper's other truth are random labels, or for diffusion what the model makes under another
    class.
    """

    kind: Literal["salun"]
    """Noisy label on the salient weights."""
    alpha: Weights = 0.25
    """Weight α of the forget set; chosen here as for `composite`."""
    salient: Shares = 0.5
    """Part of the weights that may move; half of them in the released runs."""
    target: Truth = NOISE

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        salient = control.Salient(contracts.OwnLoss(), one(self.salient))
        mixture = control.Constant(1, one(self.alpha))
        return [control.Stage(told(self.target, setting), contracts.OwnLoss(), mixture, salient=salient)]


class RetainLabel(WholeModel):
    """Retain Label: outputs for forget images are drawn to the reference's outputs for retain images.

    f + αh with f = ‖I_θ(T(x)) − I_θ0(T(x))‖² and h = ‖I_θ(T(x)) − I_θ0(T(s))‖² over the whole model, s a retain image
    (a baseline of Li et al. 2024, as defined). The released VQ-GAN code weights the forget term on retain images, so
    that it never touches the forget set; that is not copied. Retain images are drawn at random rather than tiled.
    """

    kind: Literal["retain-label"]
    """Outputs of retain images for forget images."""
    alpha: Weights = 1.0
    """Weight α of the forget set; chosen here."""
    target: Target = SurrogateClass(kind="surrogate-class")
    """What forget images are treated as; by default retain images."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        kept = losses.ToReference("output", setting.reference)
        return [
            control.Stage(self.target.distance("output", setting, None), kept, control.Constant(1, one(self.alpha)))
        ]


class ReGUn(WholeModel):
    """A reading of ReGUn: outputs for forget images are drawn to what the reference makes of unseen ones.

    own(retain) + αh with h = ‖I_θ(T(x)) − (1/m) Σ_j I_θ0(T(u_j))‖² over the whole model, u_j held-out images (Mirlach,
    Laguna and Vogt 2026, arXiv 2603.11210). The paper is of classifiers, and its code was not at hand: it draws the
    classes' probabilities to the mean of the original model's for held-out images of the same classes, by their KL
    divergence. RAUL (arXiv 2606.00399) has such a target too, in a multi-objective step.
    """

    kind: Literal["regun"]
    """The mean answer to held-out images as the target."""
    alpha: Weights = 0.25
    """Weight α of the forget set; chosen here as for `composite`."""
    target: HeldOut
    """The held-out images."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        unseen = self.target.distance("output", setting, None)
        return [control.Stage(unseen, contracts.OwnLoss(), control.Constant(1, one(self.alpha)))]


class RandomEncoder(MethodSection):
    """Random Encoder: embeddings of forget images are drawn to random normal ones, those of retain images kept.

    f + αh over the encoder, h = ‖E_θ(T(x)) − r‖² with r normal, of the mean and deviation of the reference's features
    on the batch, new at each step (a baseline of Li et al. 2024, as defined). The released VQ-GAN code weights the
    forget term on retain images; that is not copied.
    """

    part: ClassVar = "encoder"
    kind: Literal["random-encoder"]
    """Random embeddings for forget images."""
    alpha: Weights = 0.25
    """Weight α of the forget set; chosen here as for `composite`."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        kept = losses.ToReference("embedding", setting.reference)
        drawn = losses.ToRandomEmbedding("embedding", setting.reference)
        return [control.Stage(drawn, kept, control.Constant(1, one(self.alpha)))]


class RetainFineTuning(WholeModel):
    """Train on with own(retain) alone, the whole model, and rely on what is not rehearsed being forgotten."""

    kind: Literal["retain-fine-tuning"]
    """Fine-tuning on the retain set."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        return [control.Stage(None, contracts.OwnLoss())]


class NegGradPlus(WholeModel):
    """NegGrad+: minimise β own(retain) − (1 − β) own(forget) over the whole model (Kurmanji et al. 2023)."""

    kind: Literal["neggrad-plus"]
    """A convex mixture of descent and ascent."""
    beta: Fractions = 0.95
    """Weight β of the retain set; chosen here, as it was tuned for each data set."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        mixture = control.Constant(one(self.beta), 1 - one(self.beta))
        return [control.Stage(contracts.OwnLoss(-1), contracts.OwnLoss(), mixture)]


class Retrain(WholeModel):
    """Train an untrained model with own(retain): the reference of what was never seen. No step reads a forget image.

    It takes the steps that the original had, as the record of `unlearnkit pretrain` beside its weights says, and that
    record's optimiser, batch size and crop; without warm-up and average, and with the recipe's task. A model of fewer
    steps is called `retrained briefly`, and nothing is held against it. A frozen first stage keeps its weights, which
    may have seen the images.
    """

    retrained: ClassVar = True
    kind: Literal["retrain"]
    """Training from scratch without the forget set."""
    budget: Positives | None = None
    """Steps as a multiple of those of the other problems, with the recipe's optimiser and batches; left out, as many as
    the original had, and no fewer than the other problems."""
    original_steps: Count | None = None
    """Steps that the original model had, where no record beside its weights says so."""
    seed: Seed | Annotated[list[Seed], Field(min_length=1)] | None = None
    """Seed of its weights and batches, that of the recipe when left out; several show how far retraining strays."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        known = setting.sources.original()
        whole = self.original_steps or (known.steps if known else None)
        if self.budget is None and whole is None:
            raise UserError(
                "compare: retrain: no record beside the weights says how many steps the original had; state them in "
                "`original_steps`, or give a `budget` for a model that is retrained briefly",
                Exit.RECIPE,
            )
        assert not isinstance(self.seed, list)
        least, as_then = (whole or 0, known.settings if known else {}) if self.budget is None else (0, {})
        return [
            control.Stage(
                None, contracts.OwnLoss(), budget=one(self.budget or 1.0), fresh=1.0, least=least, whole=whole,
                seed=self.seed, settings=as_then,
            )
        ]  # fmt: skip


class Undo(WholeModel):
    """Noise, then distil (after UNDO; Lee et al. 2025), so that nothing is left to bring back: no forget image is read.

    The weights are drawn towards freshly initialised ones, (1 − α)θ0 + αθ', and trained with own on the retain set,
    told that the original's outputs are the truth. What only the forget set showed has nothing to come back from. The
    paper distils a model that was unlearned before, whose outputs on the retain set are the original's; its noise
    has a scale of its own, where ours is that of the initialisation. A diffusion model's outputs are sampled anew at
    every step, which takes its `steps` passes more.
    """

    kind: Literal["undo"]
    """Noise on the weights, then distillation on the retain set."""
    alpha: Shares = 0.75
    """α, the part of fresh weights; 1 distils into a model that begins anew."""
    budget: Positives = 5.0
    """Steps as a multiple of those of the other problems."""
    seed: Seed | None = None
    """Seed of the fresh weights and the batches; drawn from that of the recipe when left out, as the original may have
    begun at the weights of that one, which are no fresh ones to it."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        same = losses.ToldOtherwise(losses.answered(setting.reference, "reference"), setting.reference)
        seed = setting.sources.generator().initial_seed() % 2**31 if self.seed is None else self.seed
        return [control.Stage(None, same, budget=one(self.budget), fresh=one(self.alpha), seed=seed)]


class Decoupling(WholeModel):
    """Decoupling, then knowledge retention, over encoder and decoder (Varshney and Torra 2025).

    First ascent on own(forget), until ‖I_θ0(T(x)) − I_θ(T(x))‖ ≥ `distance` on the batch to come or its part of the
    budget is spent; then descent on own(retain). Chosen here: the norm is the root of the mean square over entries;
    and the weight noise between the two, σ = (Δ/ε) √(2 ln(1.25/δ)), is that of the Gaussian mechanism for a
    sensitivity Δ that the recipe asserts. It is not the paper's guarantee, whose formula is not known here, and says
    nothing where the true sensitivity is larger.
    """

    kind: Literal["decoupling"]
    """Ascent to a distance, then retain fine-tuning."""
    distance: Positives = 0.1
    """λ of the paper: the distance of outputs at which the ascent ends, in units of pixel values in [0, 1]."""
    ascent: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Largest part of the budget that the ascent takes; retention gets the rest of it."""
    sensitivity: Positives | None = None
    """Asserted sensitivity Δ of the weights after the ascent; no weight noise when left out."""
    epsilon: Positives = 1.0
    """ε of the Gaussian mechanism."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """δ of the Gaussian mechanism."""

    def build(self, setting: contracts.Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        far = control.Until(losses.ToReference("output", setting.reference), one(self.distance) ** 2)
        return [
            control.Stage(contracts.OwnLoss(-1), None, budget=self.ascent, until=far),
            control.Stage(None, contracts.OwnLoss(), budget=1 - self.ascent, noise=self.sigma),
        ]

    @property
    def sigma(self) -> float:
        """Standard deviation of the weight noise."""
        if self.sensitivity is None:
            return 0.0
        return one(self.sensitivity) / one(self.epsilon) * math.sqrt(2 * math.log(1.25 / self.delta))


METHODS: list[type[MethodSection]] = [
        Composite, MaxLoss, NoisyLabel, SalUn, RetainLabel, ReGUn, RandomEncoder, RetainFineTuning, NegGradPlus,
        Retrain, Undo, Decoupling,
    ]  # fmt: skip
