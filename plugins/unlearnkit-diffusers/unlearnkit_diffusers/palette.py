"""Palette: conditional diffusion inpainting in pixels (Saharia et al. 2022), as Li et al. (2024) unlearn it.

The network's input is the condition, visible pixels with the hidden region filled, beside the target: the truth
noised in the hidden region, visible pixels elsewhere. Where nothing is hidden, the whole image is the region and the
degraded image the condition. Inside, images are in [-1, 1].
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DModel
from torch import Tensor

from unlearnkit.contracts import Embedding, ModelAdapter, Size, View, sides
from unlearnkit.disk import write_json
from unlearnkit.errors import UserError
from unlearnkit.weights import fit, read
from unlearnkit_diffusers import palette_layout
from unlearnkit_diffusers.diffusion import Noising, Sampler, sampling, start
from unlearnkit_diffusers.sizes import chosen, ratio, read_facts, require_divisor, require_given, require_side, size_of
from unlearnkit_diffusers.unet import Halves, pretrained, require_plain

if TYPE_CHECKING:
    from unlearnkit_diffusers.diffusion_sections import Palette

FACTS = "palette.json"
"""What a folder says beside the configurations of diffusers: how the network is told the noise, and the fill."""


class PaletteAdapter(ModelAdapter):
    """A `UNet2DModel` with 6 input channels as encoder and decoder."""

    sees_truth = True
    image_size: Size
    module: Halves

    def __init__(self, unet: Any, sampler: Sampler, fill: str, image_size: Size) -> None:
        self.unet, self.sampler, self.fill, self.image_size = unet, sampler, fill, image_size
        self.noising: Noising = sampler.noising
        self.module = Halves(unet)
        self.encoder = self.module.encoder

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return noise and the condition's fill, both [count, 3, H, W], and times in [0, 1) [count]."""
        shape = (count, 3, *sides(self.image_size))
        noise, fill = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        return noise, fill, torch.rand(count, generator=generator)

    def drowned(self, view: View) -> Tensor:
        """Return the x, in no range, with √γ·x + √(1−γ)·n = n."""
        gamma, _ = self.noising.at(view.draws[2])
        return view.draws[0] * (1 - (1 - gamma).sqrt()) / gamma.sqrt() / 2 + 0.5

    def embed(self, view: View) -> Embedding:
        """Return all skips of the down path and the middle block's output."""
        noise, fill, time = view.draws
        noisy, _, told = self.noising.drawn(_inside(view.truth), noise, time)
        return self.module.encoder(self._input(view, noisy, fill), self.module.time(told))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return the one-step estimate of the image in the hidden region, visible pixels elsewhere."""
        assert not isinstance(embedding, Tensor)
        noise, _, time = view.draws
        noisy, gamma, told = self.noising.drawn(_inside(view.truth), noise, time)
        predicted = self.module.decoder(embedding, self.module.time(told)).float()
        return view.filled(self.noising.estimate(predicted, noisy, gamma) / 2 + 0.5)

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean squared error of the predicted noise in the hidden region (Saharia et al. 2022)."""
        noise, fill, time = view.draws
        clean = _inside(images)
        noisy, gamma, told = self.noising.drawn(clean, noise, time)
        predicted = self.module(self._input(view, noisy, fill), told).float()
        error = (predicted - self.noising.wanted(clean, noise, gamma)).square()
        region = view.region.expand_as(error).float()
        return (error * region).sum() / region.sum()

    def output(self, view: View) -> Tensor:
        """Return a sample that starts from the view's noise, the same for every model."""
        noise, fill, _ = view.draws or (None, None, None)
        fill = start(fill, view.images, seed=1)
        sampled = self.sampler.sample(
            start(noise, view.images), lambda noisy, told: self.module(self._input(view, noisy, fill), told)
        )
        return view.filled((sampled / 2 + 0.5).clamp(0, 1))

    def save(self, folder: Path) -> None:
        """Write `unet/` and `scheduler/` as diffusers does, and `palette.json`."""
        self.unet.save_pretrained(folder / "unet")
        self.sampler.save(folder)
        facts = {"noise_level": self.noising.levels, "fill": self.fill, "image_size": self.image_size}
        write_json(folder / FACTS, facts)

    def _input(self, view: View, noisy: Tensor, fill: Tensor) -> Tensor:
        """Return condition and target, [B, 6, H, W]; visible pixels are clean in both."""
        seen = _inside(view.images)
        hidden = torch.zeros_like(fill) if self.fill == "neutral" else fill
        condition = torch.where(view.hidden, hidden, seen)
        return torch.cat([condition, torch.where(view.region, noisy, seen)], dim=1)


def _inside(images: Tensor) -> Tensor:
    return images * 2 - 1


USUAL: Mapping[str, Any] = {
    "num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02,
    "timestep_spacing": "trailing",
}  # fmt: skip
"""The noise schedule of a model from scratch (Ho et al. 2020)."""
SIDE = 32
"""Side of the images of a model that says nothing of it, in pixels."""
SMALL = {"block_out_channels": (32, 64, 64), "layers_per_block": 1, "attention_head_dim": 32, "norm_num_groups": 8}
"""Sizes of the U-Net where none are given, by the names that `UNet2DModel` has for them too."""


def build(section: "Palette", weights: Path | None) -> PaletteAdapter:
    """Return the adapter of a section; raise `UserError` where the weights do not fit it."""
    unet, usual, facts = (_fresh(section), USUAL, {}) if weights is None else _read(section, weights)
    usual_facts = {"noise_level": False, "fill": "noise", "image_size": size_of(unet) or SIDE}
    facts = chosen(dict(section), usual_facts | facts)
    size = facts["image_size"] if isinstance(facts["image_size"], int) else tuple(facts["image_size"])
    require_side(size, ratio(unet))
    how = sampling(section, usual, weights, facts["noise_level"])
    return PaletteAdapter(unet.eval(), how, facts["fill"], size)


def _read(section: "Palette", path: Path) -> tuple[Any, Mapping[str, Any], dict[str, Any]]:
    """Return the U-Net of a file or folder, the noise schedule where no folder says it, and what else is known."""
    unet: Any
    usual, facts = USUAL, {}
    if path.is_dir():
        unet = pretrained(UNet2DModel, path)
        facts = read_facts(path / FACTS)
    elif palette_layout.recognised(tensors := read(path, *palette_layout.KNOWN)):
        config, renamed = palette_layout.convert(tensors, section.attention_head_dim or palette_layout.HEAD, path)
        unet = UNet2DModel(**config, sample_size=palette_layout.SIZE)
        fit(unet.state_dict(), renamed, path)
        usual, facts = palette_layout.SCHEDULE, {"noise_level": True}
    else:
        unet = _fresh(section)
        wanted = unet.state_dict()
        fit(wanted, read(path, wanted), path)
    require_plain(unet, 6, 3, path)
    given = dict(section)
    if section.attention is not None:
        given["attention"] = tuple(sorted(set(section.attention)))
    attending = [level for level, block in enumerate(unet.config["down_block_types"]) if block.startswith("Attn")]
    require_given(given, {name: unet.config[name] for name in SMALL} | {"attention": attending}, path)
    return unet, usual, facts


def _fresh(section: "Palette") -> Any:
    sizes = chosen(dict(section), SMALL)
    channels: tuple[int, ...] = sizes["block_out_channels"]
    levels = range(len(channels))
    attention = levels[-1:] if section.attention is None else section.attention
    require_divisor("norm_num_groups", sizes["norm_num_groups"], channels, "such level")
    # The middle block always has attention.
    attending = (*(channels[level] for level in attention if level in levels), channels[-1])
    require_divisor("attention_head_dim", sizes["attention_head_dim"], attending, "such level")
    if beyond := [level for level in attention if level not in levels]:
        raise UserError(f"model.attention: there is no level {beyond[0]}; levels run from 0 to {levels[-1]}")
    return UNet2DModel(
        sample_size=section.image_size or SIDE,
        in_channels=6,
        out_channels=3,
        down_block_types=tuple("AttnDownBlock2D" if level in attention else "DownBlock2D" for level in levels),
        up_block_types=tuple("AttnUpBlock2D" if level in attention else "UpBlock2D" for level in reversed(levels)),
        **sizes,
    )
