"""Audits: tests of whether a model has really forgotten, run for the original model and for every solution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from unlearnkit import contracts, features, hookimpl
from unlearnkit.builtin import audits
from unlearnkit.builtin.extractors.sections import MobileNetV2
from unlearnkit.recipe.numbers import Count
from unlearnkit.recipe.sections import AuditSection, ExtractorSection
from unlearnkit.recipe.training import SGD, AdamW

if TYPE_CHECKING:
    import torch

Optimizer = Annotated[AdamW | SGD, Field(discriminator="kind")]


class Membership(AuditSection):
    """Membership inference: tell forget training images from forget validation images by their loss alone."""

    kind: Literal["membership"]
    """Membership inference by the model's own loss."""
    calibrate: Literal["difficulty", "original", "none"] = "difficulty"
    """What the loss of an image is held against. `difficulty`: what its logarithm would be by the squared error of a
    fill with the mean colour of what is visible, fitted over all images. `original`: its loss under the original model,
    whose own row is empty then. `none`: nothing."""
    views: Count = 1
    """Views of each image that its loss is a mean over; more for a random task or a model that draws noise."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.Membership(self.calibrate, self.views)


class FreshDecoder(AuditSection):
    """Train a freshly initialised decoder on the frozen encoder, to see what the embeddings still hold."""

    kind: Literal["fresh-decoder"]
    """A new decoder on the frozen encoder."""
    images: Literal["forget", "retain", "both"] = "forget"
    """Which training images the decoder is trained on, with the model's own loss; with both the losses are added."""
    steps: Count = 200
    """Steps of its training, the last half of them with a falling learning rate."""
    optimizer: Optimizer | None = None
    """Its optimiser; that of `training` when left out."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        on: Sequence[contracts.SetName] = ("forget", "retain") if self.images == "both" else (self.images,)
        return audits.FreshDecoder(on, self.steps, self.optimizer)


class Relearning(AuditSection):
    """Fine-tune with the model's own loss and count the steps until the forget images come back."""

    kind: Literal["relearning"]
    """Steps until the forget images come back."""
    images: Annotated[list[Literal["forget", "retain"]], Field(min_length=1)] = ["forget", "retain"]  # noqa: RUF012
    """The training images of which set it is fine-tuned on, each from the audited weights: the forget images
    themselves, or benign ones."""
    recovered: Annotated[float, Field(gt=0, le=1)] = 0.9
    """When they are back: the original's squared error on forget validation images, over that of the model."""
    steps: Count = 100
    """Steps at most."""
    every: Count = 5
    """Steps from one look at the validation images to the next."""
    optimizer: Optimizer | None = None
    """Its optimiser, at a constant learning rate; that of `training` when left out."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        on = tuple(dict.fromkeys(self.images))
        return audits.Relearning(on, self.recovered, self.steps, self.every, self.optimizer)


class CopySimilarity(AuditSection):
    """Find for each forget output the most similar forget training image, by the cosine of their features.

    Where one part of all images is hidden, that part alone is compared, so that the visible context does not count.
    """

    kind: Literal["copy-similarity"]
    """The nearest training image of each output."""
    extractor: ExtractorSection = MobileNetV2()
    """Which network sees the images."""
    outputs: Literal["train", "validation"] = "train"
    """Outputs for which forget images."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.CopySimilarity(self.outputs, features.shared(self.extractor, base, device))


class Backdoor(AuditSection):
    """Show the trigger of a poisoned model, and see whether it still brings its target out (Varshney and Torra 2025).

    It needs `data.source: {kind: poisoned, ...}` and a model that was trained on it. Trigger, rate and measure are not
    known from the paper and were chosen here. The forget validation images are shown, or where there are none those of
    the retain set; none of them is poisoned.
    """

    kind: Literal["backdoor"]
    """Whether a planted trigger still works."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.Backdoor()


@hookimpl
def register_audits() -> list[type[AuditSection]]:
    """Return the built-in audits."""
    return [Membership, FreshDecoder, Relearning, CopySimilarity, Backdoor]
