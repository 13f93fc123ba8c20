"""Diffusion in the latents of an autoencoder, in the layouts of Stable Diffusion's pipelines (Rombach et al. 2022).

Beside the noised latents of the truth the network sees something of the input. An inpainting one sees the mask and the
latents of the masked image; where nothing is hidden, the mask covers the whole image and the degraded image stands in
for the masked one. An editing one sees the latents of the image to be edited, as they leave the autoencoder (Brooks et
al. 2023). The autoencoder is the frozen first stage and also makes the image of what the network gives. Latents are the
mean of its posterior, so that they depend on the image alone.

Shape suffixes: B images, L channels of the latents, h and w their sides, P words of the prompt, D width of a word.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import Embedding, ModelAdapter, Size, View, sides, staged
from unlearnkit.errors import UserError
from unlearnkit_diffusers import single_file
from unlearnkit_diffusers.autoencoders import fresh
from unlearnkit_diffusers.diffusion import Noising, Sampler, sampling, start
from unlearnkit_diffusers.prompts import Prompt, prompt_for
from unlearnkit_diffusers.sizes import chosen, ratio, require_divisor, require_given, require_side, size_of
from unlearnkit_diffusers.unet import Halves, pretrained, require_plain

if TYPE_CHECKING:
    from unlearnkit_diffusers.diffusion_sections import Latent


class Parts(nn.Module):
    """The U-Net's halves, the first stage, and what the network is told: words [1, P, D], and what is added."""

    context: Tensor
    added: Tensor | None

    def __init__(self, unet: Any, vae: Any, context: Tensor, added: Tensor | None) -> None:
        super().__init__()
        self.unet, self.vae = Halves(unet), vae.requires_grad_(False)
        self.register_buffer("context", context, persistent=False)
        self.register_buffer("added", added, persistent=False)


class LatentAdapter(ModelAdapter):
    """A `UNet2DConditionModel` as encoder and decoder behind an `AutoencoderKL`."""

    sees_truth = True
    image_size: Size
    module: Parts
    does: ClassVar[str]
    """What the network is trained to do, for messages."""

    def __init__(self, unet: Any, vae: Any, sampler: Sampler, prompt: Prompt, image_size: Size) -> None:
        self.module = Parts(unet, vae, prompt.words, prompt.added(unet, image_size))
        self.unet, self.sampler, self.prompt, self.image_size = unet, sampler, prompt, image_size
        self.noising: Noising = sampler.noising
        self.encoder, self.first = self.module.unet.encoder, self.module.vae

    @staticmethod
    @abstractmethod
    def channels(latents: int) -> int:
        """Return how many channels the network's input has for latents of so many."""

    @abstractmethod
    def seen(self, images: Tensor) -> Tensor:
        """Return what of the degraded images the network sees, [B, L, h, w]."""

    @abstractmethod
    def joined(self, view: View, noisy: Tensor, seen: Tensor) -> Tensor:
        """Return the network's input [B, C, h, w]."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return noise [count, L, h, w] and times in [0, 1) [count]."""
        vae = self.module.vae
        shape = (side // ratio(vae) for side in sides(self.image_size))
        noise = torch.randn(count, vae.config["latent_channels"], *shape, generator=generator)
        return noise, torch.rand(count, generator=generator)

    def first_stage(self, view: View) -> tuple[Tensor, ...]:
        """Return the latents that the network sees and those of the truth, each [B, L, h, w]."""
        return self.seen(view.images), self.latents(view.truth)

    def embed(self, view: View) -> Embedding:
        """Return all skips of the down path and the middle block's output."""
        seen, truth = staged(self, view)
        noisy, _, told = self.noising.drawn(truth, *view.draws)
        context, added = self._told(len(noisy))
        unet = self.module.unet
        return unet.encoder(self.joined(view, noisy, seen), unet.time(told, added), context)

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        assert not isinstance(embedding, Tensor)
        _, truth = staged(self, view)
        noisy, gamma, told = self.noising.drawn(truth, *view.draws)
        context, added = self._told(len(noisy))
        unet = self.module.unet
        predicted = unet.decoder(embedding, unet.time(told, added), context).float()
        return self._image(self.noising.estimate(predicted, noisy, gamma))

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean squared error of the predicted noise over the latents (Rombach et al. 2022)."""
        if images is not view.truth:
            view = replace(view, truth=images, stage=())
        seen, truth = staged(self, view)
        noisy, gamma, told = self.noising.drawn(truth, *view.draws)
        predicted = self.module.unet(self.joined(view, noisy, seen), told, *self._told(len(noisy))).float()
        return (predicted - self.noising.wanted(truth, view.draws[0], gamma)).square().mean()

    @torch.no_grad()
    def output(self, view: View) -> Tensor:
        """Return a sample that starts from the view's noise, the same for every model."""
        seen = view.stage[0] if view.stage else self.seen(view.images)
        noise, _ = view.draws or (None, None)
        words = self._told(len(seen))
        sampled = self.sampler.sample(
            start(noise, seen), lambda noisy, told: self.module.unet(self.joined(view, noisy, seen), told, *words)
        )
        return view.filled(self._image(sampled).clamp(0, 1))

    def save(self, folder: Path) -> None:
        """Write `unet/`, `vae/` and `scheduler/` as diffusers does, and the prompt with its embeddings."""
        self.unet.save_pretrained(folder / "unet")
        self.module.vae.save_pretrained(folder / "vae")
        self.sampler.save(folder)
        self.prompt.save(folder)

    def latents(self, images: Tensor) -> Tensor:
        """Return the scaled latents of images, [B, L, h, w]."""
        return self.unscaled(images) * self.module.vae.config["scaling_factor"]

    def unscaled(self, images: Tensor) -> Tensor:
        """Return the latents of images as the autoencoder gives them."""
        # In fp32 within autocast too, so that it is the same whether it is computed in a step or once before.
        with torch.autocast(images.device.type, enabled=False):
            posterior = self.module.vae.encode(images * 2 - 1).latent_dist
        return posterior.mode()

    def _image(self, latents: Tensor) -> Tensor:
        """Return the image [B, 3, H, W] in [0, 1] of latents, not clamped."""
        return self.module.vae.decode(latents / self.module.vae.config["scaling_factor"]).sample.float() / 2 + 0.5

    def _told(self, count: int) -> tuple[Tensor, Tensor | None]:
        return self.module.context.expand(count, -1, -1), self.module.added


class LatentInpaintingAdapter(LatentAdapter):
    """The network of a Stable Diffusion that fills in a hidden region."""

    does = "inpaint"

    @staticmethod
    def channels(latents: int) -> int:
        return 2 * latents + 1

    def seen(self, images: Tensor) -> Tensor:
        return self.latents(images)

    def joined(self, view: View, noisy: Tensor, seen: Tensor) -> Tensor:
        mask = F.interpolate(view.region.to(noisy.dtype), size=noisy.shape[-2:])
        return torch.cat([noisy, mask, seen], dim=1)


class InstructPix2PixAdapter(LatentAdapter):
    """The network of an InstructPix2Pix, which edits an image by an instruction.

    The noised image is the truth, of pairs the edited image; where nobody has it, the image itself.
    """

    does = "edit"

    @staticmethod
    def channels(latents: int) -> int:
        return 2 * latents

    def seen(self, images: Tensor) -> Tensor:
        return self.unscaled(images)

    def joined(self, view: View, noisy: Tensor, seen: Tensor) -> Tensor:
        return torch.cat([noisy, seen], dim=1)


KINDS: Mapping[str, type[LatentAdapter]] = {
    "latent-inpainting": LatentInpaintingAdapter, "instruct-pix2pix": InstructPix2PixAdapter,
}  # fmt: skip

USUAL = {
    "num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
"""The noise schedule of Stable Diffusion 1, 2 and XL."""
SMALL = {"block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32, "norm_num_groups": 8}
"""Sizes of the U-Net where none are given, by the names that `UNet2DConditionModel` has for them too."""


def build(section: "Latent", weights: Path | None) -> LatentAdapter:
    """Return the adapter of a section; raise `UserError` where the weights do not fit it."""
    kind, tensors = KINDS[section.kind], None
    if weights is None:
        unet, vae = _fresh(section, kind)
    elif weights.is_dir():
        unet, vae = _read(weights)
    else:
        tensors = single_file.tensors(weights)
        unet, vae = single_file.unet(tensors, section.heads, weights), single_file.vae(tensors, weights)
    if weights is not None:
        _require_fit(section, kind, unet, vae, weights)
    prompt, factor = prompt_for(unet, section.prompt, weights, tensors), ratio(vae)
    size = section.image_size or size_of(unet, factor) or 64 * factor
    require_side(size, factor * ratio(unet))
    return kind(unet.eval(), vae.eval(), sampling(section, USUAL, weights), prompt, size)


def _fresh(section: "Latent", kind: type[LatentAdapter]) -> tuple[Any, Any]:
    sizes = chosen(dict(section), SMALL)
    channels, groups = sizes["block_out_channels"], sizes["norm_num_groups"]
    vae_channels, latents = section.vae_channels or (16, 32), section.latent_channels or 4
    heads, size = section.heads or 4, section.image_size or 64
    require_divisor("norm_num_groups", groups, (*channels, *vae_channels))
    require_divisor("heads", heads, channels)
    crossed, factor = len(channels) - 1, 2 ** (len(vae_channels) - 1)
    unet = UNet2DConditionModel(
        sample_size=size // factor if isinstance(size, int) else tuple(side // factor for side in size),
        in_channels=kind.channels(latents),
        out_channels=latents,
        down_block_types=(*["CrossAttnDownBlock2D"] * crossed, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * crossed),
        attention_head_dim=heads,  # of this class the number of heads
        **sizes,
    )
    of_vae = {"block_out_channels": vae_channels, "latent_channels": latents, "norm_num_groups": groups}
    return unet, fresh(AutoencoderKL, of_vae | {"sample_size": size})


def _read(folder: Path) -> tuple[Any, Any]:
    if absent := [name for name in ("unet", "vae") if not (folder / name).is_dir()]:
        raise UserError(
            f"{folder}: there is no {absent[0]}/ in it; give the folder of an inpainting or editing pipeline of "
            f"diffusers, with unet/, vae/ and scheduler/"
        )
    return pretrained(UNet2DConditionModel, folder / "unet"), pretrained(AutoencoderKL, folder / "vae")


def _require_fit(section: "Latent", kind: type[LatentAdapter], unet: Any, vae: Any, path: Path) -> None:
    """Raise `UserError` where networks from `path` are of another kind, or of other sizes than the recipe says."""
    latents = vae.config["latent_channels"]
    require_plain(unet, kind.channels(latents), latents, path / "unet" if path.is_dir() else path, kind.does)
    found = {name: unet.config[name] for name in SMALL} | {
        "heads": unet.config["num_attention_heads"] or unet.config["attention_head_dim"],
        "vae_channels": vae.config["block_out_channels"], "latent_channels": latents,
    }  # fmt: skip
    require_given(dict(section), found, path)
