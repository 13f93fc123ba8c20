"""Latent diffusion inpainting in the layout of Stable Diffusion's inpainting models (Rombach et al. 2022).

The network's input is the noised latents of the truth, the mask at their size, and the latents of the masked image.
The autoencoder is the frozen first stage and also makes the image of what the network gives. Where nothing is hidden,
the mask covers the whole image and the degraded image stands in for the masked one. Latents are the mean of the
autoencoder's posterior, so that they depend on the image alone.

Shape suffixes: B images, L channels of the latents, h and w their side, P words of the prompt, D width of a word.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import Embedding, ModelAdapter, View, staged
from unlearnkit.disk import write_json
from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.weights import read
from unlearnkit.weights import save as save_tensors
from unlearnkit_diffusers.autoencoders import fresh
from unlearnkit_diffusers.diffusion import Noising, Sampler, sampling, start
from unlearnkit_diffusers.sizes import chosen, ratio, read_facts, require_divisor, require_given, require_side
from unlearnkit_diffusers.unet import Halves, pretrained, require_plain

if TYPE_CHECKING:
    from unlearnkit_diffusers.diffusion_sections import LatentInpainting

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
    image_size: int
    module: Parts

    def __init__(self, parts: Parts, unet: Any, sampler: Sampler, prompt: str, image_size: int) -> None:
        self.module, self.unet, self.sampler, self.prompt, self.image_size = parts, unet, sampler, prompt, image_size
        self.noising: Noising = sampler.noising
        self.encoder, self.first = parts.unet.encoder, parts.vae
        self.factor = ratio(parts.vae)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return noise [count, L, h, w] and times in [0, 1) [count]."""
        side = self.image_size // self.factor
        noise = torch.randn(count, self.module.vae.config["latent_channels"], side, side, generator=generator)
        return noise, torch.rand(count, generator=generator)

    def first_stage(self, view: View) -> tuple[Tensor, ...]:
        """Return the latents of the masked image and of the truth, each [B, L, h, w]."""
        return self._latents(view.images), self._latents(view.truth)

    def embed(self, view: View) -> Embedding:
        """Return all skips of the down path and the middle block's output."""
        masked, truth = staged(self, view)
        noisy, _, told = self.noising.drawn(truth, *view.draws)
        unet = self.module.unet
        return unet.encoder(self._input(view, noisy, masked), unet.time(told), self._context(len(noisy)))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        assert not isinstance(embedding, Tensor)
        _, truth = staged(self, view)
        noisy, gamma, told = self.noising.drawn(truth, *view.draws)
        unet = self.module.unet
        predicted = unet.decoder(embedding, unet.time(told), self._context(len(noisy))).float()
        return self._image(self.noising.estimate(predicted, noisy, gamma))

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean squared error of the predicted noise over the latents (Rombach et al. 2022)."""
        if images is not view.truth:
            view = replace(view, truth=images, stage=())
        masked, truth = staged(self, view)
        noisy, gamma, told = self.noising.drawn(truth, *view.draws)
        predicted = self.module.unet(self._input(view, noisy, masked), told, self._context(len(noisy))).float()
        return (predicted - self.noising.wanted(truth, view.draws[0], gamma)).square().mean()

    @torch.no_grad()
    def output(self, view: View) -> Tensor:
        """Return a sample that starts from the view's noise, the same for every model."""
        masked = view.stage[0] if view.stage else self._latents(view.images)
        noise, _ = view.draws or (None, None)
        context = self._context(len(masked))
        sampled = self.sampler.sample(
            start(noise, masked), lambda noisy, told: self.module.unet(self._input(view, noisy, masked), told, context)
        )
        return view.filled(self._image(sampled).clamp(0, 1))

    def save(self, folder: Path) -> None:
        """Write `unet/`, `vae/` and `scheduler/` as diffusers does, and the prompt with its embedding."""
        self.unet.save_pretrained(folder / "unet")
        self.module.vae.save_pretrained(folder / "vae")
        self.sampler.save(folder)
        write_json(folder / FACTS, {"prompt": self.prompt})
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


USUAL = {
    "num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
"""The noise schedule of Stable Diffusion 1 and 2."""
SMALL = {"block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32, "norm_num_groups": 8}
"""Sizes of the U-Net where none are given, by the names that `UNet2DConditionModel` has for them too."""


def build(section: "LatentInpainting", weights: Path | None) -> LatentInpaintingAdapter:
    """Return the adapter of a section; raise `UserError` where the weights do not fit it."""
    unet, vae = _fresh(section) if weights is None else _read(section, weights)
    context = _context(section.prompt, unet.config["cross_attention_dim"], weights)
    factor = ratio(vae)
    size = section.image_size or (unet.config["sample_size"] or 64) * factor
    require_side(size, factor * ratio(unet))
    parts = Parts(unet.eval(), vae.eval(), context)
    return LatentInpaintingAdapter(parts, unet, sampling(section, USUAL, weights), section.prompt, size)


def _fresh(section: "LatentInpainting") -> tuple[Any, Any]:
    sizes = chosen(dict(section), SMALL)
    channels, groups = sizes["block_out_channels"], sizes["norm_num_groups"]
    vae_channels, latents = section.vae_channels or (16, 32), section.latent_channels or 4
    heads, size = section.heads or 4, section.image_size or 64
    require_divisor("norm_num_groups", groups, (*channels, *vae_channels))
    require_divisor("heads", heads, channels)
    crossed = len(channels) - 1
    unet = UNet2DConditionModel(
        sample_size=size // 2 ** (len(vae_channels) - 1),
        in_channels=2 * latents + 1,
        out_channels=latents,
        down_block_types=(*["CrossAttnDownBlock2D"] * crossed, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * crossed),
        attention_head_dim=heads,  # of this class the number of heads
        **sizes,
    )
    of_vae = {"block_out_channels": vae_channels, "latent_channels": latents, "norm_num_groups": groups}
    return unet, fresh(AutoencoderKL, of_vae | {"sample_size": size})


def _read(section: "LatentInpainting", folder: Path) -> tuple[Any, Any]:
    if absent := [name for name in ("unet", "vae") if not (folder / name).is_dir()]:
        raise UserError(
            f"{folder}: there is no {absent[0]}/ in it; give the folder of an inpainting pipeline of diffusers, with "
            f"unet/, vae/ and scheduler/"
        )
    unet, vae = pretrained(UNet2DConditionModel, folder / "unet"), pretrained(AutoencoderKL, folder / "vae")
    latents = vae.config["latent_channels"]
    require_plain(unet, 2 * latents + 1, latents, folder / "unet")
    found = {name: unet.config[name] for name in SMALL} | {
        "heads": unet.config["num_attention_heads"] or unet.config["attention_head_dim"],
        "vae_channels": vae.config["block_out_channels"], "latent_channels": latents,
    }  # fmt: skip
    require_given(dict(section), found, folder)
    return unet, vae


def _context(prompt: str, width: int, folder: Path | None) -> Tensor:
    """Return the embedding [1, P, D] of the prompt: the one saved with the weights, or by their text encoder."""
    if folder and read_facts(folder / FACTS).get("prompt") == prompt:
        return read(folder / WORDS)["embedding"].float()
    if folder and (folder / "text_encoder").is_dir() and (folder / "tokenizer").is_dir():
        return _encoded(prompt, folder)
    if prompt:
        whose = f"the weights in {folder} have" if folder else "a model without weights has"
        raise UserError(f"model.prompt: {whose} no text encoder; leave the prompt out")
    return torch.zeros(1, COUNT, width)


def _encoded(prompt: str, folder: Path) -> Tensor:
    try:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    except ImportError:
        raise UserError(
            f"model.prompt: the text encoder in {folder} needs `pip install 'unlearnkit-diffusers[prompt]'`",
            Exit.PLUGIN,
        ) from None
    place, wanted = folder / "text_encoder", "CLIP's text model"
    tokenizer = _part(CLIPTokenizer, folder / "tokenizer", "CLIP's tokenizer", local_files_only=True)
    config = _part(CLIPTextConfig, place, wanted, local_files_only=True)
    own: Any = {"config": config, "state_dict": read(place), "dtype": torch.float32, "output_loading_info": True}
    encoder, info = _part(CLIPTextModel, place, wanted, source=None, **own)
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"{place}: its weights lack {missing[0]}; give {wanted}")
    words = tokenizer(
        prompt, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        return encoder.eval()(words.input_ids)[0]


def _part(kind: Any, folder: Path, wanted: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(options.pop("source", folder), **options)
    except Exception as error:  # transformers raises many kinds for files that are none of its own
        raise UserError(f"{folder}: {first_line(error)}; give {wanted}") from None
