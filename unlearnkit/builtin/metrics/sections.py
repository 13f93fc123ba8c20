"""Measures of outputs against targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from unlearnkit import contracts, features, hookimpl
from unlearnkit.builtin import metrics
from unlearnkit.builtin.extractors.sections import Inception, MobileNetV2
from unlearnkit.recipe.numbers import Count
from unlearnkit.recipe.sections import ExtractorSection, MetricSection

if TYPE_CHECKING:
    import torch


class PSNR(MetricSection):
    """Peak signal-to-noise ratio over the whole image, mean over images."""

    kind: Literal["psnr"]
    """Peak signal-to-noise ratio."""

    def build(self, base: Path, device: torch.device) -> contracts.Metric:
        return metrics.Psnr(hidden=False)


class HiddenPSNR(MetricSection):
    """Peak signal-to-noise ratio over the pixels that the model had to fill in, mean over images.

    Of an image in which nothing is hidden, and which the task so degrades as a whole, these are all pixels.
    """

    kind: Literal["hidden-psnr"]
    """Peak signal-to-noise ratio of the hidden region."""

    def build(self, base: Path, device: torch.device) -> contracts.Metric:
        return metrics.Psnr(hidden=True)


class SSIM(MetricSection):
    """Structural similarity (Wang et al. 2004) over windows inside the image, mean over images."""

    kind: Literal["ssim"]
    """Structural similarity."""

    def build(self, base: Path, device: torch.device) -> contracts.Metric:
        return metrics.Ssim()


class _Featured(MetricSection):
    extractor: ExtractorSection = MobileNetV2()
    """Which network sees the images."""


class FeatureDistance(_Featured):
    """Cosine distance between the features of output and target, mean over images."""

    kind: Literal["feature-distance"]
    """Cosine distance of features."""

    def build(self, base: Path, device: torch.device) -> contracts.Metric:
        return features.Cosine(features.shared(self.extractor, base, device), "Feature distance", distance=True)


class FID(_Featured):
    """Fréchet distance between the features of outputs and targets (Heusel et al. 2017)."""

    kind: Literal["fid"]
    """Fréchet distance of features."""
    few: bool = False
    """Give a value for no more images than features too. It is biased upwards then: 300 real images against 300 others
    can score in the hundreds."""

    def build(self, base: Path, device: torch.device) -> contracts.Metric:
        return features.Frechet(features.shared(self.extractor, base, device), few=self.few)


class KID(_Featured):
    """Kernel distance between the features of outputs and targets, unbiased (Bińkowski et al. 2018)."""

    kind: Literal["kid"]
    """Kernel distance of features."""

    def build(self, base: Path, device: torch.device) -> contracts.Metric:
        return features.Kernel(features.shared(self.extractor, base, device))


class InceptionScore(MetricSection):
    """Inception Score of the outputs alone (Salimans et al. 2016), mean over splits; the targets play no part."""

    kind: Literal["inception-score"]
    """Inception Score."""
    extractor: ExtractorSection = Inception()
    """Which classifier sees the images."""
    splits: Count = 10
    """Into how many parts the shuffled images are split."""

    def build(self, base: Path, device: torch.device) -> contracts.Metric:
        return features.InceptionScore(features.shared(self.extractor, base, device), self.splits)


class LPIPS(MetricSection):
    """Learned perceptual distance, version 0.1 (Zhang et al. 2018), mean over images."""

    kind: Literal["lpips"]
    """Learned perceptual distance."""
    network: Literal["alex", "vgg", "squeeze"] = "alex"
    """Whose activations are compared: AlexNet, VGG-16 or SqueezeNet 1.1."""
    weights: str | None = None
    """That network's ImageNet weights, torchvision's file; left out, the one in torch's own cache. The weights of the
    channels come with torchmetrics."""
    size: Annotated[int, Field(ge=32)] | None = None
    """Side in pixels that images are resized to, bilinear with antialiasing; left out, they stay as they are."""

    def build(self, base: Path, device: torch.device) -> contracts.Metric:
        return metrics.Lpips(self.network, self.weights, self.size, base, device)


@hookimpl
def register_metrics() -> list[type[MetricSection]]:
    """Return the built-in metrics."""
    return [PSNR, HiddenPSNR, SSIM, LPIPS, FeatureDistance, FID, KID, InceptionScore]
