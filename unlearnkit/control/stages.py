"""What a method builds: the stages of its problem, one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unlearnkit.contracts import Loss
from unlearnkit.control.mixture import Mixture


@dataclass(frozen=True)
class Until:
    """A stop rule: the stage ends before the first step on whose forget batch `loss` is at least `least`."""

    loss: Loss
    least: float


@dataclass(frozen=True)
class Salient:
    """Which weights a stage moves: the `part` of them whose entries of ∇loss are largest, on the whole forget set.

    The gradient is that at the stage's start, and largest is meant in absolute value. The others keep their bits,
    whatever the optimiser would do to them.
    """

    loss: Loss
    part: float


@dataclass(frozen=True)
class Stage:
    r"""Steps on $g = w\nabla f + \lambda\nabla h$, f the retain loss and h the forget loss, both minimised.

    Where one of them is None its images are not read, and g is the other's gradient. A stage has an optimiser and a
    learning-rate schedule of its own.
    """

    forget: Loss | None
    """h on batches of the forget set; a loss to be raised is given with its sign turned."""
    retain: Loss | None
    """f on batches of the retain set."""
    rule: Mixture | None = None
    """How the gradients are mixed; None where there is one loss."""
    lookahead: float = 0.0
    """Rate α: h is taken at θ − α∇f(θ), and its gradient through that step; for a stage with two losses."""
    budget: float = 1.0
    """Steps at most, as a part of `training`'s budget of one problem."""
    until: Until | None = None
    """What ends the stage before its budget."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise that is added to the weights before the first step."""
    fresh: float = 0.0
    """Part α of freshly initialised weights that it starts from: (1 − α)θ + αθ', and with 1 of these alone."""
    salient: Salient | None = None
    """Which weights it moves; None for all."""
    rate: float = 1.0
    """Factor of the learning rate."""
    least: int = 0
    """Steps at most where `budget` comes to fewer."""
    whole: int | None = None
    """Steps that make its solution a yardstick, those of the original model; None where they are not known."""
    seed: int | None = None
    """Seed of its fresh weights, batches and views; the recipe's without one."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Fields of `training` that it has in place of the recipe's."""

    def __post_init__(self) -> None:
        both = self.forget is not None and self.retain is not None
        if both != (self.rule is not None) or (self.forget is None and self.retain is None):
            raise ValueError("a stage has two losses and a rule, or one loss and none")
        if self.lookahead and not both:
            raise ValueError("a stage that looks ahead has two losses")

    def steps(self, each: int) -> int:
        """Return its steps at most where a problem has `each` of them."""
        return max(1, round(self.budget * each), self.least)
