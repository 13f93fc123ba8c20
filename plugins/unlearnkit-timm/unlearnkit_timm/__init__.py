"""Masked autoencoders over timm's vision transformers, and timm's networks as feature extractors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from unlearnkit import contracts, hookimpl
from unlearnkit.recipe.sections import ExtractorSection, ModelSection

if TYPE_CHECKING:
    import torch

Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=4, multiple_of=4)]


class MAE(ModelSection):
    """A masked autoencoder (He et al. 2022): the encoder is a vision transformer of timm, the decoder as published.

    `weights` is a file in the layout of the official checkpoints with decoder (`mae_pretrain_vit_base_full.pth`,
    `mae_visualize_vit_large.pth`), which is also what `unlearnkit pretrain` and `unlearnkit export` write, a folder of
    transformers' ViTMAE (`facebook/vit-mae-base`), whose configuration gives the sizes that are left out and
    `norm_pix_loss`, or a file of an encoder alone, of timm or of the official MAE, with `decoder: fresh`.
    """

    kind: Literal["mae"]
    """Masked autoencoder over a vision transformer of timm."""
    architecture: str = "vit_base_patch16_224"
    """timm's name of the encoder, such as `vit_large_patch16_224` or `vit_huge_patch14_224`; it has a class token."""
    image_size: Count | None = None
    """Side of the images in pixels; the architecture's when left out."""
    patch_size: Count | None = None
    """Side of a patch in pixels; the architecture's when left out."""
    width: Width | None = None
    """Width of the encoder; the architecture's when left out."""
    depth: Count | None = None
    """Blocks of the encoder; the architecture's when left out."""
    heads: Count | None = None
    """Attention heads of the encoder; the architecture's when left out."""
    decoder: Literal["required", "fresh"] = "required"
    """Whether the weights must hold the decoder, or a new one is made for an encoder that comes alone; weights that
    hold one bring it in both cases."""
    decoder_width: Width = 512
    """Width of the decoder."""
    decoder_depth: Count = 8
    """Blocks of the decoder."""
    decoder_heads: Count = 16
    """Attention heads of the decoder; they must divide its width."""
    norm_pix_loss: bool = False
    """Whether the model was trained on patches normalised to mean 0 and variance 1, as the `norm_pix_loss` checkpoints
    were. Its patches are shown with mean and deviation interpolated from the visible patches around them, or of all
    visible pixels where no patch is wholly visible."""
    normalize: Literal["imagenet", "half"] = "imagenet"
    """How pixels come in: with ImageNet's mean and deviation, or minus one half."""

    @model_validator(mode="after")
    def _divisible(self) -> MAE:
        for whole, part in (("image_size", "patch_size"), ("width", "heads"), ("decoder_width", "decoder_heads")):
            size, divisor = getattr(self, whole), getattr(self, part)
            if size is not None and divisor is not None and size % divisor:
                raise ValueError(f"{part} ({divisor}) must divide {whole} ({size})")
        return self

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        from unlearnkit_timm.mae import build

        return build(self, weights)


class Timm(ExtractorSection):
    """Any classifier or backbone of timm: its pooled features, and its classifier for the Inception Score."""

    kind: Literal["timm"]
    """A network of timm."""
    architecture: str
    """timm's name of it, such as `resnet50` or `vit_base_patch16_224`."""
    weights: str
    """timm's file of its weights, relative to the recipe, or `hub:OWNER/NAME/FILE@COMMIT`, such as
    `hub:timm/resnet50.a1_in1k/model.safetensors@` and the commit's 40 digits."""
    size: Count | None = None
    """Side in pixels that images are resized to, with antialiasing; the architecture's when left out."""

    def build(self, base: Path, device: torch.device) -> contracts.Extractor:
        from unlearnkit_timm.extractor import network

        return network(self.architecture, self.weights, self.size, base, device)


@hookimpl
def register_extractors() -> list[type[ExtractorSection]]:
    """Return the extractors of this package."""
    return [Timm]


@hookimpl
def register_models() -> list[type[ModelSection]]:
    """Return the models of this package."""
    return [MAE]
