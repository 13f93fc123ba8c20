"""What the built-in targets measure, and when they are met."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from unlearnkit.builtin.audits.compared import auc_error
from unlearnkit.contracts import Against, Aim, Audit, Candidate, Missing, Over, SetName, Split, Target
from unlearnkit.errors import UserError

PRECISION = 0.002
"""Part of a bound within which a search for it ends."""

CONFIDENCE = 1.96
"""Standard errors of an interval that holds nineteen times in twenty."""


def _unit(model: Candidate, metric: str) -> str:
    return str(model.metric(metric).get("unit") or "")


def _falls(model: Candidate, metric: str) -> float:
    """Return 1 where a lower value of a metric is the worse one, -1 where a higher one is."""
    return 1.0 if model.metric(metric).get("better") == "higher" else -1.0


def _squares(*errors: float | None) -> float | None:
    """Return the standard error of a difference; None where one of both is not known."""
    known = [error for error in errors if error is not None]
    return math.hypot(*known) if len(known) == len(errors) else None


class Epsilon(Target):
    """f1 is a value, or at a place of the valid range, which may be more than 1."""

    exact = True

    def __init__(self, value: float | None, fraction: float | None, label: str) -> None:
        self.value, self.fraction, self.label = value, fraction, label

    def aim(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> Aim:
        wanted = self.value
        if wanted is None:
            assert self.fraction is not None
            least, most = model.range
            wanted = least + self.fraction * (most - least)
        return Aim(model.f1, wanted, (model.f1 - wanted) / abs(wanted), PRECISION)


class Bound(Target):
    """A score is at most or at least a bound."""

    def __init__(self, name: SetName, split: Split, against: Against, metric: str, bound: float, most: bool) -> None:
        self.name, self.split, self.against, self.metric, self.bound, self.most = (
            name, split, against, metric, bound, most
        )  # fmt: skip
        self.loosest = name == "forget"
        unusual = [split] * (split == "train") + ["against the original"] * (against == "original")
        where = f" ({', '.join(unusual)})" if unusual else ""
        self.label = f"{name} {metric} {'≤' if most else '≥'} {bound:g}{where}"

    def aim(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> Aim:
        value = model.score(self.name, self.split, self.against, self.metric)
        miss = value - self.bound if self.most else self.bound - value
        return Aim(value, self.bound, miss, PRECISION * abs(self.bound), _unit(model, self.metric))

    def error(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> float | None:
        return model.spread(self.name, self.split, self.against, self.metric)


class RetainCost(Target):
    """The retain set's score has lost at most so much of the original model's."""

    loosest = False

    def __init__(self, most: float, split: Split, metric: str) -> None:
        self.most, self.split, self.metric = most, split, metric
        self.label = f"retain {metric} loses ≤ {most:g}{' (train)' if split == 'train' else ''}"

    def aim(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> Aim:
        before, after = (one.score("retain", self.split, "truth", self.metric) for one in (original, model))
        lost = _falls(model, self.metric) * (before - after)
        return Aim(lost, self.most, lost - self.most, PRECISION * self.most, _unit(model, self.metric))

    def error(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> float | None:
        return model.spread("retain", self.split, "truth", self.metric, original)


class Unseen(Target):
    """Training images of the forget set score as the original model's images of it that it was not trained on."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.label = f"as if never seen ({metric})"

    def aim(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> Aim:
        unseen = original.score("forget", "validation", "truth", self.metric)
        value = model.score("forget", "train", "truth", self.metric)
        miss = _falls(model, self.metric) * (value - unseen)
        return Aim(value, unseen, miss, PRECISION * abs(unseen), _unit(model, self.metric))

    def error(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> float | None:
        return _squares(
            model.spread("forget", "train", "truth", self.metric),
            original.spread("forget", "validation", "truth", self.metric),
        )


class NearRetrained(Target):
    """Scores of both sets on validation images are as near as can be to the mean of the retrained models'."""

    least = retrained = True

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.label = f"nearest to retrained ({metric})"

    def aim(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> Aim:
        def apart(name: SetName) -> float:
            value, *gold = (one.score(name, "validation", "truth", self.metric) for one in (model, *retrained))
            return value - fmean(gold)

        return Aim(math.hypot(apart("forget"), apart("retain")), None, 0.0, unit=_unit(model, self.metric))


class Audited(Target):
    """A figure of an audit is within its chance band, or within a bound."""

    def __init__(
        self, audit: Audit, figure: str, label: str, chance: bool, bound: float | None, side: Literal["most", "least"]
    ) -> None:
        """Hold the figure against 0.5 with the band of its counts where `chance`, or else against `bound`."""
        if figure not in audit.figures:
            raise UserError(f"the audit has no figure {figure}; it has: {', '.join(audit.figures)}")
        self.audit, self.figure, self.chance, self.bound, self.side = audit, figure, chance, bound, side
        self.label = label

    def aim(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> Aim:
        value = _number(model.findings(self.audit), self.figure)
        if self.chance:
            wanted, band = 0.5, CONFIDENCE * chance_error(model)
            return Aim(value, wanted, abs(value - wanted) - band, PRECISION)
        assert self.bound is not None
        miss = value - self.bound if self.side == "most" else self.bound - value
        return Aim(value, self.bound, miss, PRECISION * abs(self.bound))

    def error(self, model: Candidate, original: Candidate, retrained: Sequence[Candidate]) -> float | None:
        return chance_error(model) if self.chance else None


def chance_error(model: Candidate) -> float:
    """Return the standard deviation of an AUC of forget training against validation images that say nothing."""
    members, others = (len(model.items["forget"][split]) for split in ("train", "validation"))
    if not members or not others:
        raise ValueError("too few images: there are no forget validation images to tell training images from")
    return auc_error(members, others)


def _number(findings: Mapping[str, object], figure: str) -> float:
    match findings[figure]:
        case Missing(reason):
            raise ValueError(reason)
        case Over(most):
            return most
        case value:
            return float(value)  # type: ignore[arg-type]
