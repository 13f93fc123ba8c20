"""Forget and retain losses, in the embedding space and in the output space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from unlearnkit import hookimpl
from unlearnkit.builtin.targets import Target
from unlearnkit.recipe.sections import LossSection

if TYPE_CHECKING:
    from unlearnkit.builtin.distances import Region
    from unlearnkit.contracts import Loss, ModelAdapter, Setting


def replaced(region: Region | None, reference: ModelAdapter) -> Region:
    """Return what a forget target takes the place of; raise `UserError` where the model cannot tell."""
    from unlearnkit.errors import Exit, UserError

    if region == "hidden" and not reference.sees_truth:
        raise UserError(
            "forget.region: 'hidden' changes nothing for a model that never sees the hidden region; use 'image'",
            Exit.RECIPE,
        )
    return region or ("hidden" if reference.sees_truth else "image")


class _Noise(LossSection):
    target: Literal["mean", "fresh"] | None = None
    """`mean`: the mean of the noise targets plus its constant, the exact expectation over n, for fixed tasks only.
    `fresh`: new noise each step, as published. Left out: `mean` where the task is fixed, `fresh` where it is random."""
    noise: Literal["images", "identity"] = "images"
    """Noise n with the colour mean and covariance of the forget images, or with mean 0 and covariance I."""
    samples: Annotated[int, Field(ge=2)] = 256
    """Noise images that the mean target is taken over."""
    region: Literal["image", "hidden"] | None = None
    """What noise takes the place of: the whole image, or only what T hides while the visible context stays. Left out:
    `hidden` for a model that sees the hidden region noised (diffusion), `image` for all others."""

    def _built(self, space: Literal["embedding", "output"], setting: Setting) -> Loss:
        from unlearnkit.builtin.distances import MeanNoise, ToSubstitute
        from unlearnkit.builtin.substitutes import noise
        from unlearnkit.contracts import standard_normal
        from unlearnkit.errors import Exit, UserError

        reference, task = setting.reference, setting.task
        region = replaced(self.region, reference)
        # The noise targets have one mean for all images only where neither the task nor the model draws anything.
        shared = task.fixed and not reference.random and region == "image"
        if self.target == "mean" and not shared:
            raise UserError(
                "forget.target: 'mean' needs a fixed task and a model without draws of its own, so that all images "
                "share one target; use 'fresh'",
                Exit.RECIPE,
            )
        if shared and self.target != "fresh":
            statistics = setting.noise if self.noise == "images" else standard_normal()
            return MeanNoise(space, reference, task, statistics, self.samples, setting.generator())
        return ToSubstitute(space, reference, noise(self.noise, setting.noise, reference.image_size), region)


class NoiseEmbedding(_Noise):
    """Draw embeddings of degraded images to those of degraded noise: E‖E_θ(T(x)) − E_θ0(T(n))‖² (Li et al. 2024)."""

    kind: Literal["noise-embedding"]
    """Distance to noise between embeddings, mean over images and entries."""

    def build(self, setting: Setting) -> Loss:
        """Return the loss."""
        return self._built("embedding", setting)


class NoiseOutput(_Noise):
    """Draw outputs for degraded images to those for degraded noise: E‖I_θ(T(x)) − I_θ0(T(n))‖²."""

    kind: Literal["noise-output"]
    """Distance to noise between outputs, mean over images and entries."""

    def build(self, setting: Setting) -> Loss:
        """Return the loss."""
        return self._built("output", setting)


class _Target(LossSection):
    target: Target
    """What a forget image is treated as; the reference's answer to it is the target."""
    region: Literal["image", "hidden"] | None = None
    """What the target takes the place of: the whole image, or only what T hides. Left out: `hidden` for a model that
    sees the hidden region noised (diffusion), `image` for all others."""

    def _built(self, space: Literal["embedding", "output"], setting: Setting) -> Loss:
        from unlearnkit.builtin.distances import ToSubstitute

        region = replaced(self.region, setting.reference)
        return ToSubstitute(space, setting.reference, self.target.build(setting), region)


class TargetEmbedding(_Target):
    """Draw embeddings to those of a forget target s under the same mask: E‖E_θ(T(x)) − E_θ0(T(s))‖²."""

    kind: Literal["target-embedding"]
    """Distance to a forget target between embeddings, mean over images and entries."""

    def build(self, setting: Setting) -> Loss:
        """Return the loss."""
        return self._built("embedding", setting)


class TargetOutput(_Target):
    """Draw outputs to those for a forget target s under the same mask: E‖I_θ(T(x)) − I_θ0(T(s))‖²."""

    kind: Literal["target-output"]
    """Distance to a forget target between outputs, mean over images and entries."""

    def build(self, setting: Setting) -> Loss:
        """Return the loss."""
        return self._built("output", setting)


class ReferenceEmbedding(LossSection):
    """Keep embeddings at those of the reference: E‖E_θ(T(x)) − E_θ0(T(x))‖² (Li et al. 2024)."""

    kind: Literal["reference-embedding"]
    """Distance to the reference between embeddings, mean over images and entries."""

    def build(self, setting: Setting) -> Loss:
        """Return the loss."""
        from unlearnkit.builtin.distances import ToReference

        return ToReference("embedding", setting.reference)


class ReferenceOutput(LossSection):
    """Keep outputs at those of the reference: E‖I_θ(T(x)) − I_θ0(T(x))‖²."""

    kind: Literal["reference-output"]
    """Distance to the reference between outputs, mean over images and entries."""

    def build(self, setting: Setting) -> Loss:
        """Return the loss."""
        from unlearnkit.builtin.distances import ToReference

        return ToReference("output", setting.reference)


@hookimpl
def register_losses() -> list[type[LossSection]]:
    """Return the built-in losses."""
    return [NoiseEmbedding, ReferenceEmbedding, NoiseOutput, ReferenceOutput, TargetEmbedding, TargetOutput]
