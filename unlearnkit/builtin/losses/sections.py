"""Forget and retain losses, in the embedding space and in the output space."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from unlearnkit import contracts, hookimpl
from unlearnkit.builtin import losses
from unlearnkit.builtin.losses.targets import Noise, Target
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.sections import LossSection


class _Noise(LossSection):
    space: ClassVar[Literal["embedding", "output"]]
    target: Literal["mean", "fresh"] | None = None
    """`mean`: the mean of the noise targets plus its constant, the exact expectation over n, for fixed tasks only.
    `fresh`: new noise each step, as published. Left out: `mean` where the task is fixed, `fresh` where it is random."""
    noise: Literal["images", "identity", "diffusion"] = "images"
    """Noise n with the colour mean and covariance of the forget images, or with mean 0 and covariance I; `diffusion`:
    the model's own noise in place of the noised image, as the Palette of Li et al. as released."""
    samples: Annotated[int, Field(ge=2)] = 256
    """Noise images that the mean target is taken over."""
    region: Literal["image", "hidden"] | None = None
    """What noise takes the place of: the whole image, or only what T hides while the visible context stays. Left out:
    `hidden` for a model that sees the hidden region noised (diffusion), `image` for all others."""

    def build(self, setting: contracts.Setting) -> contracts.Loss:
        region = losses.replaced(self.region, setting.reference)
        # The noise targets have one mean for all images only where neither the task nor the model draws anything.
        shared = setting.task.fixed and not contracts.draws(setting.reference) and region == "image"
        shared = shared and self.noise != "diffusion"
        if self.target == "mean" and not shared:
            needed = "a fixed task and a model without draws of its own, so that all images share one target"
            raise UserError(f"forget.target: 'mean' needs {needed}; use 'fresh'", Exit.RECIPE)
        if shared and self.target != "fresh":
            colours = setting.sources.noise if self.noise == "images" else contracts.standard_normal()
            return losses.MeanNoise(self.space, setting, colours, self.samples)
        return Noise(kind="noise", distribution=self.noise).distance(self.space, setting, region)


class NoiseEmbedding(_Noise):
    """Draw embeddings of degraded images to those of degraded noise: E‖E_θ(T(x)) − E_θ0(T(n))‖² (Li et al. 2024)."""

    space: ClassVar = "embedding"
    kind: Literal["noise-embedding"]
    """Distance to noise between embeddings, mean over images and entries."""


class NoiseOutput(_Noise):
    """Draw outputs for degraded images to those for degraded noise: E‖I_θ(T(x)) − I_θ0(T(n))‖²."""

    space: ClassVar = "output"
    kind: Literal["noise-output"]
    """Distance to noise between outputs, mean over images and entries."""


class _Target(LossSection):
    space: ClassVar[Literal["embedding", "output"]]
    target: Target
    """What a forget image is treated as; the reference's answer to it is the target."""
    region: Literal["image", "hidden"] | None = None
    """What the target takes the place of: the whole image, or only what T hides. Left out: `hidden` for a model that
    sees the hidden region noised (diffusion), `image` for all others."""

    def build(self, setting: contracts.Setting) -> contracts.Loss:
        return self.target.distance(self.space, setting, self.region)


class TargetEmbedding(_Target):
    """Draw embeddings to those of a forget target s under the same mask: E‖E_θ(T(x)) − E_θ0(T(s))‖²."""

    space: ClassVar = "embedding"
    kind: Literal["target-embedding"]
    """Distance to a forget target between embeddings, mean over images and entries."""


class TargetOutput(_Target):
    """Draw outputs to those for a forget target s under the same mask: E‖I_θ(T(x)) − I_θ0(T(s))‖²."""

    space: ClassVar = "output"
    kind: Literal["target-output"]
    """Distance to a forget target between outputs, mean over images and entries."""


class ReferenceEmbedding(LossSection):
    """Keep embeddings at those of the reference: E‖E_θ(T(x)) − E_θ0(T(x))‖² (Li et al. 2024)."""

    kind: Literal["reference-embedding"]
    """Distance to the reference between embeddings, mean over images and entries."""

    def build(self, setting: contracts.Setting) -> contracts.Loss:
        return losses.ToReference("embedding", setting.reference)


class ReferenceOutput(LossSection):
    """Keep outputs at those of the reference: E‖I_θ(T(x)) − I_θ0(T(x))‖²."""

    kind: Literal["reference-output"]
    """Distance to the reference between outputs, mean over images and entries."""

    def build(self, setting: contracts.Setting) -> contracts.Loss:
        return losses.ToReference("output", setting.reference)


@hookimpl
def register_losses() -> list[type[LossSection]]:
    """Return the built-in losses."""
    return [NoiseEmbedding, ReferenceEmbedding, NoiseOutput, ReferenceOutput, TargetEmbedding, TargetOutput]
