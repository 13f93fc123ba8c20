"""The code of the built-in audits."""

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from unlearnkit.audits import Audit, Case, Figure, Finding, Missing, SetName, Split, region_error
from unlearnkit.builtin import audits as sections
from unlearnkit.builtin.measures import psnr
from unlearnkit.contracts import ModelAdapter, View
from unlearnkit.pretrain import mean_colour_fill

Counts = Mapping[str, Mapping[str, int]]

FPR = 0.01
"""False positive rate at which the true positive rate is given."""


def hidden_psnr(model: ModelAdapter, views: Iterator[View]) -> float:
    """Return the mean PSNR in dB of a model's outputs over what it was to make; raise `ValueError` without images."""
    found = []
    with torch.no_grad():
        for view in views:
            assert view.truth is not None
            found.append(psnr(model.output(view), view.truth, view.region))
    if not found:
        raise ValueError("there are no validation images of the forget set; give some in data.per_class")
    return float(torch.cat(found).double().mean())


class FreshDecoder(Audit):
    """PSNR of forget images through a decoder that was trained anew on the frozen encoder."""

    def __init__(self, section: sections.FreshDecoder) -> None:
        self.section = section
        self.on: tuple[SetName, ...] = ("forget", "retain") if section.images == "both" else (section.images,)
        self.figures = {
            "own": Figure("own decoder", "PSNR over the hidden region, with the decoder as it is", "lower", "dB"),
            "fresh": Figure(
                "fresh decoder",
                "the same with a decoder trained anew on the frozen encoder: high where the embeddings still hold what "
                "the own decoder does not show",
                "lower",
                "dB",
            ),
        }

    def samples(self, counts: Counts) -> str:
        """Name both sets."""
        trained = " and ".join(f"{counts[name]['train']} {name}" for name in self.on)
        return (
            f"Measured on {counts['forget']['validation']} forget validation images; the decoder is trained for "
            f"{self.section.steps} steps on {trained} training images."
        )

    def examine(self, case: Case) -> Mapping[str, Finding]:
        """Return the PSNR with both decoders."""
        own = hidden_psnr(case.model, case.views("forget", "validation"))
        decoder = case.rest()
        case.refresh(decoder)
        for _ in case.train(decoder, self.on, self.section.steps, self.section.optimizer, decay=0.5):
            pass
        return {"own": own, "fresh": hidden_psnr(case.model, case.views("forget", "validation"))}


class Membership(Audit):
    """How well a threshold on a calibrated loss tells training images from validation images of the forget set."""

    figures: Mapping[str, Figure] = {
        "auc": Figure(
            "AUC",
            "chance that a forget training image scores more like a member than a forget validation image; 0.5 where "
            "membership leaves no trace, and below 0.5 it shows as well, turned round",
            0.5,
        ),
        "tpr": Figure(
            "TPR at 1 % FPR", "training images found where one in a hundred validation images is taken for one", 0.01
        ),
        "members": Figure("loss, members", "own loss, mean over forget training images", None),
        "others": Figure("loss, others", "own loss, mean over forget validation images", None),
    }

    def __init__(self, section: sections.Membership) -> None:
        self.section = section

    def samples(self, counts: Counts) -> str:
        """Name both groups, and how far AUC strays by chance."""
        members, others = counts["forget"]["train"], counts["forget"]["validation"]
        said = f"{members} members (forget training images) against {others} others (forget validation images)."
        if members and others:
            spread = 2 * math.sqrt((members + others + 1) / (12 * members * others))
            said += f" Without any trace, AUC is within 0.5 ± {spread:.3f} nineteen times in twenty."
        return said

    def examine(self, case: Case) -> Mapping[str, Finding]:
        """Return AUC, TPR at 1 % FPR and both mean losses."""
        losses, difficulty, members = _losses(case, self.section)
        if not 0 < int(members.sum()) < len(members):
            raise ValueError("too few images: there are no forget validation images to tell training images from")
        means = {"members": float(losses[members].mean()), "others": float(losses[~members].mean())}
        score = -losses if difficulty is None else calibrated(losses, difficulty, self.section.calibrate)
        if float(score.std()) <= 1e-12 * float(losses.std()):
            unset = Missing("every image has the same score, as the model is what it is calibrated by")
            return {"auc": unset, "tpr": unset, **means}
        return {"auc": auc(score, members), "tpr": tpr(score, members), **means}


def _losses(case: Case, section: sections.Membership) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return for all forget images [N] the own loss, what it is calibrated by, and which are training images."""
    found: list[tuple[float, float]] = []
    splits: tuple[Split, ...] = ("train", "validation")
    for split in splits:
        total: list[Tensor] = []
        for number in range(section.views):
            rows = [
                _row(case, section.calibrate, view[i : i + 1])
                for view in case.views("forget", split, number)
                for i in range(len(view.images))
            ]
            total.append(torch.tensor(rows, dtype=torch.float64).reshape(-1, 2))
        found += torch.stack(total).mean(0).tolist()
    members = torch.arange(len(found)) < case.counts["forget"]["train"]
    table = torch.tensor(found, dtype=torch.float64).reshape(-1, 2)
    return table[:, 0], None if section.calibrate == "none" else table[:, 1], members


def _row(case: Case, calibrate: str, view: View) -> tuple[float, float]:
    """Return the own loss of one image and what it is calibrated by."""
    assert view.truth is not None
    with torch.no_grad():
        loss = float(case.model.own_loss(view.truth, view))
        if calibrate == "original":
            return loss, float(case.reference.own_loss(view.truth, view))
        return loss, float(region_error(mean_colour_fill(view), view))


def calibrated(losses: Tensor, difficulty: Tensor, how: Literal["difficulty", "original", "none"]) -> Tensor:
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
