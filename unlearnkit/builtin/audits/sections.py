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
    calibrate: Literal["difficulty", "original", "retrained", "none"] = "difficulty"
    """What the loss of an image is held against. `difficulty`: what its logarithm would be by the squared error of a
    fill with the mean colour of what is visible, fitted over all images. `original`: its loss under the original model,
    whose own row is empty then. `retrained`: its logarithm under the retrained models of `compare`, whose AUC tells the
    members that the model still knows one by one; three seeds of them or more give it in units of their deviation.
    `none`: nothing."""
    views: Count = 1
    """Views of each image that its loss is a mean over; more for a random task or a model that draws noise."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.Membership(self.calibrate, self.views)


class ULiRA(AuditSection):
    """Membership of each image by itself: was it unlearned, or never there (U-LiRA; Hayes et al. 2024).

    Shadow models are trained from scratch on the retain set and on one half each of all forget images, and that half is
    unlearned by all problems of the recipe but targets. A model is held against those of its own problem; one that was
    trained from scratch, and the original, against shadow models that have not unlearned yet. Adapters are taken as
    well, but a shadow model's training moves all weights.
    """

    kind: Literal["u-lira"]
    """Membership by shadow models."""
    shadows: Annotated[int, Field(ge=4, le=512, multiple_of=2)] = 16
    """How many; each forget image is among the training images of half of them."""
    steps: Count | None = None
    """Steps of their training, with the optimiser, batch size and crop of the record beside the weights, if there is
    one; as many as the original had when left out."""
    views: Count = 1
    """Views of each image that its loss is a mean over."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.ULiRA(self.shadows, self.steps, self.views)


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


class Relative(AuditSection):
    """Tell whether the model is nearer to the retrained models or to the original (after arXiv 2601.19755).

    Outputs are compared over what the model was to make, embeddings by how similar each image is to all others, which
    no rotation of an encoder changes. The chance is that of a sign test over images. A model that is at the retrained
    one by its outputs alone still has the original's embeddings.
    """

    kind: Literal["relative"]
    """Nearer to retrained or to original."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.Relative()


class Layers(AuditSection):
    """Hold layers of the encoder against the original's and the retrained models', by linear CKA and by linear probes.

    Features are those of validation images; a probe is a ridge regression on the training images. Classes that differ
    are told from each other by a retrained model too, so that the difference from its probe counts.
    """

    kind: Literal["layers"]
    """What the layers of the encoder hold."""
    layers: Annotated[int, Field(ge=1, le=64)] = 3
    """How many, evenly spaced, the last one among them."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.Layers(self.layers)


class Quantised(AuditSection):
    """Round the weights to a few bits and see whether the forget images come back (arXiv 2410.16454).

    It shows what lay closer to the original than a coarse weight tells; nothing of what a larger step hides.
    """

    kind: Literal["quantised"]
    """Weights of a few bits."""
    bits: Annotated[list[Annotated[int, Field(ge=2, le=16)]], Field(min_length=1)] = [8, 4]  # noqa: RUF012
    """How many bits, each by itself."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.Quantised(tuple(dict.fromkeys(self.bits)))


class Adversarial(AuditSection):
    """Search what is visible for an input that makes the model fill in the truth of a forget image.

    It is an attacker who knows the truth, so that a model which never saw the image gives way as well: only what it
    gives beyond the retrained one is a trace.
    """

    kind: Literal["adversarial"]
    """A search for inputs."""
    steps: Count = 20
    """Steps of the search."""
    bound: Annotated[float, Field(gt=0, le=1)] = 0.0314
    """Most that a visible pixel moves, of values in [0, 1]; the default is 8 of 255."""
    images: Count = 64
    """Forget validation images at most."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.Adversarial(self.steps, self.bound, self.images)


class TwoPoints(AuditSection):
    """Hold two exported models of one front, and see what the line through them gives of the forget images.

    Unlearning moves from the looser model to the stricter one, so that their difference points back to the original,
    in the weights and in the outputs (arXiv 2404.03233 attacks two versions of a model). Whoever exports one model
    gives no line away.
    """

    kind: Literal["two-points"]
    """Two models of one front."""
    other: str = "boundary-lowest"
    """Id of the solution that the attacker holds beside each model, such as `epsilon-at-0.5`."""
    beyond: Annotated[list[Annotated[float, Field(gt=0, le=10)]], Field(min_length=1)] = [0.25, 0.5, 1]  # noqa: RUF012
    """How far the line is followed beyond both, as multiples of their distance."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.TwoPoints(self.other, tuple(dict.fromkeys(self.beyond)))


class RetainLeakage(AuditSection):
    """Tell retain training images from retain validation images, as membership does, beside the original (2508.18671).

    It says nothing of what was forgotten: unlearning can give the members of the retain set away.
    """

    kind: Literal["retain-leakage"]
    """Membership of the retain set."""
    views: Count = 1
    """Views of each image that its loss is a mean over."""

    def build(self, base: Path, device: torch.device) -> contracts.Audit:
        return audits.RetainLeakage(self.views)


@hookimpl
def register_audits() -> list[type[AuditSection]]:
    """Return the built-in audits."""
    return [
        Membership, FreshDecoder, Relearning, CopySimilarity, Backdoor, Relative, Layers, Quantised, Adversarial,
        TwoPoints, RetainLeakage, ULiRA,
    ]  # fmt: skip
