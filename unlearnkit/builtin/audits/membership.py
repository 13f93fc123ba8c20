"""Membership inference by a calibrated loss."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from unlearnkit.builtin.audits.compared import auc_band, yardsticks
from unlearnkit.contracts import (
    Audit,
    Case,
    Figure,
    Finding,
    Items,
    Missing,
    ModelAdapter,
    SetName,
    View,
    mean_colour_fill,
    region_error,
)

Calibration = Literal["difficulty", "original", "retrained", "none"]

POSITIVE = "the model's own loss is not positive on some image, so it has no logarithm; use another way"

FPR = 0.01
"""False positive rate at which the true positive rate is given."""


class Membership(Audit):
    """How well a threshold on a calibrated loss tells training images from validation images of the forget set."""

    needs_truth = True
    figures: Mapping[str, Figure] = {
        "auc": Figure(
            "AUC", "chance that a forget training image scores more like a member than a forget validation image; 0.5 "
            "where membership leaves no trace, and below 0.5 it shows as well, turned round", 0.5,
        ),
        "tpr": Figure(
            "TPR at 1 % FPR", "training images found where one in a hundred validation images is taken for one", 0.01
        ),
        "members": Figure("loss, members", "own loss, mean over forget training images", None),
        "others": Figure("loss, others", "own loss, mean over forget validation images", None),
    }  # fmt: skip

    def __init__(self, calibrate: Calibration, views: int) -> None:
        """Hold the loss of an image, a mean over so many views, against what `calibrate` names."""
        self.calibrate, self.views, self.needs_retrained = calibrate, views, calibrate == "retrained"
        if self.needs_retrained:
            self.figures = {**self.figures, "interpolated": Figure(
                "interpolated", "where the members' losses lie between the original model's, 0, and the retrained "
                "models', 1", "higher",
            ), "fitting": Figure(
                "fitting", "membership score of IAM, a mean over members: 0 where the model only generalises, 1 where "
                "it fits them", "lower",
            )}  # fmt: skip

    def samples(self, images: Items) -> str:
        members, others = _counts(images)
        said = f"{members} members (forget training images) against {others} others (forget validation images)."
        if chance := self.chance(images):
            said += f" Without any trace, AUC is within 0.5 ± {chance['auc']:.3f} nineteen times in twenty."
        return said

    def chance(self, images: Items) -> Mapping[str, float]:
        members, others = _counts(images)
        if not (members and others):
            return {}
        from scipy.stats import betabinom  # slow to import

        # Of members above the n-th highest of others there are as many as in a beta-binomial distribution.
        above = int(others * FPR)
        most = betabinom.ppf(0.95, members, above + 1, others - above) / members
        # No member at all above it is as near to none as there can be, and no trace.
        return {"auc": auc_band(members, others), "tpr": max(FPR, float(most) - FPR)}

    def examine(self, case: Case) -> Mapping[str, Finding]:
        found, difficulty, members = losses(case, self.calibrate, self.views, "forget")
        refuse_few(members, "forget")
        means: dict[str, Finding] = {
            "members": float(found[members].mean()), "others": float(found[~members].mean()),
        }  # fmt: skip
        if self.needs_retrained:
            before, difficulty = difficulty[:, 0], difficulty[:, 1:]
            means["interpolated"] = interpolated(found[members], before[members], difficulty[members])
            means["fitting"] = fitting(found[members], before[members], difficulty[members])
        score = calibrated(found, difficulty, self.calibrate)
        if float(score.std()) <= 1e-12 * float(found.std()):
            unset = Missing("every image has the same score, as the model is what it is calibrated by")
            return {"auc": unset, "tpr": unset, **means}
        return {"auc": auc(score, members), "tpr": tpr(score, members), **means}


class RetainLeakage(Audit):
    """How much more than the original a model tells retain training images from retain validation images."""

    figures: Mapping[str, Figure] = {
        "auc": Figure("AUC", "the same as in membership, of retain training against retain validation images", None),
        "excess": Figure("beyond the original", "that less the original's; above 0 unlearning gave some away", None),
    }  # fmt: skip

    def __init__(self, views: int) -> None:
        """Take the loss of an image as a mean over so many views."""
        self.views = views

    def samples(self, images: Items) -> str:
        members, others = _counts(images, "retain")
        near = auc_band(members, others)
        return (
            f"{members} members (retain training images) against {others} others (retain validation images). Without "
            f"any trace, AUC is within 0.5 ± {near:.3f} nineteen times in twenty."
        )

    def examine(self, case: Case) -> Mapping[str, Finding]:
        found = []
        for model in (case.model, case.reference):
            own, difficulty, members = losses(case, "difficulty", self.views, "retain", model)
            refuse_few(members, "retain")
            found.append(auc(calibrated(own, difficulty, "difficulty"), members))
        return {"auc": found[0], "excess": found[0] - found[1]}


def losses(
    case: Case, calibrate: Calibration, views: int, of: SetName, model: ModelAdapter | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for all images [N] of a set the own loss, what it is calibrated by [N, M], and which are for training.

    The losses under retrained models come after that under the original one.
    """
    others = [case.reference] if calibrate in ("original", "retrained") else []
    if calibrate == "retrained":
        others += yardsticks(case)

    def row(view: View) -> list[float]:
        losses = [float(one.own_loss(view.truth, view)) for one in (model or case.model, *others)]
        return losses if others else [*losses, float(region_error(mean_colour_fill(view), view))]

    @torch.no_grad()
    def half(split: Literal["train", "validation"]) -> Tensor:
        rows = [
            row(view[i : i + 1])
            for number in range(views)
            for view in case.views(of, split, number)
            for i in range(len(view.images))
        ]
        return torch.tensor(rows, dtype=torch.float64).reshape(views, -1, 1 + max(1, len(others))).mean(0)

    found = [half("train"), half("validation")]
    clean = torch.cat([_clean(case.items, split, of) for split in ("train", "validation")])
    members = (torch.arange(len(clean)) < len(found[0]))[clean]
    every = torch.cat(found)[clean]
    return every[:, 0], every[:, 1:], members


def refuse_few(members: Tensor, of: SetName) -> None:
    """Raise `ValueError` where all images [N] of a set are members, or none is."""
    if not 0 < int(members.sum()) < len(members):
        raise ValueError(f"too few images: there are no {of} validation images to tell training images from")


def clean_keys(images: Items, of: SetName = "forget") -> list[str]:
    """Return the keys of the images that `losses` are of, in their order."""
    halves = [(images[of][split], _clean(images, split, of).tolist()) for split in ("train", "validation")]
    return [item.key for items, clean in halves for item, its in zip(items, clean, strict=True) if its]


def _counts(images: Items, of: SetName = "forget") -> tuple[int, int]:
    """Return the numbers of members and of others."""
    members, others = (int(_clean(images, split, of).sum()) for split in ("train", "validation"))
    return members, others


def _clean(images: Items, split: str, of: SetName) -> Tensor:
    """Return which images [N] of a set are not poisoned: a poisoned one differs from others in more than membership."""
    return torch.tensor([item.columns.get("poisoned") != "yes" for item in images[of][split]], dtype=torch.bool)


def interpolated(losses: Tensor, before: Tensor, after: Tensor) -> Finding:
    """Return where losses [N] lie on the way from those before, 0, to those after [N, M], 1, by their logarithms."""
    if bool((torch.cat([losses, before, after.flatten()]) <= 0).any()):
        return Missing(POSITIVE)
    start = before.log()
    way = (after.log().mean(1) - start).mean()
    return float((losses.log() - start).mean() / way) if way > 0 else Missing("retrained models lose no more than it")


def fitting(losses: Tensor, before: Tensor, after: Tensor) -> Finding:
    """Return the mean of IAM's membership scores of images [N] (arXiv 2506.06112), by the rule of its released code.

    On the way from the scores of shadow models [N, M], which never saw an image, to those of the original at α = 1, a
    normal distribution stands at each of 99 places, its mean the shadows', its deviation that over images and shadows.
    The score of an image is the mean of the chances to lie below its own, weighted by the α of the place that follows.
    A score is −log of a loss here, where classifiers have a map of their confidence that is skewed (Gumbel).
    """
    if bool((torch.cat([losses, before, after.flatten()]) <= 0).any()):
        return Missing(POSITIVE)
    own, fit, shadows = -losses.log(), -before.log(), -after.log()
    alphas = torch.linspace(0, 1, 100, dtype=torch.float64)
    places = shadows + alphas[:-1, None, None] * (fit[:, None] - shadows)
    spread = places.std((1, 2), correction=0).clamp(min=1e-30)
    chances = torch.special.ndtr((own - places.mean(2)) / spread[:, None])
    return float((alphas[1:, None] * chances).sum(0).mean() / alphas[1:].sum())


def calibrated(losses: Tensor, difficulty: Tensor, how: Calibration) -> Tensor:
    """Return scores [N], higher for members: how far each loss is below what is expected of the image.

    `difficulty` is what to calibrate by [N, M]; for `difficulty` the expectation is the line that fits the logarithms
    of the losses best by the logarithms of the difficulties, for `retrained` the mean logarithm of these, of three or
    more in units of their deviation (Carlini et al. 2022, offline). Raise `ValueError` where a loss has no logarithm.
    """
    if how == "none":
        return -losses
    if how == "original":
        return difficulty[:, 0] - losses
    if bool((losses <= 0).any()):
        raise ValueError(POSITIVE)
    if how == "retrained":
        others = difficulty.clamp(min=1e-12).log()
        spread = others.std(1).clamp(min=1e-3) if others.shape[1] > 2 else 1.0
        return (others.mean(1) - losses.log()) / spread
    y, x = losses.log(), difficulty[:, 0].clamp(min=1e-8).log()
    x, y = x - x.mean(), y - y.mean()
    return -(y - x * (x @ y) / (x @ x).clamp(min=1e-12))


def auc(score: Tensor, members: Tensor) -> float:
    """Return the chance that a member's score is above another's, ties counted half (Mann and Whitney 1947)."""
    above = score[members][:, None] - score[~members][None]
    return float(((above > 0).double() + 0.5 * (above == 0).double()).mean())


def tpr(score: Tensor, members: Tensor) -> Finding:
    """Return the part of members above a threshold that at most 1 % of the others are above."""
    others = score[~members].sort(descending=True).values
    if len(others) * FPR < 1:
        needed = math.ceil(1 / FPR)
        return Missing(f"too few images: {len(others)} non-members, and 1 % of them is less than one; give {needed}")
    return float((score[members] > others[int(len(others) * FPR)]).double().mean())
