"""What target sections build: what a user wants of a model, in place of an ε."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from unlearnkit.contracts.audit import Audit, Finding, Items, SetName, Split

Against = Literal["truth", "original"]


class Candidate(Protocol):
    """A model, and what a target may measure of it."""

    range: tuple[float, float]
    """The valid range of ε."""
    items: Items
    """The images of each set by split."""

    @property
    def f1(self) -> float:
        """The forget loss on the whole training set."""
        ...

    @property
    def f2(self) -> float:
        """The retain loss on the whole training set."""
        ...

    def score(self, name: SetName, split: Split, against: Against, metric: str) -> float:
        """Return a score as results.json has it; raise `ValueError` with the reason where there is none."""
        ...

    def spread(
        self, name: SetName, split: Split, against: Against, metric: str, beside: "Candidate | None" = None
    ) -> float | None:
        """Return the standard error of that score over images; None where it is no mean over single images.

        With `beside` it is that of the difference from another model's score on the same images.
        """
        ...

    def metric(self, metric: str) -> Mapping[str, object]:
        """Return what a metric says of itself: `name`, `unit`, `better`."""
        ...

    def findings(self, audit: Audit) -> Mapping[str, Finding]:
        """Return what an audit finds."""
        ...


@dataclass(frozen=True)
class Aim:
    """What a target came to at one model."""

    value: float
    """What was measured, in the target's unit."""
    wanted: float | None
    """What it is held against; None where it is to be as small as can be."""
    miss: float
    """How far it is from being met: 0 or less where it is met."""
    close: float = 0.0
    """The largest absolute `miss` at which the search for the last point that meets it may end."""
    unit: str = ""
    """The unit of `value`."""


class Target(ABC):
    """What a user wants: a bound that the dial is moved to, or something that is to be as small as can be."""

    loosest: bool = True
    """Of all models that meet it the one nearest to the original is wanted; False: the most complete one."""
    least: bool = False
    """True where `value` is to be as small as can be, so that every model meets it."""
    exact: bool = False
    """True where a `miss` of `close` counts as met."""
    retrained: bool = False
    """Whether it reads retrained models, without one of which it is refused."""
    label: str
    """What it asks for, in one line."""

    @abstractmethod
    def aim(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> Aim:
        """Measure a model; raise `ValueError` with the reason where it cannot be measured."""

    def error(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> float | None:
        """Return the standard error of `value` against `wanted` over images; None where the measure has none."""
        return None
