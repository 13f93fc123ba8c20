"""Sections of the autoencoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from unlearnkit import contracts
from unlearnkit.recipe.sections import ModelSection

Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=8)]
Sides = Side | tuple[Side, Side]
Levels = Annotated[tuple[Count, ...], Field(min_length=1)]


class Autoencoder(ModelSection):
    """Whichever image autoencoder of diffusers is in a folder, by the name of its class in config.json.

    Those are AsymmetricAutoencoderKL, AutoencoderDC, AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLHunyuanImage,
    AutoencoderKLKVAE, AutoencoderTiny and VQModel.
    """

    kind: Literal["autoencoder"]
    """Autoencoder of a folder of diffusers."""
    weights: str
    """The folder, with config.json and weights; relative to the recipe, or a pinned reference
    `hub:OWNER/NAME@COMMIT`."""
    image_size: Sides | None = None
    """Side of the images in pixels, or their height and width; left out: what the weights say, or 64."""

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        from unlearnkit_diffusers.autoencoders import whichever

        return whichever(self, weights)


class _Autoencoder(ModelSection):
    image_size: Sides | None = None
    """Side of the images in pixels, or their height and width; left out: what the weights say, or 64."""
    block_out_channels: Levels | None = None
    """Channels of each level, each of which but the last halves the side; left out: what the weights say, or
    [16, 32, 64, 96]."""
    layers_per_block: Count | None = None
    """Residual blocks of each level; left out: what the weights say, or 1."""
    latent_channels: Count | None = None
    """Channels of the latents; left out: what the weights say, or the kind's own."""

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        from unlearnkit_diffusers.autoencoders import autoencoder

        return autoencoder(weights, **self.model_dump(exclude={"weights", "train"}))


class VQGAN(_Autoencoder):
    """A VQ-GAN (Esser et al. 2021) over diffusers' `VQModel`: E gives latents, the frozen codebook quantises them.

    `weights` is a folder of diffusers, whose configuration counts, or a checkpoint of taming-transformers. Sizes left
    out make a small model for 64 px.
    """

    kind: Literal["vq-gan"]
    """Vector-quantised autoencoder."""
    codes: Annotated[int, Field(ge=2)] | None = None
    """Entries of the codebook; left out: what the weights say, or 512."""
    code_width: Count | None = None
    """Width of a codebook entry; left out: what the weights say, or 8."""
    norm_num_groups: Count | None = None
    """Groups of the normalisations; left out: what the weights say, or 8."""


class AutoencoderKL(_Autoencoder):
    """A variational autoencoder over diffusers' `AutoencoderKL` (Rombach et al. 2022): E gives the posterior's mean.

    `weights` is a folder of diffusers, or one file in the layout of Stable Diffusion: an autoencoder's own, or a whole
    checkpoint.
    """

    kind: Literal["autoencoder-kl"]
    """Variational autoencoder."""
    norm_num_groups: Count | None = None
    """Groups of the normalisations; left out: what the weights say, or 8."""


class AutoencoderTiny(_Autoencoder):
    """A small autoencoder without normalisations over diffusers' `AutoencoderTiny` (the TAESD family).

    `weights` is a folder of diffusers, or one with TAESD's two files, such as taesd_encoder.pth and taesd_decoder.pth.
    """

    kind: Literal["autoencoder-tiny"]
    """Tiny autoencoder."""


class Mage(ModelSection):
    """MAGE (Li et al. 2023): a transformer that fills in masked tokens of a frozen VQ-GAN.

    `weights` is a folder that unlearnkit wrote, or a published checkpoint with its tokenizer (mage-vitb-1600.pth).
    Sizes left out make a small model.
    """

    kind: Literal["mage"]
    """Masked transformer over a VQ-GAN's tokens."""
    image_size: Side | None = None
    """Side of the images in pixels; left out: what the weights or the VQ-GAN say."""
    width: Count | None = None
    """Width of the encoder; left out: what the weights say, or 192."""
    depth: Count | None = None
    """Blocks of the encoder; left out: what the weights say, or 4."""
    heads: Count | None = None
    """Attention heads of the encoder; left out: what the weights say, or 4."""
    decoder_width: Count | None = None
    """Width of the decoder; left out: what the weights say, or 192."""
    decoder_depth: Count | None = None
    """Blocks of the decoder; left out: what the weights say, or 3."""
    decoder_heads: Count | None = None
    """Attention heads of the decoder; left out: what the weights say, or 4."""
    decoding_steps: Count = 8
    """Steps in which the masked tokens of an output are decided."""
    first_stage: str | None = None
    """The trained VQ-GAN of a new transformer, as `weights` of a vq-gan, relative to the recipe. `weights` of a MAGE
    bring their own. Without both it is an untrained one, whose tokens mean nothing: only to try things out."""

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        from unlearnkit_diffusers.mage import mage

        return mage(weights, self.folder, **self.model_dump(exclude={"kind", "weights", "train"}))
