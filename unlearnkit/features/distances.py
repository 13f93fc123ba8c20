"""Metrics over the features of a frozen network."""

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from unlearnkit.contracts import Extractor, Metric, View


class OfFeatures(Metric):
    """Keep the features of outputs and targets until they are compared."""

    name: str
    better = "lower"

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.reset()

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        self.outputs.append(self.extractor.features(outputs))
        if self.compares:
            self.targets.append(self.extractor.features(targets))

    def reset(self) -> None:
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
        return {"name": f"{self.name} ({self.extractor.label})", "better": self.better, **self.extractor.describe()}


class Cosine(OfFeatures):
    """The cosine of the features of output and target, or one minus it; the mean over images."""

    def __init__(self, extractor: Extractor, name: str, *, distance: bool) -> None:
        super().__init__(extractor)
        self.name, self.distance, self.better = name, distance, "lower" if distance else "higher"

    def compute(self) -> Mapping[str, float]:
        cosine = F.cosine_similarity(*self.features(1))
        return {"value": float((1 - cosine if self.distance else cosine).mean())}


class Frechet(OfFeatures):
    """torchmetrics' Fréchet distance ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) (Heusel et al. 2017, eq. 6)."""

    name = "FID"

    def __init__(self, extractor: Extractor, *, few: bool = False) -> None:
        super().__init__(extractor)
        self.few = few

    def compute(self) -> Mapping[str, float]:
        """Return the distance; with no more images than features it is biased and asked for with `few`."""
        outputs, targets = self.features(2 if self.few else self.extractor.width + 1)
        given = nn.Identity()  # torchmetrics is handed features instead of images
        given.num_features = self.extractor.width  # type: ignore[assignment]
        metric = FrechetInceptionDistance(feature=given).set_dtype(torch.float64).to(outputs.device)
        metric.update(targets, real=True)
        metric.update(outputs, real=False)
        return {"value": float(metric.compute())}

    def describe(self) -> Mapping[str, object]:
        enough = f"more than {self.extractor.width}"
        return {**super().describe(), "images": f"{enough}; biased upwards with fewer" if self.few else enough}


class Kernel(OfFeatures):
    """torchmetrics' kernel distance (Bińkowski et al. 2018, eq. 4), as one subset of all images."""

    name = "KID"

    def compute(self) -> Mapping[str, float]:
        outputs, targets = self.features(2)
        # torchmetrics shuffles with torch's global generator; a subset of all images makes the order immaterial.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            torch.manual_seed(0)
            metric = KernelInceptionDistance(nn.Identity(), subsets=1, subset_size=len(outputs)).to(outputs.device)
            metric.update(targets, real=True)
            metric.update(outputs, real=False)
            return {"value": float(metric.compute()[0])}

    def describe(self) -> Mapping[str, object]:
        return {**super().describe(), "kernel": "(x·y/D + 1)³", "subsets": "one, of all images"}


class InceptionScore(OfFeatures):
    """The Inception Score exp(E KL(p(y|x) ‖ p(y))) (Salimans et al. 2016), torch-fidelity's mean over splits."""

    name, better, compares = "IS", "higher", False

    def __init__(self, extractor: Extractor, splits: int) -> None:
        super().__init__(extractor)
        self.splits = splits

    def compute(self) -> Mapping[str, float]:
        """Return the mean over exactly so many splits, and their deviation as `std` where there are several."""
        features, splits = self.features(1)[0], self.splits
        if (count := len(features)) < splits:
            raise ValueError(f"{count} images are too few for {splits} splits; set `splits` to far less than {count}")
        logits = self.extractor.logits(features.float()).double()
        # Images come class by class, so they are shuffled, in the order that torch-fidelity's seed gives.
        logits = logits[torch.from_numpy(np.random.RandomState(2020).permutation(count)).to(logits.device)]
        parts = logits.tensor_split([part * count // splits for part in range(1, splits)])
        scores = torch.stack([_inception_score(part) for part in parts])
        return {"value": float(scores.mean())} | ({"std": float(scores.std(correction=0))} if splits > 1 else {})

    def describe(self) -> Mapping[str, object]:
        return {**super().describe(), "splits": f"{self.splits}, of shuffled images"}


def _inception_score(logits: Tensor) -> Tensor:
    """Return exp(E KL(p(y|x) ‖ p(y))) of logits [N, K]."""
    known = logits.log_softmax(1)
    return (known.exp() * (known - known.exp().mean(0).log())).sum(1).mean().exp()
