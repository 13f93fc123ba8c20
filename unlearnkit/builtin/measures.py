"""The code of the built-in metrics that compare pixels."""

from collections.abc import Mapping

import torch
from torch import Tensor

from unlearnkit.contracts import Metric, View


class Psnr(Metric):
    """PSNR in dB of each image over the whole image or over its hidden region, averaged over images."""

    def __init__(self, *, hidden: bool) -> None:
        self.hidden = hidden
        self.reset()

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        """Take a batch."""
        region = view.hidden if self.hidden and bool(view.hidden.any()) else None
        self.values.append(psnr(outputs, targets, region))

    def compute(self) -> Mapping[str, float]:
        """Return the mean."""
        return {"value": float(torch.cat(self.values).double().mean())}

    def reset(self) -> None:
        """Forget all batches."""
        self.values: list[Tensor] = []

    def describe(self) -> Mapping[str, object]:
        """Return unit and direction."""
        name = "PSNR, hidden region" if self.hidden else "PSNR"
        return {"name": name, "unit": "dB", "better": "higher", "cap": f"{CAP:g} dB for an identical image"}


CAP = 60.0
"""PSNR counted for images that are equal or nearly so, in dB."""


def psnr(outputs: Tensor, targets: Tensor, region: Tensor | None = None) -> Tensor:
    """Return the PSNR in dB of images [B, 3, H, W] in [0, 1], over the pixels where `region` [B, 1, H, W] is true."""
    error = (outputs - targets).square()
    if region is None:
        mean = error.flatten(1).mean(1)
    else:
        weight = region.expand_as(error).float()
        mean = (error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1)
    return -10 * mean.clamp(min=10 ** (-CAP / 10)).log10()


class Ssim(Metric):
    """Structural similarity with torchmetrics' Gaussian window."""

    def __init__(self, device: torch.device) -> None:
        # Half of a command's start-up time is this import, and only some recipes need it.
        from torchmetrics.image import StructuralSimilarityIndexMeasure

        self.metric = StructuralSimilarityIndexMeasure(data_range=1.0).to(device)

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        """Take a batch."""
        self.metric.update(outputs, targets)

    def compute(self) -> Mapping[str, float]:
        """Return the mean."""
        value = self.metric.compute()
        assert isinstance(value, Tensor)
        return {"value": float(value)}

    def reset(self) -> None:
        """Forget all batches."""
        self.metric.reset()

    def describe(self) -> Mapping[str, object]:
        """Return name, direction and window."""
        return {"name": "SSIM", "better": "higher", "window": "Gaussian of deviation 1.5 px, edges mirrored"}
