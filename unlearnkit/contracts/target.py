"""What target sections build: what a user wants of a model, in place of an ε."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from unlearnkit.contracts.audit import Audit, Finding, Items, SetName, Split

Against = Literal["truth", "original"]


class Candidate(Protocol):
    """A model, and what a target may measure of it."""

    f1: float
    """The forget loss on the whole training set."""
    f2: float
    """The retain loss on the whole training set."""
    fraction: float
    """Place of f1 in the valid range of ε."""
    items: Items
    """The images of each set by split."""

    def score(self, name: SetName, split: Split, against: Against, metric: str | None) -> float:
        """Return a score as results.json has it; raise `ValueError` with the reason where there is none.

        `metric` is a key of results.json's metrics, the first one when left out.
        """
        ...

    def spread(self, name: SetName, split: Split, against: Against, metric: str | None) -> float | None:
        """Return the standard error of that score over images; None where it is no mean over single images."""
        ...

    def metric(self, metric: str | None) -> Mapping[str, object]:
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
    """The largest |miss| at which the search for the last point that meets it may end."""


class Target(ABC):
    """What a user wants: a bound that the dial is moved to, or something that is to be as small as can be."""

    loosest: bool = True
    """Of all models that meet it the one nearest to the original is wanted; False: the most complete one."""
    least: bool = False
    """True where `value` is to be as small as can be, so that every model meets it."""
    metrics: Collection[str] = ()
    """Keys of `evaluate.metrics` that it reads beside the first."""
    retrained: bool = False
    """Whether it reads the retrained model, without which it is refused."""
    label: str
    """What it asks for, in one line."""
    unit: str = ""

    @abstractmethod
    def aim(self, model: Candidate, original: Candidate, retrained: Candidate | None) -> Aim:
        """Measure a model; raise `ValueError` with the reason where it cannot be measured."""

    def error(self, model: Candidate, original: Candidate, retrained: Candidate | None) -> float | None:
        """Return the standard error of `value` against `wanted` over images; None where the measure has none."""
        return None
