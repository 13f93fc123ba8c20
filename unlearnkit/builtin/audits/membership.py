"""Membership inference by a calibrated loss."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from unlearnkit.contracts import Audit, Case, Figure, Finding, Items, Missing, View, mean_colour_fill, region_error

Calibration = Literal["difficulty", "original", "none"]

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
        self.calibrate, self.views = calibrate, views

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
        return {"auc": 2 * math.sqrt((members + others + 1) / (12 * members * others)), "tpr": float(most) - FPR}

    def examine(self, case: Case) -> Mapping[str, Finding]:
        losses, difficulty, members = _losses(case, self.calibrate, self.views)
        if not 0 < int(members.sum()) < len(members):
            raise ValueError("too few images: there are no forget validation images to tell training images from")
        means = {"members": float(losses[members].mean()), "others": float(losses[~members].mean())}
        score = -losses if difficulty is None else calibrated(losses, difficulty, self.calibrate)
        if float(score.std()) <= 1e-12 * float(losses.std()):
            unset = Missing("every image has the same score, as the model is what it is calibrated by")
            return {"auc": unset, "tpr": unset, **means}
        return {"auc": auc(score, members), "tpr": tpr(score, members), **means}


def _losses(case: Case, calibrate: Calibration, views: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return for all forget images [N] the own loss, what it is calibrated by, and which are training images."""

    def row(view: View) -> tuple[float, float]:
        loss = float(case.model.own_loss(view.truth, view))
        if calibrate == "original":
            return loss, float(case.reference.own_loss(view.truth, view))
        return loss, float(region_error(mean_colour_fill(view), view))

    @torch.no_grad()
    def of(split: Literal["train", "validation"]) -> Tensor:
        rows = [
            row(view[i : i + 1])
            for number in range(views)
            for view in case.views("forget", split, number)
            for i in range(len(view.images))
        ]
        return torch.tensor(rows, dtype=torch.float64).reshape(views, -1, 2).mean(0)

    found = [of("train"), of("validation")]
    clean = torch.cat([_clean(case.items, split) for split in ("train", "validation")])
    members = (torch.arange(len(clean)) < len(found[0]))[clean]
    losses, difficulty = torch.cat(found)[clean].T
    return losses, None if calibrate == "none" else difficulty, members


def _counts(images: Items) -> tuple[int, int]:
    """Return the numbers of members and of others."""
    members, others = (int(_clean(images, split).sum()) for split in ("train", "validation"))
    return members, others


def _clean(images: Items, split: str) -> Tensor:
    """Return which forget images [N] are not poisoned: a poisoned one differs from others in more than membership."""
    return torch.tensor([item.columns.get("poisoned") != "yes" for item in images["forget"][split]], dtype=torch.bool)


def calibrated(losses: Tensor, difficulty: Tensor, how: Calibration) -> Tensor:
    """Return scores [N], higher for members: how far each loss is below what is expected of the image.

    `difficulty` is what to calibrate by [N]; for `difficulty` the expectation is the line that fits the logarithms of
    the losses best by the logarithms of the difficulties. Raise `ValueError` where a loss has no logarithm.
    """
    if how == "original":
        return difficulty - losses
    if bool((losses <= 0).any()):
        raise ValueError("the model's own loss is not positive on some image, so it has no logarithm; use another way")
    y, x = losses.log(), difficulty.clamp(min=1e-8).log()
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
