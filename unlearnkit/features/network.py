"""Frozen networks as extractors, and what a plugin needs to bring one."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnkit.contracts import Extractor
from unlearnkit.recipe.sections import ExtractorSection

ROOM = 2**30
"""Bytes of features that an extractor remembers."""

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each channel."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation that networks of ImageNet take their pixels with."""


class Network(Extractor):
    """A network that sees images resized with antialiasing, then normalised; maps [B, D, h, w] are mean-pooled."""

    def __init__(
        self, module: Callable[[Tensor], Tensor], device: torch.device, *, name: str, size: int, weights_sha256: str,
        interpolation: str = "bilinear", normalize: Normalization = IMAGENET,
        classifier: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        """Take a frozen `module` of images [B, 3, size, size] in evaluation mode; `bilinear` or `bicubic` resizing."""
        self.module, self.name, self.size, self.interpolation = module, name, size, interpolation
        self.weights_sha256, self.classifier = weights_sha256, classifier
        self.mean, self.std = (torch.tensor(values, device=device)[:, None, None] for values in normalize)
        self.width = self.features(torch.zeros(1, 3, size, size, device=device)).shape[1]
        self.label = f"{name} {self.width}"

    def prepared(self, images: Tensor) -> Tensor:
        """Return images [B, 3, H, W] in [0, 1] as the module takes them."""
        resized = F.interpolate(images, self.size, mode=self.interpolation, antialias=True, align_corners=False)
        return (resized - self.mean) / self.std

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        found = self.module(self.prepared(images))
        return found.flatten(2).mean(2) if found.ndim > 2 else found

    def logits(self, features: Tensor) -> Tensor:
        if self.classifier is None:
            return super().logits(features)
        with torch.no_grad():
            return self.classifier(features)

    def describe(self) -> Mapping[str, object]:
        return {
            "extractor": self.name,
            "weights_sha256": self.weights_sha256,
            "features": self.width,
            "resize": f"{self.size} px, {self.interpolation}, antialiased",
        }


class Remembered(Extractor):
    """An extractor that remembers features by the images' content, so that no image is seen twice."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor, self.label, self.width = extractor, extractor.label, extractor.width
        self._seen: OrderedDict[bytes, Tensor] = OrderedDict()
        self._bytes = 0

    def __deepcopy__(self, memo: dict[int, object]) -> "Remembered":
        """Return itself: copies of a metric share the network and what it has seen."""
        return self

    def features(self, images: Tensor) -> Tensor:
        pixels = images.cpu().contiguous().numpy()
        key = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).digest()
        if key not in self._seen:
            self._seen[key] = self.extractor.features(images)
            self._bytes += self._seen[key].nbytes
            while self._bytes > ROOM and len(self._seen) > 1:
                self._bytes -= self._seen.popitem(last=False)[1].nbytes
        return self._seen[key]

    def logits(self, features: Tensor) -> Tensor:
        return self.extractor.logits(features)

    def describe(self) -> Mapping[str, object]:
        return self.extractor.describe()


@lru_cache(maxsize=8)
def shared(section: ExtractorSection, base: Path, device: torch.device) -> Remembered:
    """Return the extractor of a section, one for all metrics; raise `UserError` where its weights are missing."""
    return Remembered(section.build(base, device))
