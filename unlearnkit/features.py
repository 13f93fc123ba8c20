"""Metrics over the features of a frozen network, and what a plugin needs to bring such a network."""

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as TorchInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from unlearnkit.contracts import Extractor, Metric, View
from unlearnkit.recipe.sections import ExtractorSection

ROOM = 2**30
"""Bytes of features that an extractor remembers."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation that networks of ImageNet take their pixels with."""


class Network(Extractor):
    """A network that sees images resized with antialiasing, then normalised; maps [B, D, h, w] are mean-pooled."""

    def __init__(
        self,
        module: Callable[[Tensor], Tensor],
        device: torch.device,
        *,
        name: str,
        size: int,
        weights_sha256: str,
        interpolation: str = "bilinear",
        normalize: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
        classifier: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Take a frozen `module` on `device` in evaluation mode, of images [B, 3, size, size].

        `interpolation` is `bilinear` or `bicubic`; `normalize` is mean and deviation of each channel.
        """
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
        """Return features [B, D]."""
        found = self.module(self.prepared(images))
        return found.flatten(2).mean(2) if found.ndim > 2 else found

    def logits(self, features: Tensor) -> Tensor:
        """Return logits [B, K]; raise `ValueError` without a classifier."""
        if self.classifier is None:
            return super().logits(features)
        with torch.no_grad():
            return self.classifier(features)

    def describe(self) -> Mapping[str, object]:
        """Return name, hash, width and resizing."""
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
        """Return features [B, D], computed where these very images were not seen lately."""
        pixels = images.cpu().contiguous().numpy()
        key = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).digest()
        if key not in self._seen:
            self._seen[key] = self.extractor.features(images)
            self._bytes += self._seen[key].nbytes
            while self._bytes > ROOM and len(self._seen) > 1:
                self._bytes -= self._seen.popitem(last=False)[1].nbytes
        return self._seen[key]

    def logits(self, features: Tensor) -> Tensor:
        """Return logits [B, K]; raise `ValueError` without a classifier."""
        return self.extractor.logits(features)

    def describe(self) -> Mapping[str, object]:
        """Return the extractor's facts."""
        return self.extractor.describe()


@lru_cache(maxsize=8)
def shared(section: ExtractorSection, base: Path, device: torch.device) -> Remembered:
    """Return the extractor of a section, one for all metrics; raise `UserError` where its weights are missing."""
    return Remembered(section.build(base, device))


class OfFeatures(Metric):
    """Keep the features of outputs and targets until they are compared."""

    name: str
    better = "lower"

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.reset()

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        """Take a batch."""
        self.outputs.append(self.extractor.features(outputs))
        if self.compares:
            self.targets.append(self.extractor.features(targets))

    def reset(self) -> None:
        """Forget all batches."""
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []

    def features(self, fewest: int) -> tuple[Tensor, Tensor]:
        """Return the features of outputs and targets in float64, [N, D] each; raise `ValueError` for too few images."""
        count = sum(map(len, self.outputs))
        if count < fewest:
            raise ValueError(f"{count} images are too few; it needs {fewest}")
        outputs = torch.cat(self.outputs).double()
        return outputs, torch.cat(self.targets).double() if self.compares else outputs[:0]

    def describe(self) -> Mapping[str, object]:
        """Return name, direction and extractor."""
        return {"name": f"{self.name} ({self.extractor.label})", "better": self.better, **self.extractor.describe()}


class Cosine(OfFeatures):
    """The cosine of the features of output and target, or one minus it; the mean over images."""

    def __init__(self, extractor: Extractor, name: str, *, distance: bool) -> None:
        super().__init__(extractor)
        self.name, self.distance, self.better = name, distance, "lower" if distance else "higher"

    def compute(self) -> Mapping[str, float]:
        """Return the mean."""
        cosine = F.cosine_similarity(*self.features(1))
        return {"value": float((1 - cosine if self.distance else cosine).mean())}


class _Given(nn.Identity):
    """A stand-in extractor for torchmetrics, which is handed features instead of images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


class Frechet(OfFeatures):
    """torchmetrics' Fréchet distance ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) (Heusel et al. 2017, eq. 6)."""

    name = "FID"

    def __init__(self, extractor: Extractor, *, few: bool = False) -> None:
        super().__init__(extractor)
        self.few = few

    def compute(self) -> Mapping[str, float]:
        """Return the distance; with no more images than features it is biased and asked for with `few`."""
        outputs, targets = self.features(2 if self.few else self.extractor.width + 1)
        metric = FrechetInceptionDistance(feature=_Given(self.extractor.width)).set_dtype(torch.float64)
        metric = metric.to(outputs.device)
        metric.update(targets, real=True)
        metric.update(outputs, real=False)
        return {"value": float(metric.compute())}

    def describe(self) -> Mapping[str, object]:
        """Return the facts, and how many images it takes."""
        enough = f"more than {self.extractor.width}"
        return {**super().describe(), "images": f"{enough}; biased upwards with fewer" if self.few else enough}


class Kernel(OfFeatures):
    """torchmetrics' kernel distance (Bińkowski et al. 2018, eq. 4), as one subset of all images."""

    name = "KID"

    def compute(self) -> Mapping[str, float]:
        """Return the unbiased estimate."""
        outputs, targets = self.features(2)
        # torchmetrics shuffles with torch's global generator; a subset of all images makes the order immaterial.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            torch.manual_seed(0)
            given = _Given(self.extractor.width)
            metric = KernelInceptionDistance(feature=given, subsets=1, subset_size=len(outputs)).to(outputs.device)
            metric.update(targets, real=True)
            metric.update(outputs, real=False)
            return {"value": float(metric.compute()[0])}

    def describe(self) -> Mapping[str, object]:
        """Return the facts, and the kernel."""
        return {**super().describe(), "kernel": "(x·y/D + 1)³", "subsets": "one, of all images"}


class InceptionScore(OfFeatures):
    """torchmetrics' Inception Score exp(E KL(p(y|x) ‖ p(y))) (Salimans et al. 2016), the mean over splits."""

    name, better, compares = "IS", "higher", False

    def __init__(self, extractor: Extractor, splits: int) -> None:
        super().__init__(extractor)
        self.splits = splits

    def compute(self) -> Mapping[str, float]:
        """Return the mean over splits, and their deviation as `std` where there are several."""
        logits = self.extractor.logits(self.features(self.splits)[0].float())
        # Images come class by class, so they are shuffled; torchmetrics takes torch's global generator for it.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            torch.manual_seed(0)
            metric = TorchInceptionScore(feature=_Given(logits.shape[1]), splits=self.splits).to(logits.device)
            metric.update(logits.double())
            mean, std = metric.compute()
        return {"value": float(mean)} | ({"std": float(std)} if self.splits > 1 else {})

    def describe(self) -> Mapping[str, object]:
        """Return the facts, and the splits."""
        return {**super().describe(), "splits": f"{self.splits}, of shuffled images"}
