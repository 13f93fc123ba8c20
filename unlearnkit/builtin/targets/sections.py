"""Targets: what a user wants of a model, which is looked for on the dial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from unlearnkit import contracts, hookimpl
from unlearnkit.builtin import targets
from unlearnkit.errors import UserError
from unlearnkit.recipe.numbers import Positive
from unlearnkit.recipe.sections import AuditSection, TargetSection
from unlearnkit.recipe.training import asked

if TYPE_CHECKING:
    import torch

METRIC = "A key of `evaluate.metrics`; the first metric when left out."


def named(metric: str | None, metrics: Sequence[str]) -> str:
    """Return a key of `evaluate.metrics`; raise `UserError` where there is none of that name, or none at all."""
    if metric is None and metrics:
        return metrics[0]
    if metric is None or metric not in metrics:
        raise UserError(f"evaluate.metrics has no {metric or 'metric'}; it has: {', '.join(metrics) or 'none'}")
    return metric


class Epsilon(TargetSection):
    """An ε by its value or its place, found without training."""

    kind: Literal["epsilon"]
    """A bound on f1."""
    value: float | None = None
    """The value of f1; give this or `fraction`."""
    fraction: Annotated[float, Field(ge=0)] | None = None
    """Its place in the valid range; beyond 1 it lies between the lowest completeness and the original model."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.value is None) == (self.fraction is None):
            raise ValueError("give value or fraction, one of both")
        if self.value == 0:
            raise ValueError("f1 is held against ε as a part of it, so that ε cannot be 0; give another value")
        return self

    def name(self) -> tuple[str, str]:
        return asked(self.fraction, self.value)

    def build(self, base: Path, device: torch.device, metrics: Sequence[str]) -> contracts.Target:
        return targets.Epsilon(self.value, self.fraction, asked(self.fraction, self.value)[1])


class _Bounded(TargetSection):
    at_most: float | None = None
    """The largest value; give this or `at_least`."""
    at_least: float | None = None
    """The smallest value."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give at_most or at_least, one of both")
        return self

    @property
    def bound(self) -> float:
        """The largest value or else the smallest one."""
        bound = self.at_least if self.at_most is None else self.at_most
        assert bound is not None
        return bound


class Score(_Bounded):
    """A score of results.json is at most or at least a bound: of the forget set, as loose as meets it."""

    kind: Literal["score"]
    """A bound on a score."""
    set: Literal["forget", "retain"] = "forget"
    """Whose images; for the retain set the most complete solution that meets it is wanted."""
    split: Literal["train", "validation"] = "validation"
    """Which images."""
    against: Literal["truth", "original"] = "truth"
    """What outputs are compared with."""
    metric: str | None = Field(None, description=METRIC)

    def build(self, base: Path, device: torch.device, metrics: Sequence[str]) -> contracts.Target:
        most = self.at_most is not None
        return targets.Bound(self.set, self.split, self.against, named(self.metric, metrics), self.bound, most)


class RetainCost(TargetSection):
    """The most complete solution whose retain set loses at most so much of the original model's score."""

    kind: Literal["retain-cost"]
    """A bound on what the retain set loses."""
    at_most: Positive
    """The largest loss, in the metric's unit."""
    split: Literal["train", "validation"] = "validation"
    """Which images."""
    metric: str | None = Field(None, description=METRIC)

    def build(self, base: Path, device: torch.device, metrics: Sequence[str]) -> contracts.Target:
        return targets.RetainCost(self.at_most, self.split, named(self.metric, metrics))


class Unseen(TargetSection):
    """As if it had never seen them: forget training images score as forget validation images do in the original."""

    kind: Literal["unseen"]
    """The level of images that the original model was not trained on."""
    metric: str | None = Field(None, description=METRIC)

    def build(self, base: Path, device: torch.device, metrics: Sequence[str]) -> contracts.Target:
        return targets.Unseen(named(self.metric, metrics))


class NearRetrained(TargetSection):
    """Where the scores of both sets come nearest to those of the retrained model, or the mean of several."""

    kind: Literal["retrained"]
    """Nearest to a model that never saw the forget set."""
    metric: str | None = Field(None, description=METRIC)

    def build(self, base: Path, device: torch.device, metrics: Sequence[str]) -> contracts.Target:
        return targets.NearRetrained(named(self.metric, metrics))


class Membership(TargetSection):
    """The loosest solution in which an audit finds forget training images no better than chance would."""

    kind: Literal["membership"]
    """An AUC within its chance band."""
    audit: AuditSection = Field({"kind": "membership"}, validate_default=True)
    """An audit that has an AUC of forget training against forget validation images."""
    figure: str = "auc"
    """That figure of it."""

    def build(self, base: Path, device: torch.device, metrics: Sequence[str]) -> contracts.Target:
        label = f"{self.audit.kind} {self.figure} within chance"
        return targets.Audited(self.audit.build(base, device), self.figure, label, True, None, "most")


class Audited(_Bounded):
    """A figure of an audit is at most or at least a bound."""

    kind: Literal["audit"]
    """A bound on what an audit finds."""
    audit: AuditSection
    """The audit."""
    figure: str
    """Which of its figures."""

    def build(self, base: Path, device: torch.device, metrics: Sequence[str]) -> contracts.Target:
        side: Literal["most", "least"] = "most" if self.at_most is not None else "least"
        label = f"{self.audit.kind} {self.figure} {'≤' if side == 'most' else '≥'} {self.bound:g}"
        return targets.Audited(self.audit.build(base, device), self.figure, label, False, self.bound, side)


@hookimpl
def register_targets() -> list[type[TargetSection]]:
    """Return the built-in targets."""
    return [Epsilon, Score, RetainCost, Unseen, NearRetrained, Membership, Audited]
