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


@hookimpl
def register_models() -> list[type[ModelSection]]:
    """Return the built-in models."""
    return [VitMae]
