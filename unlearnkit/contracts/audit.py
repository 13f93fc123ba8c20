"""What audit sections build: a test of whether one model has really forgotten, and what it gets to work with."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from torch import Tensor
from torch.nn import Parameter

from unlearnkit.contracts.images import Images, Item
from unlearnkit.contracts.model import ModelAdapter
from unlearnkit.contracts.view import View

SetName = Literal["forget", "retain"]
Split = Literal["train", "validation"]
Items = Mapping[str, Mapping[str, Sequence[Item]]]
"""The images of each set by split."""


@dataclass(frozen=True)
class Figure:
    """One figure of an audit: a column of its table."""

    name: str
    """A few words for the heading."""
    meaning: str
    """One sentence for a reader who does not know the audit."""
    forgotten: Literal["higher", "lower"] | float | None
    """Where it points when more is forgotten, or the value that a model has which never saw the images; None where it
    says nothing of that."""
    unit: str = ""
    """Its unit, if it has one."""
    one_sided: bool = False
    """Whether a trace shows above the value that `forgotten` gives alone, so that what is below it is none."""

    def __post_init__(self) -> None:
        """Keep a whole number in `forgotten` as the value that it is, for a direction is never a number."""
        if not isinstance(self.forgotten, str | None):
            object.__setattr__(self, "forgotten", float(self.forgotten))


@dataclass(frozen=True)
class Over:
    """More than was looked for: reported as ">N"."""

    most: float


@dataclass(frozen=True)
class Missing:
    """No value, and why."""

    reason: str


Finding = float | Over | Missing
"""A number, or what stands in for it; a whole number is a count."""


@dataclass(frozen=True)
class Shadows:
    """Shadow models that an audit asks for: trained from scratch on half of the forget images, then unlearned."""

    count: int
    steps: int | None = None
    """Steps of their training; None for as many as the original had."""


@dataclass(frozen=True)
class Shadow:
    """What an audit remembers of a shadow model that was unlearned as the model under audit was."""

    members: frozenset[str]
    """Keys of the forget images that it was trained on and unlearned, of all that the recipe has."""
    found: Mapping[str, float]
    """What `Audit.remember` returned."""


class OptimizerSection(Protocol):
    """An optimiser as recipes have it: `AdamW` or `SGD` of `unlearnkit.recipe.training`."""

    algorithm: ClassVar[str]
    """Its name in `torch.optim`."""

    @property
    def lr(self) -> float:
        """Its learning rate."""
        ...


class Case(Protocol):
    """One model under audit, with the images of its recipe and a step loop to train it further."""

    model: ModelAdapter
    """A copy of the model under audit, which the audit may change."""
    reference: ModelAdapter
    """The original model, which it may not."""
    retrained: Sequence[ModelAdapter]
    """Models that were retrained without the forget set, but for the one under audit; for audits that need them."""
    other: ModelAdapter | None
    """The solution that the audit names; None where that is the one under audit, or there is none."""
    shadows: Sequence[Shadow]
    """What the audit remembers of its shadow models, before they unlearned where this one was trained from scratch."""
    items: Items
    """The images of each set by split."""
    sources: Mapping[str, Images]
    """Where the images of each set come from."""

    def views(
        self, name: SetName, split: Split, *purpose: object, change: Callable[[Tensor], Tensor] = lambda images: images
    ) -> Iterator[View]:
        """Yield the views T(x) of a set in chunks, the same for every model and every call.

        `purpose` gives other draws of what is random; `change` takes the images [B, 3, S, S] in [0, 1] before T.
        """
        ...

    def rest(self) -> list[Parameter]:
        """Return the parameters beside the encoder and a frozen first stage; raise `ValueError` without any."""
        ...

    def refresh(self, parameters: Iterable[Parameter]) -> None:
        """Put these parameters of the model at their values in an untrained model of the recipe's seed."""
        ...

    def train(
        self,
        parameters: Iterable[Parameter],
        on: Sequence[SetName],
        steps: int,
        optimizer: OptimizerSection | None = None,
        *,
        decay: float,
    ) -> Iterator[int]:
        """Take steps on the model's own loss over the training images of `on`; yield how many are done, from 0 on.

        Batches are the recipe's, and so is the optimiser when it is left out. Losses of two sets are added. `decay` is
        the last part of the steps over which the learning rate falls. Raise `DivergedError` where a loss is not finite.
        """
        ...


class Audit(ABC):
    """A test of whether a model has really forgotten, run for the original and for every solution by itself."""

    figures: Mapping[str, Figure]
    """What it finds, by a short name."""
    needs_truth: bool = False
    """Whether it compares outputs with the truth, so that it says so where nobody has that."""
    needs_retrained: bool = False
    """Whether it looks at retrained models, which are solved before it then; there may be none."""
    other: str | None = None
    """Id of one solution that it looks at beside every model, which is solved before it then."""
    shadows: Shadows | None = None
    """Shadow models that it needs, of each of which it remembers something."""

    @abstractmethod
    def samples(self, images: Items) -> str:
        """Say for the report how many images the figures are of; `images` come by set and split."""

    @abstractmethod
    def examine(self, case: Case) -> Mapping[str, Finding]:
        """Return all `figures` of a case, whose model may be changed; the same case gives the same bits.

        Raise `ValueError` with the reason where none can be had.
        """

    def remember(self, case: Case) -> Mapping[str, float]:
        """Return what `examine` needs of a shadow model, which is that of the case, by name; `shadows` are none yet."""
        return {}

    def chance(self, images: Items) -> Mapping[str, float]:
        """Return by figure how far it strays nineteen times in twenty from a value that it has where nothing is left.

        Only those whose `forgotten` is a value can be here; `images` come by set and split.
        """
        return {}

    def describe(self) -> Mapping[str, object]:
        """Return facts for the report, such as a network and its weights."""
        return {}
