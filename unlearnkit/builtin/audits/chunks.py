"""What audits see of a set, view by view; without views, as of a missing validation split, they raise `ValueError`."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from unlearnkit.contracts import ModelAdapter, View, psnr, region_error

NO_VALIDATION = "there are no validation images of the forget set; give some in data.per_class"


@torch.no_grad()
def over(views: Iterable[View], found: Callable[[View], Tensor]) -> Tensor:
    """Return what is `found` in each of the views as one tensor, without gradients."""
    if not (chunks := [found(view) for view in views]):
        raise ValueError(NO_VALIDATION)
    return torch.cat(chunks)


def hidden_psnr(model: ModelAdapter, views: Iterable[View]) -> float:
    """Return the PSNR in dB of a model's outputs over what it was to make, a mean over images."""
    return float(over(views, lambda view: psnr(model.output(view), view.truth, view.region)).double().mean())


def error(model: ModelAdapter, views: Iterable[View]) -> float:
    """Return the squared error of a model's outputs over what it was to make, a mean over images."""
    return float(over(views, lambda view: region_error(model.output(view), view)).double().mean())
