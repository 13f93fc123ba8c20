"""Adapters of diffusers' autoencoders. Inside, images are in [-1, 1], but where a model's weights are for [0, 1].

Shape suffixes: B images, L latent channels, h and w the latents' side.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from unlearnkit.contracts import Embedding, ModelAdapter, View
from unlearnkit.errors import Exit, UserError
from unlearnkit_diffusers import autoencoder_sections as sections
from unlearnkit_diffusers import loading
from unlearnkit_diffusers.unet import require_given, require_side

COMMITMENT = 0.25
"""Weight of the term that holds latents to their codes (van den Oord et al. 2017; Esser et al. 2021)."""
REVIVAL = 0.25
"""Weight of the term that draws each code to its nearest latent."""
KL_WEIGHT = 1e-6
"""Weight of the Kullback-Leibler divergence (Rombach et al. 2022)."""


class Encoder(nn.Module):
    """From images to what the latents are made of: [B, L, h, w], or [B, 2L, h, w] for a posterior."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.encoder = net.encoder
        self.quant_conv = getattr(net, "quant_conv", None) or nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return latents, or the moments of their posterior."""
        return self.quant_conv(self.encoder(images))


class Decoder(nn.Module):
    """From latents [B, L, h, w] to images, through the codebook where there is one."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.quantize: Any = getattr(net, "quantize", None)
        self.post_quant_conv = getattr(net, "post_quant_conv", None) or nn.Identity()
        self.decoder = net.decoder

    def forward(self, latents: Tensor) -> Tensor:
        """Return images; the gradient passes straight through the codebook."""
        if self.quantize is not None:
            latents, _, _ = self.quantize(latents)
        return self.decoder(self.post_quant_conv(latents))


class Parts(nn.Module):
    """The two halves."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(net), Decoder(net)


class AutoencoderAdapter(ModelAdapter):
    """An autoencoder of diffusers as encoder and decoder."""

    module: Parts

    def __init__(self, net: Any, image_size: int, unit: bool = False) -> None:
        """Take a model for images in [-1, 1], or, where `unit`, in [0, 1]."""
        self.net, self.module, self.image_size, self.unit = net, Parts(net), image_size, unit
        self.encoder = self.module.encoder

    def made(self, view: View) -> Tensor:
        """Return what the encoder makes of a view, [B, L, h, w] or [B, 2L, h, w]."""
        return self.encoder(view.images if self.unit else view.images * 2 - 1)

    def embed(self, view: View) -> Embedding:
        """Return the latents [B, L, h, w] before quantisation."""
        return self.latents(self.made(view))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return the images of latents [B, 3, H, W]."""
        assert isinstance(embedding, Tensor)
        images = self.module.decoder(embedding)
        return images if self.unit else images / 2 + 0.5

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the reconstruction loss, L1 + L2 over all pixels and over those to be made, plus the kind's penalty.

        The perceptual and the adversarial terms that published autoencoders add are left out.
        """
        made = self.made(view)
        error = (self.decode(self.latents(made), view).float() - images) * 2
        error = (error.abs() + error.square()).mean(1, keepdim=True)
        region = view.region.float()
        return error.mean() + (error * region).sum() / region.sum() + self.penalty(made)

    def latents(self, made: Tensor) -> Tensor:
        """Return the latents [B, L, h, w] of what the encoder made."""
        return made

    def penalty(self, made: Tensor) -> Tensor:
        """Return the terms that the kind adds to the reconstruction."""
        return made.new_zeros(())

    def save(self, folder: Path) -> None:
        """Write the model as diffusers does, or in TAESD's layout one that diffusers does not know."""
        loading.save(self.net, self.unit, folder)


class VQGANAdapter(AutoencoderAdapter):
    """A vector-quantised autoencoder."""

    def penalty(self, made: Tensor) -> Tensor:
        """Return the codebook loss, the commitment loss, and what draws codes that go unused to the latents.

        The last is the mean squared distance of each code from its nearest latent of the batch. Without it most codes
        of a small model fall out of use for good; it is not in the published loss and moves nothing but the codebook.
        """
        quantize = self.module.decoder.quantize
        width = made.permute(0, 2, 3, 1).flatten(0, 2)
        _, _, (_, _, codes) = quantize(made.detach())
        nearest = quantize.embedding(codes.flatten())
        codebook, commitment = (nearest - width.detach()).square().mean(), (nearest.detach() - width).square().mean()
        with torch.no_grad():
            closest = width[torch.cdist(quantize.embedding.weight, width).argmin(1)]
        unused = (quantize.embedding.weight - closest).square().mean()
        return codebook + COMMITMENT * commitment + REVIVAL * unused


class KLAdapter(AutoencoderAdapter):
    """A variational autoencoder."""

    def latents(self, made: Tensor) -> Tensor:
        """Return the posterior's mean; its width is held by the divergence alone, as nothing is drawn."""
        return made.chunk(2, dim=1)[0]

    def penalty(self, made: Tensor) -> Tensor:
        """Return the divergence from the unit Gaussian, a sum over entries and a mean over images."""
        mean, log = made.chunk(2, dim=1)
        log = log.clamp(-30, 20)
        return KL_WEIGHT * 0.5 * (mean.square() + log.exp() - 1 - log).flatten(1).sum(1).mean()


def build(section: Any, weights: Path | None) -> AutoencoderAdapter:
    """Return the adapter of a section; raise `UserError` where sizes or weights do not fit."""
    kind, adapter = KINDS[section.kind]
    wanted = {name: value for name, value in _sizes(section).items() if value is not None}
    unit = False
    if weights is None:
        sizes = DEFAULTS[section.kind] | wanted
        net = _fresh(kind, sizes if kind is diffusers.AutoencoderTiny else sizes | {"sample_size": SIDE})
    else:
        net, unit = loading.load(kind, weights)
        require_given({FIELDS.get(name, name): (value, net.config[name]) for name, value in wanted.items()}, weights)
    levels = len(net.config.get("block_out_channels") or net.config["encoder_block_out_channels"])
    size = section.image_size or net.config.get("sample_size") or SIDE
    require_side(size, 2 ** (levels - 1))
    if "sample_size" in net.config:
        net.register_to_config(sample_size=size)
    return adapter(net, size, unit)


SIDE = 64
"""Side of the images of a model that says nothing of it, in pixels."""
KINDS: dict[str, tuple[Any, type[AutoencoderAdapter]]] = {
    "vq-gan": (diffusers.VQModel, VQGANAdapter),
    "autoencoder-kl": (diffusers.AutoencoderKL, KLAdapter),
    "autoencoder-tiny": (diffusers.AutoencoderTiny, AutoencoderAdapter),
}

FIELDS = {
    "num_vq_embeddings": "codes", "vq_embed_dim": "code_width", "encoder_block_out_channels": "block_out_channels",
    "decoder_block_out_channels": "block_out_channels",
}  # fmt: skip
"""Fields of sections by diffusers' names, where they differ."""

LEVELS = (16, 32, 64, 96)
DEFAULTS: dict[str, dict[str, Any]] = {
    "vq-gan": {
        "block_out_channels": LEVELS, "layers_per_block": 1, "latent_channels": 32, "num_vq_embeddings": 512,
        "vq_embed_dim": 8, "norm_num_groups": 8,
    },
    "autoencoder-kl": {
        "block_out_channels": LEVELS, "layers_per_block": 1, "latent_channels": 8, "norm_num_groups": 8,
    },
    "autoencoder-tiny": {"latent_channels": 4},
}  # fmt: skip


def _sizes(section: Any) -> dict[str, Any]:
    """Return what a section says of the sizes, by diffusers' names."""
    if isinstance(section, sections.AutoencoderTiny):
        channels = section.block_out_channels
        return {
            "encoder_block_out_channels": channels, "decoder_block_out_channels": channels,
            "latent_channels": section.latent_channels,
            "num_encoder_blocks": channels and (section.layers_per_block or 1,) * len(channels),
            "num_decoder_blocks": channels and (section.layers_per_block or 1,) * len(channels),
        }  # fmt: skip
    sizes = {
        "block_out_channels": section.block_out_channels, "layers_per_block": section.layers_per_block,
        "latent_channels": section.latent_channels, "norm_num_groups": section.norm_num_groups,
    }  # fmt: skip
    if isinstance(section, sections.VQGAN):
        sizes |= {"num_vq_embeddings": section.codes, "vq_embed_dim": section.code_width}
    return sizes


def _fresh(kind: Any, sizes: dict[str, Any]) -> Any:
    if kind is not diffusers.AutoencoderTiny:
        levels = len(sizes["block_out_channels"])
        sizes["down_block_types"] = ("DownEncoderBlock2D",) * levels
        sizes["up_block_types"] = ("UpDecoderBlock2D",) * levels
    try:
        net = kind(**sizes)
    except (ValueError, AssertionError) as error:
        message = f"model: diffusers cannot build a {kind.__name__} in these sizes ({error}); change them"
        raise UserError(message, Exit.RECIPE) from None
    if kind is diffusers.VQModel:
        # diffusers' codebook starts within 1/codes of zero, where nearly all latents have the same nearest code. An
        # untrained encoder's latents deviate by about this much, so that most codes are in use from the start.
        torch.nn.init.normal_(net.quantize.embedding.weight, std=0.15)
    return net
