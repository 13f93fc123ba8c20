"""What a recipe says of the two phases: control, ε, where each ε starts, optimiser and budget."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, model_validator

from unlearnkit.recipe.numbers import Count, Fraction, Positive, Unit
from unlearnkit.recipe.sections import MultiplierSection, PsiSection, Section, TargetSection

P = TypeVar("P")


class Control(Section):
    """The control functions ψ(θ) of both phases, and how λ is found."""

    boundary: PsiSection = Field({"kind": "gradient-norm"}, validate_default=True)
    """ψ of phase 1."""
    lowest: PsiSection | None = None
    """ψ of phase 1's lowest completeness, where f1 and f2 have changed places and α weighs the retain loss; that of
    `boundary` when left out."""
    epsilon: PsiSection = Field({"kind": "relative-gap"}, validate_default=True)
    """ψ of phase 2."""
    multiplier: MultiplierSection = Field({"kind": "averaged"}, validate_default=True)
    """How λ is found in phase 2; phase 1 always uses the closed form."""
    landing: Literal["line", "none"] = "line"
    """What is done where a solution of phase 2 ends off its ε: `line` moves it to where f1 on the whole set is ε,
    from above down ∇f1 or towards the highest completeness, from below, where f2 falls, towards the lowest
    completeness; `none`, as published, leaves it."""


class Bound(NamedTuple):
    """An ε as it was asked for: the same id and label in every run, whatever its value turns out to be."""

    id: str
    label: str
    fraction: float
    """Its place in the valid range."""
    epsilon: float
    """Its value."""


def asked(fraction: float | None, value: float | None) -> tuple[str, str]:
    """Return id and label of an ε that was asked for as a fraction, or else as a value."""
    if fraction is None:
        return f"epsilon-{_short(value)}", f"ε = {_short(value)}"
    return f"epsilon-at-{_short(fraction)}", f"ε at {100 * fraction:.6g} %"


def _short(number: float | None) -> str:
    return repr(number).removesuffix(".0")


class Epsilons(Section):
    """The bounds on the forget loss, one solution each; give `fractions` or `values`, not both, or leave both out."""

    fractions: Annotated[list[Fraction], Field(min_length=1)] | None = None
    """Places in the valid range: 0 is the highest completeness, 1 the lowest."""
    values: Annotated[list[float], Field(min_length=1)] | None = None
    """Values of the forget loss; one below f1 of the highest completeness or above that of the original model is
    reported and not run."""

    targets: list[TargetSection] = []  # noqa: RUF012
    """What is wanted in place of an ε: each is looked for between the solutions; `polish` takes steps from there."""

    @model_validator(mode="after")
    def _usual(self) -> Self:
        if self.fractions is None and self.values is None:
            object.__setattr__(self, "fractions", [0.0, 0.25, 0.5, 0.75, 1.0])
        return self

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.fractions or self.values or ())

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Id and label of each, ascending."""
        if self.fractions:
            return [asked(fraction, None) for fraction in sorted(self.fractions)]
        return [asked(None, value) for value in sorted(self.values or ())]

    def within(self, least: float, most: float) -> list[Bound]:
        """Return each with its value where the valid range is `least` to `most`, ascending."""
        width = most - least
        places = [(fraction, least + fraction * width) for fraction in sorted(self.fractions or ())]
        places = places or [((value - least) / width, value) for value in sorted(self.values or ())]
        return [Bound(*names, *place) for names, place in zip(self.asked, places, strict=True)]


class Independent(Section):
    """Each ε by itself."""

    kind: Literal["independent"]
    """No ε needs another one's solution."""
    start: Literal["line", "original", "highest"] = "line"
    """`line` starts at the point between the weights of the two boundaries where f1 = ε, `original` at the original
    weights, `highest` at the highest completeness."""

    def order(self, ascending: Sequence[P]) -> Sequence[P]:
        """Return what is given by ascending ε in the order in which it is solved."""
        return ascending

    def share(self, number: int) -> float:
        """Return the budget of the ε that is solved as the `number`-th, from 0, as a part of one problem's."""
        return 1.0

    def steps(self, count: int, each: int) -> int:
        """Return the steps of so many ε where a problem has `each` of them."""
        return count * each

    def between(self, number: int) -> tuple[str, str]:
        """Return between which two models it starts, the tighter one first."""
        return ("highest", "lowest") if self.start == "line" else (self.start, self.start)


class Continuation(Section):
    """Each ε from its neighbour's solution."""

    kind: Literal["continuation"]
    """One ε after the other."""
    direction: Literal["tighten", "relax"] = "tighten"
    """`tighten` goes from loose to tight, each ε from the point where f1 = ε between the solution before it and the
    highest completeness; `relax` from tight to loose, as published, each from the solution before it."""
    budget: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Steps of each ε but the first, as a part of `training`'s budget of one problem."""

    def order(self, ascending: Sequence[P]) -> Sequence[P]:
        """Return what is given by ascending ε in the order in which it is solved."""
        return ascending[::-1] if self.direction == "tighten" else ascending

    def share(self, number: int) -> float:
        """Return the budget of the ε that is solved as the `number`-th, from 0, as a part of one problem's."""
        return self.budget if number else 1.0

    def steps(self, count: int, each: int) -> int:
        """Return the steps of so many ε where a problem has `each` of them."""
        return sum(max(1, round(self.share(number) * each)) for number in range(count))

    def between(self, number: int) -> tuple[str, str]:
        """Return between which two models it starts, the tighter one first; `before` is the ε solved before it."""
        if self.direction == "relax":
            return ("before", "before") if number else ("highest", "highest")
        return "highest", "before" if number else "lowest"


class Curve(Section):
    """All ε at once: one curve of weights from the highest completeness to the original model, and ε found on it."""

    kind: Literal["curve"] = "curve"
    """The front as one curve."""
    degree: Annotated[int, Field(ge=1, le=5)] = 3
    """Degree of the curve, which is the number of weight vectors that are trained."""
    budget: Positive = 5.0
    """Steps of the curve, as a multiple of `training`'s budget of one problem."""
    polish: Annotated[int, Field(ge=0)] = 0
    """Steps that each ε takes by itself from its point of the curve, kept where f2 is lower behind them."""

    def steps(self, count: int, each: int) -> int:
        """Return the steps of the curve and of so many ε where a problem has `each` of them."""
        return max(1, round(self.budget * each)) + count * self.polish


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    algorithm: ClassVar = "AdamW"
    kind: Literal["adamw"] = "adamw"
    """AdamW."""
    lr: Positive = 1e-4
    """Learning rate."""
    betas: tuple[Unit, Unit] = (0.9, 0.95)
    """Decay of the averages of the gradient and of its square."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay."""


class SGD(Section):
    """Stochastic gradient descent."""

    algorithm: ClassVar = "SGD"
    kind: Literal["sgd"]
    """SGD."""
    lr: Positive
    """Learning rate."""
    momentum: Unit = 0.0
    """Momentum."""


class Cache(Section):
    """How much of what is frozen (first stage, reference) is kept instead of computed at every step again."""

    memory_mib: Annotated[int, Field(ge=0)] = 2048
    """Memory for it on the device, MiB."""
    disk_mib: Annotated[int, Field(ge=0)] = 16384
    """Room for it in memory-mapped files, MiB, used where memory does not suffice."""
    shared: str | None = None
    """Folder of these files, which runs and processes share and which stay; without one they are in the run folder, and
    removed at its end."""


class Look(Section):
    """Looks at some of the training images, in place of all of them, while a problem is solved."""

    images: Annotated[int, Field(ge=2)]
    """Images of each set, the same ones at every look, drawn from the seed. f1 and f2 come with the half-width of a
    95 % interval of their values on the whole set; the residual is that of these images."""


class Training(Section):
    """How every problem is optimised; each boundary and each ε gets the same budget."""

    optimizer: Annotated[AdamW | SGD, Field(discriminator="kind")] = AdamW()
    """The optimiser that gets the direction as its gradient."""
    batch_size: Count = 32
    """Images of the forget set and of the retain set in each step: this many of each."""
    epochs: Positive | None = None
    """Budget of one problem in passes over the larger training set; 8 when neither this nor `steps` is given."""
    steps: Count | None = None
    """Budget of one problem in steps; give this or `epochs`."""
    decay: Fraction = 0.5
    """Last part of the budget over which the learning rate falls to zero along a half cosine."""
    checks: Count = 2
    """How often a problem looks at f1, f2 and the stationarity residual on the whole training sets, evenly spaced; each
    costs as much as the steps of one pass over both sets."""
    look: Look | None = None
    """Look at this part of the training sets in checks on the way, in landing and where an ε starts; all of them where
    it is left out. One pass over the whole sets still gives each solution's f1 and f2, and says whether it is
    satisfied. It saves most of a run where sets are large; ε is met to the interval alone."""
    checkpoint_every: Count = 50
    """Steps between checkpoints."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the student's forward and backward pass in a step; weights, losses, reference and looks at the whole
    sets stay in fp32, and so do steps near the original weights, where bf16 would drown the retain loss in rounding."""
    compile: bool = False
    """Whether the student's pass in a step is compiled (`torch.compile`). That takes a minute or more once for each of
    the two losses and saves some of every step; looks at the whole sets are not compiled."""
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """Parts that a batch, and a look at a whole set, is computed in and added up from, always in one order. As many
    processes can share the work (docs/how-to/several-gpus.md); the numbers depend on the parts alone."""
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    """Smallest part of an image's area that a random crop keeps, with random flips; no augmentation when left out.
    With it every view is new, so that nothing frozen can be kept."""
    cache: Cache = Cache()
    """Room for what is computed once; it changes no number."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto`: a CUDA device where there is one."""
