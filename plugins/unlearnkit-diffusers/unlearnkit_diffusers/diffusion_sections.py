"""Sections of the diffusion models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from unlearnkit import contracts
from unlearnkit.recipe.sections import ModelSection
from unlearnkit_diffusers.autoencoder_sections import Count, Levels, Sides

Level = Annotated[int, Field(ge=0)]
Beta = Annotated[float, Field(gt=0, lt=1)]
Schedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]


class _Diffusion(ModelSection):
    image_size: Sides | None = None
    """Side of the images in pixels, or their height and width; left out: what the weights say, or 32 (palette) or 64
    without weights."""
    scheduler: str = "DDIMScheduler"
    """The scheduler of diffusers that outputs are sampled with, such as DDIMScheduler, DDPMScheduler,
    DPMSolverMultistepScheduler or UniPCMultistepScheduler."""
    steps: Count = 50
    """Steps of sampling."""
    train_steps: Count | None = None
    """Steps of the noise schedule the model is trained with; left out: what the weights say, or 1000."""
    beta_schedule: Schedule | None = None
    """How β rises from step to step; left out: what the weights say, or the kind's usual one."""
    beta_start: Beta | None = None
    """β of the first step; left out: what the weights say, or the kind's usual one."""
    beta_end: Beta | None = None
    """β of the last step; left out: what the weights say, or the kind's usual one."""
    prediction: Literal["epsilon", "v_prediction", "sample"] | None = None
    """What the network predicts: the noise, v (Salimans and Ho 2022) or the image, of which the last two need less
    training; left out: what the weights say, or the noise."""
    block_out_channels: Levels | None = None
    """Channels of each level of the U-Net; left out: what the weights say, or those of a small model."""
    layers_per_block: Count | None = None
    """Residual blocks of each level; left out: what the weights say, or 1."""
    norm_num_groups: Count | None = None
    """Groups of the normalisations; left out: what the weights say, or 8."""


class Palette(_Diffusion):
    """Palette: diffusion that fills in pixels (Saharia et al. 2022; Li et al. 2024), over `UNet2DModel` of diffusers.

    `weights` is a folder (`unet/` and `scheduler/`, or a U-Net's own), or a file in the layout of the released Palette
    (`denoise_fn.*`). Sizes come from the weights; without weights those left out make a small model for 32 px.
    """

    kind: Literal["palette"]
    """Palette: diffusion inpainting in pixels."""
    attention: tuple[Level, ...] | None = None
    """Levels with attention, 0 the finest; left out: what the weights say, or the coarsest level alone."""
    attention_head_dim: Count | None = None
    """Channels of an attention head; left out: what the weights say, or 32."""
    noise_level: bool | None = None
    """Tell the network the noise level γ in (0, 1) rather than the number of the step, as the released Palette does;
    left out: what the weights say, or false."""
    fill: Literal["noise", "neutral"] | None = None
    """What the condition holds in the hidden region: noise, new in each view, as published, or zeros; left out: what
    the weights say, or noise."""

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        from unlearnkit_diffusers.palette import build

        return build(self, weights)


class Latent(_Diffusion):
    """What the models in the latents of an autoencoder have in common."""

    prompt: str = ""
    """What the hidden region is said to show, or the instruction, such as `make it winter`: the same for all images,
    encoded once. Weights without a text encoder know no prompt: the network then gets zeros."""
    cross_attention_dim: Count | None = None
    """Width of the prompt's embedding; left out: what the weights say, or 32."""
    heads: Count | None = None
    """Attention heads of the U-Net; left out: what the weights say, or 4."""
    vae_channels: Levels | None = None
    """Channels of each level of the autoencoder; each level but the first halves the side. Left out: what the weights
    say, or [16, 32]."""
    latent_channels: Count | None = None
    """Channels of the latents; left out: what the weights say, or 4."""

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        from unlearnkit_diffusers.latent import build

        return build(self, weights)


class LatentInpainting(Latent):
    """Diffusion that fills in latents, as Stable Diffusion's inpainting models do, 1, 2 and XL (Rombach et al. 2022).

    `weights` is a folder of diffusers: `unet/` with 9 input channels, `vae/`, `scheduler/`, and `tokenizer/` and
    `text_encoder/` for the prompt (with XL also `tokenizer_2/` and `text_encoder_2/`); or one file of a whole
    checkpoint in its original layout. Sizes come from the weights; without weights those left out make a small model
    with an untrained first stage.
    """

    kind: Literal["latent-inpainting"]
    """Diffusion inpainting in the latents of an autoencoder."""


class InstructPix2Pix(Latent):
    """Diffusion that edits an image by an instruction (Brooks et al. 2023).

    `weights` are as those of `latent-inpainting`, with 8 input channels. T(x) is the image with the instruction. The
    right output is the target of a source with pairs, under `task: {kind: reconstruction}`; with
    `task: {kind: translation}` nobody has it. Outputs are sampled with both guidances at 1.
    """

    kind: Literal["instruct-pix2pix"]
    """Diffusion that edits an image by an instruction."""
