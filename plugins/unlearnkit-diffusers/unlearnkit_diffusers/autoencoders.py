"""Adapters of diffusers' autoencoders. Inside, images are in [-1, 1], but where a model's weights are for [0, 1].

Shape suffixes: B images, L latent channels, h and w the latents' side.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from torch import Tensor, nn

from unlearnkit.contracts import Embedding, ModelAdapter, Size, View
from unlearnkit.errors import UserError
from unlearnkit.weights import resolve
from unlearnkit_diffusers import loading
from unlearnkit_diffusers.sizes import ratio, read_facts, require_given, require_side, size_of
from unlearnkit_diffusers.unet import configured

if TYPE_CHECKING:
    from unlearnkit_diffusers.autoencoder_sections import Autoencoder

COMMITMENT = 0.25
"""Weight of the term that holds latents to their codes (van den Oord et al. 2017; Esser et al. 2021)."""
REVIVAL = 0.25
"""Weight of the term that draws each code to its nearest latent."""
KL_WEIGHT = 1e-6
"""Weight of the Kullback-Leibler divergence (Rombach et al. 2022)."""


class AutoencoderAdapter(ModelAdapter):
    """An autoencoder of diffusers as encoder and decoder."""

    image_size: Size

    def __init__(self, net: Any, image_size: Size, unit: bool = False) -> None:
        """Take a model for images in [-1, 1], or, where `unit`, in [0, 1]."""
        self.net, self.image_size, self.unit = net, image_size, unit
        # What the class of a network has of these, under the names of its weights.
        encoder, decoder = (
            OrderedDict((name, getattr(net, name)) for name in names if getattr(net, name, None) is not None)
            for names in (("encoder", "quant_conv"), ("quantize", "post_quant_conv", "decoder"))
        )
        self.encoder = nn.Sequential(encoder)
        self.module = nn.ModuleDict({"encoder": self.encoder, "decoder": nn.ModuleDict(decoder)})

    def made(self, view: View) -> Any:
        """Return what diffusers says of a view's images: a posterior, or latents."""
        return self.net.encode(view.images if self.unit else view.images * 2 - 1)

    def embed(self, view: View) -> Embedding:
        """Return the latents [B, L, h, w] before quantisation."""
        return latents(self.made(view))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return the images of latents; the gradient passes straight through the codebook where there is one."""
        assert isinstance(embedding, Tensor)
        images = self.net.decode(embedding, return_dict=False)[0]
        return images if self.unit else images / 2 + 0.5

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the reconstruction loss, L1 + L2 over all pixels and over those to be made, plus the penalty.

        The perceptual and the adversarial terms that published autoencoders add are left out.
        """
        made = self.made(view)
        error = (self.decode(latents(made), view).float() - images) * 2
        error = (error.abs() + error.square()).mean(1, keepdim=True)
        region = view.region.float()
        return error.mean() + (error * region).sum() / region.sum() + self.penalty(made)

    def penalty(self, made: Any) -> Tensor:
        """Return what a posterior or a codebook adds to the reconstruction.

        Of a posterior that is the divergence from the unit Gaussian, a sum over entries and a mean over images.
        """
        if "latent_dist" in made:
            return KL_WEIGHT * made.latent_dist.kl().mean()
        quantize = getattr(self.net, "quantize", None)
        return made[0].new_zeros(()) if quantize is None else _codebook(quantize, made[0])

    def save(self, folder: Path) -> None:
        """Write the model as diffusers does, or in TAESD's layout one that diffusers does not know."""
        loading.save(self.net, self.unit, folder)


def latents(made: Any) -> Tensor:
    """Return the latents [B, L, h, w] that diffusers says.

    Of a posterior they are the mean; its width is held by the divergence alone, as nothing is drawn.
    """
    return made.latent_dist.mode() if "latent_dist" in made else made[0]


def _codebook(quantize: Any, latents: Tensor) -> Tensor:
    """Return the codebook loss, the commitment loss, and what draws codes that go unused to the latents.

    The last is the mean squared distance of each code from its nearest latent of the batch. Without it most codes of a
    small model fall out of use for good; it is not in the published loss and moves nothing but the codebook.
    """
    width = latents.permute(0, 2, 3, 1).flatten(0, 2)
    _, _, (_, _, codes) = quantize(latents.detach())
    nearest = quantize.embedding(codes.flatten())
    codebook, commitment = (nearest - width.detach()).square().mean(), (nearest.detach() - width).square().mean()
    with torch.no_grad():
        closest = width[torch.cdist(quantize.embedding.weight, width).argmin(1)]
    unused = (quantize.embedding.weight - closest).square().mean()
    return codebook + COMMITMENT * commitment + REVIVAL * unused


SIDE = 64
"""Side of the images of a model that says nothing of it, in pixels."""
LEVELS = (16, 32, 64, 96)
SMALL = {"block_out_channels": LEVELS, "layers_per_block": 1, "norm_num_groups": 8, "sample_size": SIDE}
KINDS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "vq-gan": (VQModel, SMALL | {"latent_channels": 32, "num_vq_embeddings": 512, "vq_embed_dim": 8}),
    "autoencoder-kl": (AutoencoderKL, SMALL | {"latent_channels": 8}),
    "autoencoder-tiny": (AutoencoderTiny, {"latent_channels": 4}),
}
"""By kind diffusers' class and the usual sizes by diffusers' names."""
IMAGE = (
    "AsymmetricAutoencoderKL", "AutoencoderDC", "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLHunyuanImage",
    "AutoencoderKLKVAE", "AutoencoderTiny", "VQModel",
)  # fmt: skip
"""Classes of diffusers that go from an image to latents at its places and back, drawing nothing; tests try each."""
NAMES = {"codes": "num_vq_embeddings", "code_width": "vq_embed_dim"}
FIELDS = {name: field for field, name in NAMES.items()} | dict.fromkeys(
    ("encoder_block_out_channels", "decoder_block_out_channels"), "block_out_channels"
)
"""Fields of sections and diffusers' names, where they differ."""


def autoencoder(weights: Path | None, *, kind: str, image_size: Size | None = None, **given: Any) -> AutoencoderAdapter:
    """Return the adapter of an autoencoder with sizes by field; raise `UserError` where sizes or weights do not fit."""
    cls, usual = KINDS[kind]
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
    return _sized(net, image_size, unit)


def _sized(net: Any, image_size: Size | None, unit: bool = False) -> AutoencoderAdapter:
    size = image_size or size_of(net) or SIDE
    require_side(size, ratio(net))
    # Not each class can be built with height and width.
    if "sample_size" in net.config and (isinstance(size, int) or isinstance(net, AutoencoderKL | VQModel)):
        net.register_to_config(sample_size=size)
    return AutoencoderAdapter(net, size, unit)


def whichever(section: "Autoencoder", weights: Path | None) -> AutoencoderAdapter:
    """Return the adapter of the autoencoder in a folder, or, without weights, of an untrained one of the same sizes.

    Raise `UserError` where the folder's class is none of those for images.
    """
    folder = weights or resolve(section.weights, section.folder)
    assert folder is not None
    if not folder.is_dir():
        advice = "give its folder, or for one file `kind: autoencoder-kl`"
        raise UserError(f"{folder}: an autoencoder is known by the config.json of its folder; {advice}")
    place = folder if (folder / "config.json").is_file() else folder / "vae"
    name = read_facts(place / "config.json").get("_class_name")
    known = {one: cls for one in IMAGE if (cls := getattr(diffusers, one, None)) is not None}
    if name not in known:
        found = f"a {name}, which is no autoencoder of images that is known here" if name else "no config.json in it"
        raise UserError(f"{folder}: there is {found}; give one of {', '.join(known)}")
    net, unit = loading.load(known[name], place)
    return _sized(net if weights else configured(known[name], place), section.image_size, unit)


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
