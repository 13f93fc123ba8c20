"""What metric and extractor sections build."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from unlearnkit.contracts.view import View


class Extractor(ABC):
    """A frozen network that turns images into feature vectors; it never saw the model that is measured."""

    label: str
    """One or two words for a heading, such as `MobileNetV2 96`."""
    width: int
    """Length D of a feature vector."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return features [B, D] of images [B, 3, H, W] in [0, 1], without a gradient."""

    def logits(self, features: Tensor) -> Tensor:
        """Return a classifier's logits [B, K] of features [B, D]; raise `ValueError` where there is no classifier."""
        raise ValueError(f"{self.label} has no classifier")

    @abstractmethod
    def describe(self) -> Mapping[str, object]:
        """Return facts for the report: `extractor`, `weights_sha256`, `features`, `resize`."""


class Metric(ABC):
    """A measure that is fed batches and then computed; evaluation feeds deep copies of it."""

    compares: bool = True
    """False where the targets play no part, so that outputs equal to their targets are nothing special."""

    @abstractmethod
    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        """Take a batch of outputs and of what they are compared with, both [B, 3, H, W] in [0, 1]."""

    @abstractmethod
    def compute(self) -> Mapping[str, float]:
        """Return values by name, `value` for the metric's own; raise `ValueError` with the reason where it has none."""

    def each(self) -> Sequence[float] | None:
        """Return the score of each image in the order they came; None where only a whole set has one."""
        return None

    @abstractmethod
    def reset(self) -> None:
        """Forget all batches."""

    def describe(self) -> Mapping[str, object]:
        """Return facts for the report: `name`, `unit`, `better` (higher or lower), extractor, weights, resizing."""
        return {}


@dataclass(frozen=True)
class Failed:
    """An instrument, or a value of one, that is not to be had."""

    reason: str
    """Why, for the report."""
    traceback: str = field(default="", compare=False)
    """Where it failed, for the events; empty where the reason is all there is to know."""


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
