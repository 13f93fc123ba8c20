"""The masked autoencoder of He et al. (CVPR 2022) around a vision transformer of timm.

Parameters have the names of the official checkpoints, so that these load as they are. Shape suffixes: B images,
N patches, V visible patches, D width of the encoder, P values of a patch.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import Embedding, ModelAdapter, View
from unlearnkit.disk import write_json
from unlearnkit.errors import UserError
from unlearnkit.patches import placed, sincos_positions, taken, visible
from unlearnkit.weights import fit, read, save
from unlearnkit_timm import vitmae
from unlearnkit_timm.names import check_name

if TYPE_CHECKING:
    from unlearnkit_timm import MAE

ENCODER = {"cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"}
"""Names that tell the weights of an encoder."""
NORM = partial(nn.LayerNorm, eps=1e-6)
PIXELS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "half": ((0.5,) * 3, (1.0,) * 3)}
"""Mean and deviation that pixels are normalised with."""


class Encoder(nn.Module):
    """A vision transformer that sees the visible patches and its class token only."""

    vit: Any  # a VisionTransformer, whose positions are a buffer here

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.vit, self.patch_size = vit, vit.patch_embed.patch_size[0]
        # Positions are fixed in a masked autoencoder, while timm would train them.
        del vit.pos_embed
        vit.register_buffer("pos_embed", self.positions(vit.embed_dim))
        patches = vit.patch_embed.proj.weight
        nn.init.xavier_uniform_(patches.data.view(patches.shape[0], -1))

    def positions(self, width: int) -> Tensor:
        """Return the positions [1, 1 + N, width] of the class token, zero, and of all patches.

        As in the authors' code the column is in the first half of the width; `sincos_positions` has the row there.
        """
        side = self.vit.patch_embed.grid_size[0]
        patches = sincos_positions(width, side).view(side, side, width).transpose(0, 1).flatten(0, 1)
        return torch.cat([torch.zeros(1, width), patches])[None]

    def forward(self, images: Tensor, places: Tensor, keep: Tensor | None) -> Tensor:
        """Return the class token and the tokens at `places`, [B, 1 + V, D]; padding gets zeros."""
        vit = self.vit
        x = taken(vit.patch_embed(images) + vit.pos_embed[:, 1:], places)
        x = torch.cat([(vit.cls_token + vit.pos_embed[:, :1]).expand(len(x), -1, -1), x], dim=1)
        keep = None if keep is None else F.pad(keep, (1, 0), value=True)
        mask = None if keep is None else keep[:, None, None, :]
        x = vit.norm_pre(x)
        for block in vit.blocks:
            x = block(x, attn_mask=mask)
        x = vit.norm(x)
        return x if keep is None else x * keep[..., None]


class Decoder(nn.Module):
    """Predict the values of all patches from the encoder's tokens."""

    decoder_pos_embed: Tensor

    def __init__(self, encoder: Encoder, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.decoder_embed = nn.Linear(encoder.vit.embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_pos_embed", encoder.positions(width))
        blocks = (Block(width, heads, qkv_bias=True, norm_layer=NORM) for _ in range(depth))  # type: ignore[arg-type]
        self.decoder_blocks = nn.Sequential(*blocks)
        self.decoder_norm = NORM(width)
        self.decoder_pred = nn.Linear(width, 3 * encoder.patch_size**2)
        self.apply(_initialise)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, embedding: Tensor, places: Tensor, keep: Tensor | None) -> Tensor:
        """Return the values of all patches [B, N, P]."""
        x = self.decoder_embed(embedding)
        patches = self.decoder_pos_embed.shape[1] - 1
        background = self.mask_token.to(x.dtype).expand(len(x), patches, -1)
        x = torch.cat([x[:, :1], placed(background, x[:, 1:], places, keep)], dim=1) + self.decoder_pos_embed
        return self.decoder_pred(self.decoder_norm(self.decoder_blocks(x)))[:, 1:]


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder under the names of the official checkpoints."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, decoder: Decoder, normalize: str) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        for name, values in zip(("mean", "std"), PIXELS[normalize], strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def official(self) -> dict[str, Tensor]:
        """Return all weights by their official names."""
        encoder = {name.removeprefix("vit."): value for name, value in self.encoder.state_dict().items()}
        return encoder | dict(self.decoder.state_dict())


class MAEAdapter(ModelAdapter):
    """The masked autoencoder as encoder and decoder; a patch with one hidden pixel is hidden."""

    module: MaskedAutoencoder

    def __init__(
        self, module: MaskedAutoencoder, norm_pix_loss: bool, configuration: Mapping[str, Any] | None = None
    ) -> None:
        """Take the model, and the configuration of transformers where it is to be written as transformers does."""
        self.module, self.encoder, self.norm_pix_loss = module, module.encoder, norm_pix_loss
        self.configuration = configuration
        self.patch_size = module.encoder.patch_size
        self.image_size = module.encoder.vit.patch_embed.img_size[0]

    def embed(self, view: View) -> Embedding:
        """Return the class token and the tokens of the visible patches, [B, 1 + V, D]."""
        return self.module.encoder(self._in(view.images), *visible(view, self.patch_size))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        assert isinstance(embedding, Tensor)
        places, keep = visible(view, self.patch_size)
        values = self.module.decoder(embedding, places, keep)
        if self.norm_pix_loss:
            mean, deviation = self._around(view, places, keep)
            values = values * deviation + mean
        return self._unpatchify(values) * self.module.std + self.module.mean

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean squared error of the hidden patches (He et al. 2022); of all where nothing is hidden."""
        places, keep = visible(view, self.patch_size)
        values = self.module.decoder(self.module.encoder(self._in(view.images), places, keep), places, keep)
        wanted = self._patchify(self._in(images))
        if self.norm_pix_loss:
            variance, mean = torch.var_mean(wanted, dim=2, keepdim=True)
            wanted = (wanted - mean) / (variance + 1e-6).sqrt()
        error = (values.float() - wanted).square().mean(2)
        weight = F.max_pool2d(view.region.float(), self.patch_size).flatten(1)
        return (error * weight).sum() / weight.sum()

    def save(self, folder: Path) -> None:
        """Write the weights by their official names, or as transformers has them where they came so."""
        tensors = self.module.official()
        if self.configuration is not None:
            write_json(folder / "config.json", self.configuration)
            tensors = vitmae.theirs(tensors)
        save(tensors, folder / "model.safetensors")

    def _in(self, images: Tensor) -> Tensor:
        return (images - self.module.mean) / self.module.std

    def _patchify(self, images: Tensor) -> Tensor:
        """Cut images into patches [B, N, P], values by row, column and colour as in the official code."""
        cut = images.unflatten(3, (-1, self.patch_size)).unflatten(2, (-1, self.patch_size))
        return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def _unpatchify(self, patches: Tensor) -> Tensor:
        side, patch = self.image_size // self.patch_size, self.patch_size
        cut = patches.unflatten(1, (side, side)).unflatten(3, (patch, patch, 3))
        return cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)

    def _around(self, view: View, places: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of each patch [B, N, 1], interpolated from the visible ones by inverse distance.

        In an image without a visible patch, those of all its visible pixels.
        """
        keep = torch.ones_like(places, dtype=torch.bool) if keep is None else keep
        pixels = self._in(view.images)
        variance, mean = (figure.gather(1, places) for figure in torch.var_mean(self._patchify(pixels), dim=2))
        side = self.image_size // self.patch_size
        place = torch.stack([places // side, places % side], dim=2).float()
        every = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float().to(place.device)
        distance = (every[None, :, None] - place[:, None]).square().sum(3)
        # A visible patch all but fixes its own figures; one that is padding has no say.
        weight = keep[:, None] / (distance + 1e-3).square()
        weight = weight / weight.sum(2, keepdim=True).clamp(min=1e-12)
        shown = (~view.hidden).expand_as(pixels).float()
        count = shown.sum((1, 2, 3), keepdim=True).clamp(min=1)
        middle = (pixels * shown).sum((1, 2, 3), keepdim=True) / count
        spread = (((pixels - middle).square() * shown).sum((1, 2, 3), keepdim=True) / count + 1e-6).sqrt()
        some = keep.any(1)[:, None, None]
        seen, whole = (mean, (variance + 1e-6).sqrt()), (middle, spread)
        around, deviation = (
            torch.where(some, (weight * figure[:, None]).sum(2, keepdim=True), of_all.flatten(2))
            for figure, of_all in zip(seen, whole, strict=True)
        )
        return around, deviation


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def build(section: "MAE", weights: Path | None) -> MAEAdapter:
    """Return the adapter of a section; raise `UserError` where sizes or weights do not fit."""
    configuration = vitmae.configuration(weights) if weights is not None and weights.is_dir() else None
    if weights is not None and configuration is not None:
        section = vitmae.sized(section, configuration, weights)
    encoder = Encoder(_transformer(section))
    decoder = Decoder(encoder, section.decoder_width, section.decoder_depth, section.decoder_heads)
    module = MaskedAutoencoder(encoder, decoder, section.normalize)
    if weights is not None:
        _load(module, weights, section.decoder == "fresh", configuration)
    return MAEAdapter(module, section.norm_pix_loss, configuration)


def _transformer(section: "MAE") -> VisionTransformer:
    check_name("model.architecture", section.architecture, "vit_*")
    sizes: dict[str, Any] = {
        "img_size": section.image_size, "patch_size": section.patch_size, "embed_dim": section.width,
        "depth": section.depth, "num_heads": section.heads,
    }  # fmt: skip
    given = {name: size for name, size in sizes.items() if size is not None}
    try:
        vit = timm.create_model(section.architecture, num_classes=0, **given)
    except (AssertionError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"model: timm cannot build {section.architecture} in these sizes ({error})") from None
    if (
        not isinstance(vit, VisionTransformer)
        or type(vit.patch_embed) is not PatchEmbed  # a convolutional stem sees beyond its patch
        or vit.num_prefix_tokens != 1
        or vit.cls_token is None
    ):
        raise UserError(
            f"model.architecture: '{section.architecture}' is no plain vision transformer with one class token; "
            f"use one such as vit_base_patch16_224"
        )
    size, patch = vit.patch_embed.img_size[0], vit.patch_embed.patch_size[0]
    if size % patch:
        raise UserError(f"model.patch_size: {patch} px must divide image_size ({size} px)")
    return vit


def _load(module: MaskedAutoencoder, path: Path, fresh: bool, configuration: Mapping[str, Any] | None) -> None:
    """Load the official layout, that of transformers, or an encoder alone where a fresh decoder is wanted."""
    wanted = module.official()
    found = read(path, wanted, ENCODER, *vitmae.NAMES)
    if any(names <= found.keys() for names in vitmae.NAMES):
        if configuration is None:
            raise UserError(f"{path}: these are the weights of transformers' ViTMAE; give its folder with config.json")
        found = vitmae.official(found)
    for layer in module.modules():
        if configuration is not None and isinstance(layer, nn.LayerNorm):
            layer.eps = configuration.get("layer_norm_eps", 1e-12)
    whole = any(name.startswith("decoder_") or name == "mask_token" for name in found)
    if not whole and found.keys() >= ENCODER:
        if not fresh:
            raise UserError(
                f"{path}: these are the weights of an encoder alone; take the checkpoint with decoder "
                f"(mae_pretrain_vit_*_full.pth), or set `decoder: fresh` and train one with `unlearnkit pretrain`"
            )
        heads = ("head.", "fc_norm.", "head_drop.")
        kept = {name: value for name, value in found.items() if not name.startswith(heads)}
        fit(module.encoder.vit.state_dict(), kept, path)
    else:
        fit(wanted, found, path)
