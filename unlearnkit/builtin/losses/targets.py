"""Forget targets: what a forget image is treated as. Losses and methods that have a forget target take each of them."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from unlearnkit import contracts
from unlearnkit.builtin import losses
from unlearnkit.builtin.data.sections import ImageFolder
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.numbers import Count, Positive
from unlearnkit.recipe.sections import Section


class TargetSection(Section):
    """A forget target."""

    @abstractmethod
    def build(self, setting: contracts.Setting) -> losses.Substitute:
        """Return the images that stand in for forget images; raise `UserError` where something named is missing."""

    def distance(self, space: losses.Space, setting: contracts.Setting, region: losses.Region | None) -> contracts.Loss:
        """Return the distance to what the reference makes of those images in a region, or in what suits the model."""
        place = losses.replaced(region, setting.reference)
        return losses.ToSubstitute(space, setting, self.build(setting), place)


class Noise(TargetSection):
    """Noise images (Li et al. 2024)."""

    kind: Literal["noise"]
    """Noise, new at each step."""
    distribution: Literal["images", "identity", "batch", "uniform", "constant", "diffusion"] = "images"
    """Gaussian with the colour mean and covariance of the forget images (`images`), with mean 0 and covariance I
    (`identity`), or with the batch's scalar mean and standard deviation, clamped (`batch`, as the VQ-GAN of Li et al.);
    uniform in [0, 1]; grey everywhere (`constant`); or the noise that a diffusion model draws (`diffusion`), in the
    hole alone and at full strength, as the Palette of Li et al. as released."""

    def build(self, setting: contracts.Setting) -> losses.Substitute:
        return losses.noise(self.distribution, setting.sources.noise, setting.reference)


class SurrogateClass(TargetSection):
    """Retain images, drawn anew at each step, as SUGAR and GUIDE take a surrogate in place of noise."""

    kind: Literal["surrogate-class"]
    """Training images of the retain set."""
    name: str | None = None
    """Their class; any when left out."""

    def build(self, setting: contracts.Setting) -> losses.Substitute:
        drawn = partial(setting.sources.drawn, self.name)
        drawn(1, setting.sources.generator())  # a class that is not there is refused at once
        return losses.Substitute(
            lambda view, generator: drawn(len(view.images), generator).to(view.images.device), False, "surrogate"
        )


class HeldOut(TargetSection):
    """Images like the forget images that the original model never saw, as ReGUn and RAUL have them for classifiers.

    What is drawn to is the mean of the reference's answers to some of them under the mask of the forget image; where
    images stand in for the truth it is one of them. Validation images of the recipe among them would be none any more.
    """

    kind: Literal["held-out"]
    """Held-out images, drawn anew at each step."""
    root: str
    """A folder, relative to the recipe, with one folder of images a class."""
    count: Count = 4
    """How many of them the mean is taken over; chosen here."""

    def build(self, setting: contracts.Setting) -> losses.Substitute:
        source = ImageFolder(kind="image-folder", root=self.root).open(setting.sources.base)
        return losses.held_out(source, setting.sources.size or setting.reference.image_size, self.count)


class SurrogateImage(TargetSection):
    """One image for all."""

    kind: Literal["surrogate-image"]
    """An image file."""
    path: str
    """The file, relative to the recipe."""

    def build(self, setting: contracts.Setting) -> losses.Substitute:
        return losses.picture(setting.sources.base / self.path, setting.sources.size or setting.reference.image_size)


class Blurred(TargetSection):
    """The forget image itself, blurred."""

    kind: Literal["blurred"]
    """Gaussian blur."""
    sigma: Positive = 4.0
    """Standard deviation of the blur in pixels."""

    def build(self, setting: contracts.Setting) -> losses.Substitute:
        return losses.blurred(self.sigma)


class MeanFilled(TargetSection):
    """The forget image's mean colour."""

    kind: Literal["mean-filled"]
    """Each image's mean colour everywhere."""

    def build(self, setting: contracts.Setting) -> losses.Substitute:
        return losses.Substitute(
            lambda view, _: view.x.mean((2, 3), keepdim=True).expand_as(view.x), True, "mean-filled"
        )


class Retrained(TargetSection):
    """What a model that never saw the forget set answers, for losses between outputs.

    `unlearnkit export` writes such weights for the solution of the method `retrain`. Embeddings of two models that were
    trained apart mean different things, so that losses between embeddings refuse it.
    """

    kind: Literal["retrained"]
    """The answer of a retrained model."""
    weights: str
    """Its weights, named as those of the model: a file or folder relative to the recipe, or `hub:OWNER/NAME@COMMIT`."""

    def build(self, setting: contracts.Setting) -> losses.Substitute:
        return losses.answered(setting.sources.model(self.weights), "retrained")


Target = Annotated[
    Noise | SurrogateClass | HeldOut | SurrogateImage | Blurred | MeanFilled | Retrained, Field(discriminator="kind")
]

AIM = "The forget target, in the embedding space; left out: that of the recipe's forget loss."
Aim = Annotated[Target | None, Field(description=AIM)]

NOISE = Noise(kind="noise", distribution="batch")
TRUTH = "What is told to be the truth of forget images; by default noise of the batch's mean and deviation."
Truth = Annotated[Target, Field(description=TRUTH)]


def aimed(target: Target | None, setting: contracts.Setting, forget: contracts.Loss) -> contracts.Loss:
    """Return the distance to a forget target between embeddings, or the recipe's forget loss without one."""
    return forget if target is None else target.distance("embedding", setting, None)


def told(target: Target, setting: contracts.Setting) -> contracts.Loss:
    """Return the model's own loss with a forget target in the place of the truth; `UserError` where it is no truth."""
    if setting.sources.size is not None and isinstance(target, SurrogateClass | HeldOut):
        found = f"{target.kind} images are inputs, and no truth where the source has pairs"
        raise UserError(f"target: {found}; take noise, blurred, mean-filled or surrogate-image", Exit.RECIPE)
    return losses.ToldOtherwise(target.build(setting), setting.reference)
