"""Adapters of diffusers' autoencoders. Inside, images are in [-1, 1], but where a model's weights are for [0, 1].

Shape suffixes: B images, L latent channels, h and w the latents' side.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from unlearnkit.contracts import Embedding, ModelAdapter, View
from unlearnkit.errors import UserError
from unlearnkit_diffusers import loading
from unlearnkit_diffusers.sizes import ratio, require_given, require_side

COMMITMENT = 0.25
"""Weight of the term that holds latents to their codes (van den Oord et al. 2017; Esser et al. 2021)."""
REVIVAL = 0.25
"""Weight of the term that draws each code to its nearest latent."""
KL_WEIGHT = 1e-6
"""Weight of the Kullback-Leibler divergence (Rombach et al. 2022)."""


class AutoencoderAdapter(ModelAdapter):
    """An autoencoder of diffusers as encoder and decoder."""

    def __init__(self, net: Any, image_size: int, unit: bool = False) -> None:
        """Take a model for images in [-1, 1], or, where `unit`, in [0, 1]."""
        self.net, self.image_size, self.unit = net, image_size, unit
        # What the class of a network has of these, under the names of its weights.
        encoder, decoder = (
            OrderedDict((name, getattr(net, name)) for name in names if getattr(net, name, None) is not None)
            for names in (("encoder", "quant_conv"), ("quantize", "post_quant_conv", "decoder"))
        )
        self.encoder = nn.Sequential(encoder)
        self.module = nn.ModuleDict({"encoder": self.encoder, "decoder": nn.ModuleDict(decoder)})

    def made(self, view: View) -> Tensor:
        """Return what the encoder makes of a view, [B, L, h, w] or [B, 2L, h, w]."""
        return self.encoder(view.images if self.unit else view.images * 2 - 1)

    def embed(self, view: View) -> Embedding:
        """Return the latents [B, L, h, w] before quantisation."""
        return self.latents(self.made(view))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return the images of latents; the gradient passes straight through the codebook where there is one."""
        assert isinstance(embedding, Tensor)
        images = self.net.decode(embedding, return_dict=False)[0]
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
        quantize = self.net.quantize
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
        return KL_WEIGHT * DiagonalGaussianDistribution(made).kl().mean()


SIDE = 64
"""Side of the images of a model that says nothing of it, in pixels."""
LEVELS = (16, 32, 64, 96)
SMALL = {"block_out_channels": LEVELS, "layers_per_block": 1, "norm_num_groups": 8, "sample_size": SIDE}
KINDS: Mapping[str, tuple[Any, type[AutoencoderAdapter], Mapping[str, Any]]] = {
    "vq-gan": (VQModel, VQGANAdapter, SMALL | {"latent_channels": 32, "num_vq_embeddings": 512, "vq_embed_dim": 8}),
    "autoencoder-kl": (AutoencoderKL, KLAdapter, SMALL | {"latent_channels": 8}),
    "autoencoder-tiny": (AutoencoderTiny, AutoencoderAdapter, {"latent_channels": 4}),
}
"""By kind diffusers' class, the adapter, and the usual sizes by diffusers' names."""
NAMES = {"codes": "num_vq_embeddings", "code_width": "vq_embed_dim"}
FIELDS = {name: field for field, name in NAMES.items()} | dict.fromkeys(
    ("encoder_block_out_channels", "decoder_block_out_channels"), "block_out_channels"
)
"""Fields of sections and diffusers' names, where they differ."""


def autoencoder(weights: Path | None, *, kind: str, image_size: int | None = None, **given: Any) -> AutoencoderAdapter:
    """Return the adapter of an autoencoder with sizes by field; raise `UserError` where sizes or weights do not fit."""
    cls, adapter, usual = KINDS[kind]
    wanted = {NAMES.get(field, field): value for field, value in given.items() if value is not None}
    if cls is AutoencoderTiny:
        layers, channels = wanted.pop("layers_per_block", 1), wanted.pop("block_out_channels", None)
        if len(set(channels or ())) > 1:
            advice = f"give {[channels[-1]] * len(channels)}"
            raise UserError(f"model.block_out_channels: all levels of an autoencoder-tiny have as many; {advice}")
        if channels is not None:  # of each half
            wanted |= dict.fromkeys(("encoder_block_out_channels", "decoder_block_out_channels"), channels)
            wanted |= dict.fromkeys(("num_encoder_blocks", "num_decoder_blocks"), (layers,) * len(channels))
    unit = False
    if weights is None:
        net = fresh(cls, {**usual, **wanted})
    else:
        net, unit = loading.load(cls, weights)
        found = {FIELDS.get(name, name): net.config[name] for name in wanted}
        require_given({FIELDS.get(name, name): value for name, value in wanted.items()}, found, weights)
    size = image_size or net.config.get("sample_size") or SIDE
    require_side(size, ratio(net))
    if "sample_size" in net.config:
        net.register_to_config(sample_size=size)
    return adapter(net, size, unit)


def fresh(cls: Any, sizes: Mapping[str, Any]) -> Any:
    """Return an untrained model of a class of diffusers; raise `UserError` where it cannot be had in these sizes."""
    if cls is not AutoencoderTiny:
        levels = len(sizes["block_out_channels"])
        down, up = ("DownEncoderBlock2D",) * levels, ("UpDecoderBlock2D",) * levels
        sizes = {**sizes, "down_block_types": down, "up_block_types": up}
    try:
        net = cls(**sizes)
    except (ValueError, AssertionError) as error:
        raise UserError(
            f"model: diffusers cannot build a {cls.__name__} in these sizes ({error}); change them"
        ) from None
    if cls is VQModel:
        # diffusers' codebook starts within 1/codes of zero, where nearly all latents have the same nearest code. An
        # untrained encoder's latents deviate by about this much, so that most codes are in use from the start.
        torch.nn.init.normal_(net.quantize.embedding.weight, std=0.15)
    return net
