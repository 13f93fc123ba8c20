"""Model adapters that unlearnkit brings itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from unlearnkit import contracts, hookimpl
from unlearnkit.builtin import models
from unlearnkit.recipe.numbers import Count
from unlearnkit.recipe.sections import ModelSection


class VitMae(ModelSection):
    """A small masked autoencoder over square patches (He et al. 2022); the defaults are those of `sample:mae-64`."""

    usual: ClassVar = "sample:mae-64"
    kind: Literal["vit-mae"]
    """A small masked autoencoder."""
    image_size: Count = 64
    """Side of the images in pixels."""
    patch_size: Count = 8
    """Side of a patch in pixels; it must divide the image's side."""
    width: Annotated[int, Field(ge=4, multiple_of=4)] = 192
    """Width of the encoder."""
    depth: Count = 4
    """Blocks of the encoder."""
    heads: Count = 4
    """Attention heads of the encoder; they must divide its width."""
    decoder_width: Annotated[int, Field(ge=4, multiple_of=4)] = 128
    """Width of the decoder."""
    decoder_depth: Count = 3
    """Blocks of the decoder."""
    decoder_heads: Count = 4
    """Attention heads of the decoder; they must divide its width."""

    @model_validator(mode="after")
    def _divisible(self) -> VitMae:
        pairs = ("image_size", "patch_size"), ("width", "heads"), ("decoder_width", "decoder_heads")
        for whole, part in pairs:
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(f"{part} ({getattr(self, part)}) must divide {whole} ({getattr(self, whole)})")
        return self

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        encoder = self.width, self.depth, self.heads
        decoder = self.decoder_width, self.decoder_depth, self.decoder_heads
        module = models.MaskedAutoencoder(weights, self.image_size, self.patch_size, encoder, decoder)
        return models.VitMaeAdapter(module)


class Pix2Pix(ModelSection):
    """The generator of pix2pix (Isola et al. 2017), a U-Net from images to images.

    `weights` is a file of junyanz/pytorch-CycleGAN-and-pix2pix, such as `latest_net_G.pth`, for which the defaults are
    those of its `unet_256`, or a folder that unlearnkit wrote.
    """

    kind: Literal["pix2pix"]
    """The U-Net of pix2pix."""
    image_size: Count | tuple[Count, Count] = 256
    """Side of the images in pixels, or their height and width; a multiple of 2 to the power of `depth`."""
    width: Count = 64
    """Channels of the outermost level (`--ngf`)."""
    depth: Annotated[int, Field(ge=2)] = 8
    """Levels, each of which halves the side: 8 for `unet_256`, 7 for `unet_128`."""
    norm: Literal["batch", "instance"] = "batch"
    """Normalisation (`--norm`); both are by each image's own statistics, as pix2pix is tested."""

    @model_validator(mode="after")
    def _halved(self) -> Pix2Pix:
        halved(self.image_size, self.depth)
        return self

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        return models.Pix2PixAdapter(weights, self.image_size, self.width, self.depth, self.norm)


class ConvAutoencoder(ModelSection):
    """A plain convolutional autoencoder, without normalisation or quantiser; the defaults are for CIFAR-10."""

    kind: Literal["conv-autoencoder"]
    """A plain convolutional autoencoder."""
    image_size: Count | tuple[Count, Count] = 32
    """Side of the images in pixels, or their height and width; a multiple of what `channels` divides it by."""
    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (24, 48, 96)
    """Channels of each level, each of which halves the side."""
    latent_channels: Count = 32
    """Channels of the latents."""

    @model_validator(mode="after")
    def _halved(self) -> ConvAutoencoder:
        halved(self.image_size, len(self.channels))
        return self

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        return models.ConvAdapter(weights, self.image_size, self.channels, self.latent_channels)


def halved(size: contracts.Size, levels: int) -> None:
    """Raise `ValueError` for sides that cannot be halved so many times."""
    if odd := [side for side in contracts.sides(size) if side % 2**levels]:
        raise ValueError(f"image_size ({odd[0]}) must be a multiple of {2**levels}, for {levels} levels halve it")


@hookimpl
def register_models() -> list[type[ModelSection]]:
    """Return the built-in models."""
    return [VitMae, Pix2Pix, ConvAutoencoder]
