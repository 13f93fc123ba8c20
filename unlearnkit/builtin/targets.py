"""Forget targets: what a forget image is treated as. Losses and methods that have a forget target take each of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from unlearnkit.recipe.sections import Section

if TYPE_CHECKING:
    from unlearnkit.builtin.substitutes import Substitute
    from unlearnkit.contracts import Setting


class TargetSection(Section):
    """A forget target."""

    @abstractmethod
    def build(self, setting: Setting) -> Substitute:
        """Return the images that stand in for forget images; raise `UserError` where something named is missing."""


class Noise(TargetSection):
    """Noise images (Li et al. 2024)."""

    kind: Literal["noise"]
    """Noise, new at each step."""
    distribution: Literal["images", "identity", "batch", "uniform", "constant"] = "images"
    """Gaussian with the colour mean and covariance of the forget images (`images`), with mean 0 and covariance I
    (`identity`), or with the batch's scalar mean and standard deviation, clamped (`batch`, as the VQ-GAN of Li et al.);
    uniform in [0, 1]; or grey everywhere (`constant`)."""

    def build(self, setting: Setting) -> Substitute:
        """Return the noise."""
        from unlearnkit.builtin.substitutes import noise

        return noise(self.distribution, setting.noise, setting.reference.image_size)


class SurrogateClass(TargetSection):
    """Retain images, drawn anew at each step, as SUGAR and GUIDE take a surrogate in place of noise."""

    kind: Literal["surrogate-class"]
    """Training images of the retain set."""
    name: str | None = None
    """Their class; any when left out."""

    def build(self, setting: Setting) -> Substitute:
        """Return the images."""
        from unlearnkit.builtin.substitutes import surrogate

        return surrogate(setting, self.name)


class SurrogateImage(TargetSection):
    """One image for all."""

    kind: Literal["surrogate-image"]
    """An image file."""
    path: str
    """The file, relative to the recipe."""

    def build(self, setting: Setting) -> Substitute:
        """Return the image."""
        from unlearnkit.builtin.substitutes import picture

        return picture(setting.base / self.path, setting.reference.image_size)


class Blurred(TargetSection):
    """The forget image itself, blurred."""

    kind: Literal["blurred"]
    """Gaussian blur."""
    sigma: Annotated[float, Field(gt=0)] = 4.0
    """Standard deviation of the blur in pixels."""

    def build(self, setting: Setting) -> Substitute:
        """Return the blurred images."""
        from unlearnkit.builtin.substitutes import blurred

        return blurred(self.sigma)


class MeanFilled(TargetSection):
    """The forget image's mean colour."""

    kind: Literal["mean-filled"]
    """Each image's mean colour everywhere."""

    def build(self, setting: Setting) -> Substitute:
        """Return the filled images."""
        from unlearnkit.builtin.substitutes import mean_filled

        return mean_filled()


class Retrained(TargetSection):
    """What a model that never saw the forget set answers, for losses between outputs.

    `unlearnkit export` writes such weights for the solution of the method `retrain`. Embeddings of two models that were
    trained apart mean different things, so that losses between embeddings refuse it.
    """

    kind: Literal["retrained"]
    """The answer of a retrained model."""
    weights: str
    """Its weights, named as those of the model: a file or folder relative to the recipe, or `hub:OWNER/NAME@COMMIT`."""

    def build(self, setting: Setting) -> Substitute:
        """Return the answers."""
        from unlearnkit.builtin.substitutes import retrained

        return retrained(setting, self.weights)


Target = Annotated[
    Noise | SurrogateClass | SurrogateImage | Blurred | MeanFilled | Retrained, Field(discriminator="kind")
]
