"""Latent diffusion inpainting in the layout of Stable Diffusion's inpainting models (Rombach et al. 2022).

The network's input is the noised latents of the truth, the mask at their size, and the latents of the masked image.
The autoencoder is the frozen first stage and also makes the image of what the network gives. Where nothing is hidden,
the mask covers the whole image and the degraded image stands in for the masked one. Latents are the mean of the
autoencoder's posterior, so that they depend on the image alone.

Shape suffixes: B images, L channels of the latents, h and w their side, P words of the prompt, D width of a word.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import Embedding, ModelAdapter, View
from unlearnkit.errors import Exit, UserError
from unlearnkit.weights import read
from unlearnkit.weights import save as save_tensors
from unlearnkit_diffusers.diffusion import Noising, Sampler, schedule, start
from unlearnkit_diffusers.diffusion_sections import LatentInpainting
from unlearnkit_diffusers.unet import Halves, pretrained, read_facts, require_given, require_plain, require_side

FACTS, WORDS = "prompt.json", "prompt.safetensors"
"""The prompt a folder was saved with and its embedding, so that no solution has to carry the text encoder."""
COUNT = 77
"""Words of an empty prompt where there is no text encoder, as many as CLIP's tokenizer gives."""


class Parts(nn.Module):
    """The U-Net's halves, the first stage, and the prompt's embedding [1, P, D]."""

    context: Tensor

    def __init__(self, unet: Any, vae: Any, context: Tensor) -> None:
        super().__init__()
        self.unet, self.vae = Halves(unet), vae.requires_grad_(False)
        self.register_buffer("context", context, persistent=False)


class LatentInpaintingAdapter(ModelAdapter):
    """A `UNet2DConditionModel` as encoder and decoder behind an `AutoencoderKL`."""

    sees_truth = True
    module: Parts

    def __init__(self, parts: Parts, unet: Any, sampler: Sampler, prompt: str, image_size: int) -> None:
        self.module, self.unet, self.sampler, self.prompt, self.image_size = parts, unet, sampler, prompt, image_size
        self.noising: Noising = sampler.noising
        self.encoder, self.first = parts.unet.encoder, parts.vae
        self.factor = 2 ** (len(parts.vae.config["block_out_channels"]) - 1)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return noise [count, L, h, w] and times in [0, 1) [count]."""
        side = self.image_size // self.factor
        noise = torch.randn(count, self.module.vae.config["latent_channels"], side, side, generator=generator)
        return noise, torch.rand(count, generator=generator)

    def first_stage(self, view: View) -> tuple[Tensor, ...]:
        """Return the latents of the masked image and, where the view has it, of the truth, each [B, L, h, w]."""
        masked = self._latents(view.images)
        return (masked,) if view.truth is None else (masked, self._latents(view.truth))

    def embed(self, view: View) -> Embedding:
        """Return all skips of the down path and the middle block's output."""
        masked, truth = self.staged(view)
        noisy, _, told = self._noised(truth, view)
        unet = self.module.unet
        return unet.encoder(self._input(view, noisy, masked), unet.time(told), self._context(len(noisy)))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return the image of the one-step estimate of the latents."""
        assert not isinstance(embedding, Tensor)
        _, truth = self.staged(view)
        noisy, gamma, told = self._noised(truth, view)
        unet = self.module.unet
        predicted = unet.decoder(embedding, unet.time(told), self._context(len(noisy))).float()
        return self._image(self.noising.estimate(predicted, noisy, gamma))

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean squared error of the predicted noise over the latents (Rombach et al. 2022)."""
        if images is not view.truth:
            view = replace(view, truth=images, stage=())
        masked, truth = self.staged(view)
        noisy, gamma, told = self._noised(truth, view)
        predicted = self.module.unet(self._input(view, noisy, masked), told, self._context(len(noisy))).float()
        return (predicted - self.noising.wanted(truth, view.draws[0], gamma)).square().mean()

    @torch.no_grad()
    def output(self, view: View) -> Tensor:
        """Return a sample that starts from the view's noise, the same for every model."""
        masked = view.stage[0] if view.stage else self._latents(view.images)
        context = self._context(len(masked))

        def predict(noisy: Tensor, told: Tensor) -> Tensor:
            return self.module.unet(self._input(view, noisy, masked), told, context)

        image = self._image(self.sampler.sample(start(view.draws[0] if view.draws else None, masked), predict)).clamp(
            0, 1
        )
        return torch.where(view.region, image, view.images)

    def save(self, folder: Path) -> None:
        """Write `unet/`, `vae/` and `scheduler/` as diffusers does, and the prompt with its embedding."""
        self.unet.save_pretrained(folder / "unet")
        self.module.vae.save_pretrained(folder / "vae")
        self.sampler.save(folder)
        (folder / FACTS).write_text(json.dumps({"prompt": self.prompt}, indent=2) + "\n", encoding="utf-8")
        save_tensors({"embedding": self.module.context}, folder / WORDS)

    def _latents(self, images: Tensor) -> Tensor:
        # In fp32 within autocast too, so that it is the same whether it is computed in a step or once before.
        with torch.autocast(images.device.type, enabled=False):
            posterior = self.module.vae.encode(images * 2 - 1).latent_dist
        return posterior.mode() * self.module.vae.config["scaling_factor"]

    def _image(self, latents: Tensor) -> Tensor:
        """Return the image [B, 3, H, W] in [0, 1] of latents, not clamped."""
        return self.module.vae.decode(latents / self.module.vae.config["scaling_factor"]).sample.float() / 2 + 0.5

    def _context(self, count: int) -> Tensor:
        return self.module.context.expand(count, -1, -1)

    def _input(self, view: View, noisy: Tensor, masked: Tensor) -> Tensor:
        mask = F.interpolate(view.region.to(noisy.dtype), size=noisy.shape[-2:])
        return torch.cat([noisy, mask, masked], dim=1)

    def _noised(self, truth: Tensor, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Return the noised latents of the truth, γ, and what the network is told."""
        noise, time = view.draws
        gamma, told = self.noising.at(time)
        return self.noising.noised(truth, noise, gamma), gamma, told


USUAL = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""The noise schedule of Stable Diffusion 1 and 2."""


def build(section: LatentInpainting, weights: Path | None) -> LatentInpaintingAdapter:
    """Return the adapter of a section; raise `UserError` where the weights do not fit it."""
    if weights is None:
        unet, vae, context = _fresh(section)
    else:
        unet, vae, context = _read(section, weights)
    factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
    size = section.image_size or (unet.config["sample_size"] or 64) * factor
    require_side(size, factor * 2 ** (len(unet.config["block_out_channels"]) - 1))
    sampler = Sampler(section.scheduler, section.steps, Noising(schedule(section, USUAL, weights)))
    parts = Parts(unet.eval(), vae.eval(), context)
    return LatentInpaintingAdapter(parts, unet, sampler, section.prompt, size)


def _fresh(section: LatentInpainting) -> tuple[Any, Any, Tensor]:
    if section.prompt:
        raise _wordless("a model without weights has")
    channels, vae_channels = section.block_out_channels or (32, 64), section.vae_channels or (16, 32)
    latents, width, groups = (
        section.latent_channels or 4,
        section.cross_attention_dim or 32,
        section.norm_num_groups or 8,
    )
    heads, last = section.heads or 4, len(channels) - 1
    for field, value, widths in (
        ("norm_num_groups", groups, (*channels, *vae_channels)),
        ("heads", heads, channels),
    ):
        if odd := [found for found in widths if found % value]:
            raise UserError(
                f"model.{field}: {value} does not divide the {odd[0]} channels of a level; give a divisor of every "
                f"level's channels",
                Exit.RECIPE,
            )
    factor = 2 ** (len(vae_channels) - 1)
    down = [*["CrossAttnDownBlock2D"] * last, "DownBlock2D"]
    up = ["UpBlock2D", *["CrossAttnUpBlock2D"] * last]
    layers = section.layers_per_block or 1
    unet = UNet2DConditionModel(
        sample_size=(section.image_size or 64) // factor,
        in_channels=2 * latents + 1,
        out_channels=latents,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        block_out_channels=channels,
        layers_per_block=layers,
        # Of this class, `attention_head_dim` is the number of heads.
        attention_head_dim=heads,
        cross_attention_dim=width,
        norm_num_groups=groups,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(vae_channels),
        up_block_types=("UpDecoderBlock2D",) * len(vae_channels),
        block_out_channels=vae_channels,
        latent_channels=latents,
        norm_num_groups=groups,
        sample_size=section.image_size or 64,
    )
    return unet, vae, torch.zeros(1, COUNT, width)


def _read(section: LatentInpainting, folder: Path) -> tuple[Any, Any, Tensor]:
    if absent := [name for name in ("unet", "vae") if not (folder / name).is_dir()]:
        raise UserError(
            f"{folder}: there is no {absent[0]}/ in it; give the folder of an inpainting pipeline of diffusers, with "
            f"unet/, vae/ and scheduler/",
            Exit.RECIPE,
        )
    unet, vae = pretrained(UNet2DConditionModel, folder / "unet"), pretrained(AutoencoderKL, folder / "vae")
    latents = vae.config["latent_channels"]
    require_plain(unet, 2 * latents + 1, latents, folder / "unet")
    given = {
        name: (getattr(section, name), unet.config[name])
        for name in ("block_out_channels", "layers_per_block", "cross_attention_dim", "norm_num_groups")
    }
    given["heads"] = section.heads, unet.config["num_attention_heads"] or unet.config["attention_head_dim"]
    given["vae_channels"] = section.vae_channels, vae.config["block_out_channels"]
    given["latent_channels"] = section.latent_channels, latents
    require_given(given, folder)
    return unet, vae, _context(section.prompt, unet.config["cross_attention_dim"], folder)


def _wordless(whose: str) -> UserError:
    return UserError(f"model.prompt: {whose} no text encoder; leave the prompt out", Exit.RECIPE)


def _context(prompt: str, width: int, folder: Path) -> Tensor:
    """Return the embedding [1, P, D] of the prompt: the one saved with the weights, or by their text encoder."""
    if read_facts(folder / FACTS).get("prompt") == prompt:
        return read(folder / WORDS)["embedding"].float()
    if (folder / "text_encoder").is_dir() and (folder / "tokenizer").is_dir():
        return _encoded(prompt, folder)
    if prompt:
        raise _wordless(f"the weights in {folder} have")
    return torch.zeros(1, COUNT, width)


def _encoded(prompt: str, folder: Path) -> Tensor:
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError:
        raise UserError(
            f"model.prompt: the text encoder in {folder} needs `pip install 'unlearnkit-diffusers[prompt]'`",
            Exit.PLUGIN,
        ) from None
    try:
        tokenizer: Any = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder / 'tokenizer'}: {str(error).strip().splitlines()[0]}; give CLIP's tokenizer", Exit.RECIPE
        ) from None
    try:
        encoder = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder / 'text_encoder'}: {str(error).strip().splitlines()[0]}; give CLIP's text model with safetensors",
            Exit.RECIPE,
        ) from None
    words = tokenizer(
        prompt, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        return encoder.eval()(words.input_ids)[0]
