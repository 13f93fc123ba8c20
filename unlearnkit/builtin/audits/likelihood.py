"""Membership of each image by itself, against shadow models that were trained on it and unlearned."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unlearnkit.builtin.audits.membership import POSITIVE, Membership, auc, clean_keys, losses, refuse_few, tpr
from unlearnkit.contracts import Case, Figure, Finding, Items, Missing, Shadow, Shadows

FEW = 2
"""Shadow models of each sort that an image needs at least."""


class ULiRA(Membership):
    """How well a likelihood ratio tells training images from validation images of the forget set."""

    figures: Mapping[str, Figure] = {
        "auc": Figure(
            "AUC", "chance that a forget training image is likelier to have been unlearned than a forget validation "
            "image, as shadow models tell; 0.5 where nothing tells it from one that was never there", 0.5,
        ),
        "tpr": Membership.figures["tpr"],
        "apart": Figure(
            "shadows apart", "log loss of an image under shadow models that never had it less that under those that "
            "unlearned it, a mean over images, in units of the deviation over models", None,
        ),
    }  # fmt: skip

    def __init__(self, shadows: int, steps: int | None, views: int) -> None:
        """Take so many shadow models, trained for so many steps, and the loss of an image as a mean over views."""
        super().__init__("none", views)
        self.count, self.shadows = shadows, Shadows(shadows, steps)

    def samples(self, images: Items) -> str:
        return f"{super().samples(images)} Each has {self.count // 2} of {self.count} shadow models that had it."

    def remember(self, case: Case) -> Mapping[str, float]:
        own, _, _ = losses(case, "none", self.views, "forget")
        return dict(zip(clean_keys(case.items), own.tolist(), strict=True))

    def examine(self, case: Case) -> Mapping[str, Finding]:
        own, _, members = losses(case, "none", self.views, "forget")
        refuse_few(members, "forget")
        if lack := lacking(keys := clean_keys(case.items), case.shadows):
            return dict.fromkeys(self.figures, Missing(lack))
        score, apart = ratios(own, keys, case.shadows)
        return {"auc": auc(score, members), "tpr": tpr(score, members), "apart": apart}


def lacking(keys: Sequence[str], shadows: Sequence[Shadow]) -> str | None:
    """Return what is wrong where some image has fewer than two shadow models that had it, or that had not."""
    had = [sum(key in shadow.members for shadow in shadows) for key in keys]
    if all(FEW <= count <= len(shadows) - FEW for count in had):
        return None
    there = f"{len(shadows)} shadow models were unlearned as this model was, and each image needs {FEW} that had it"
    return f"{there} and {FEW} that had not; there are none of a target, or of an ε out of their range"


def ratios(own: Tensor, keys: Sequence[str], shadows: Sequence[Shadow]) -> tuple[Tensor, float]:
    """Return log p(loss | unlearned) − log p(loss | never had) of images [N], and how far apart both are on average.

    Log losses are normal in both (Hayes et al. 2024, after Carlini et al. 2022), with a mean for each image and, as the
    shadow models are few, one deviation over all images. Raise `ValueError` where a loss has no logarithm.
    """
    had = torch.tensor([[key in shadow.members for key in keys] for shadow in shadows], dtype=torch.bool)
    found = torch.tensor([[shadow.found[key] for key in keys] for shadow in shadows], dtype=torch.float64)
    if bool((found <= 0).any() or (own <= 0).any()):
        raise ValueError(POSITIVE)
    (unlearned, narrow), (never, wide) = _fitted(found.log(), had), _fitted(found.log(), ~had)
    distances = ((own.log() - mean) ** 2 / (2 * variance) for mean, variance in ((never, wide), (unlearned, narrow)))
    score = next(distances) - next(distances) + (wide / narrow).log() / 2
    return score, float(((never - unlearned) / ((narrow + wide) / 2).sqrt()).mean())


def _fitted(logs: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each column over the rows that count, and the variance around them over all columns."""
    counts = which.sum(0)
    means = torch.where(which, logs, 0.0).sum(0) / counts
    squares = torch.where(which, (logs - means) ** 2, 0.0).sum()
    return means, (squares / (counts - 1).sum()).clamp(min=1e-12)
