"""Palette: conditional diffusion inpainting in pixels (Saharia et al. 2022), as Li et al. (2024) unlearn it.

The network's input is the condition, visible pixels with the hidden region filled, beside the target: the truth
noised in the hidden region, visible pixels elsewhere. Where nothing is hidden, the whole image is the region and the
degraded image the condition. Inside, images are in [-1, 1].
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor

from unlearnkit.contracts import Embedding, ModelAdapter, View
from unlearnkit.errors import Exit, UserError
from unlearnkit.weights import fit, read
from unlearnkit_diffusers import palette_layout
from unlearnkit_diffusers.diffusion import Noising, Sampler, schedule, start
from unlearnkit_diffusers.diffusion_sections import Palette
from unlearnkit_diffusers.unet import Halves, pretrained, read_facts, require_given, require_plain, require_side

FACTS = "palette.json"
"""What a folder says beside the configurations of diffusers: how the network is told the noise, and the fill."""


class PaletteAdapter(ModelAdapter):
    """A `UNet2DModel` with 6 input channels as encoder and decoder."""

    sees_truth = True
    module: Halves

    def __init__(self, unet: Any, sampler: Sampler, fill: str, image_size: int) -> None:
        self.unet, self.sampler, self.fill, self.image_size = unet, sampler, fill, image_size
        self.noising: Noising = sampler.noising
        self.module = Halves(unet)
        self.encoder = self.module.encoder

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return noise and the condition's fill, both [count, 3, H, W], and times in [0, 1) [count]."""
        shape = (count, 3, self.image_size, self.image_size)
        noise, fill = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        return noise, fill, torch.rand(count, generator=generator)

    def embed(self, view: View) -> Embedding:
        """Return all skips of the down path and the middle block's output."""
        noisy, _, told = self._noised(view)
        _, fill, _ = view.draws
        return self.module.encoder(self._input(view, noisy, fill), self.module.time(told))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return the one-step estimate of the image in the hidden region, visible pixels elsewhere."""
        assert not isinstance(embedding, Tensor)
        noisy, gamma, told = self._noised(view)
        predicted = self.module.decoder(embedding, self.module.time(told)).float()
        estimate = self.noising.estimate(predicted, noisy, gamma) / 2 + 0.5
        return torch.where(view.region, estimate, view.images)

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean squared error of the predicted noise in the hidden region (Saharia et al. 2022)."""
        view = replace(view, truth=images)
        noisy, gamma, told = self._noised(view)
        noise, fill, _ = view.draws
        predicted = self.module(self._input(view, noisy, fill), told).float()
        error = (predicted - self.noising.wanted(_inside(images), noise, gamma)).square()
        region = view.region.expand_as(error).float()
        return (error * region).sum() / region.sum()

    def output(self, view: View) -> Tensor:
        """Return a sample that starts from the view's noise, the same for every model."""
        noise, fill, _ = view.draws or (None, None, None)
        fill = start(fill, view.images, seed=1)

        def predict(noisy: Tensor, told: Tensor) -> Tensor:
            return self.module(self._input(view, noisy, fill), told)

        sampled = (self.sampler.sample(start(noise, view.images), predict) / 2 + 0.5).clamp(0, 1)
        return torch.where(view.region, sampled, view.images)

    def save(self, folder: Path) -> None:
        """Write `unet/` and `scheduler/` as diffusers does, and `palette.json`."""
        self.unet.save_pretrained(folder / "unet")
        self.sampler.save(folder)
        facts = {"noise_level": self.noising.levels, "fill": self.fill, "image_size": self.image_size}
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def _input(self, view: View, noisy: Tensor, fill: Tensor) -> Tensor:
        """Return condition and target, [B, 6, H, W]; visible pixels are clean in both."""
        seen = _inside(view.images)
        hidden = torch.zeros_like(fill) if self.fill == "neutral" else fill
        condition = torch.where(view.hidden, hidden, seen)
        return torch.cat([condition, torch.where(view.region, noisy, seen)], dim=1)

    def _noised(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Return the noised truth, γ, and what the network is told."""
        assert view.truth is not None
        noise, _, time = view.draws
        gamma, told = self.noising.at(time)
        return self.noising.noised(_inside(view.truth), noise, gamma), gamma, told


def _inside(images: Tensor) -> Tensor:
    return images * 2 - 1


USUAL: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "timestep_spacing": "trailing",
}
"""The noise schedule of a model from scratch (Ho et al. 2020)."""


def build(section: Palette, weights: Path | None) -> PaletteAdapter:
    """Return the adapter of a section; raise `UserError` where the weights do not fit it."""
    unet, usual, facts = (_fresh(section), USUAL, {}) if weights is None else _read(section, weights)
    size = section.image_size or facts.get("image_size") or unet.config["sample_size"] or 32
    require_side(size, 2 ** (len(unet.config["block_out_channels"]) - 1))
    levels = facts.get("noise_level", False) if section.noise_level is None else section.noise_level
    noising = Noising(schedule(section, usual, weights), levels)
    sampler = Sampler(section.scheduler, section.steps, noising)
    return PaletteAdapter(unet.eval(), sampler, section.fill or facts.get("fill", "noise"), size)


def _read(section: Palette, path: Path) -> tuple[Any, Mapping[str, Any], dict[str, Any]]:
    """Return the U-Net of a file or folder, the noise schedule where no folder says it, and what else is known."""
    unet: Any
    usual, facts = USUAL, {}
    if path.is_dir():
        unet = pretrained(UNet2DModel, path / "unet" if (path / "unet").is_dir() else path)
        facts = read_facts(path / FACTS)
    elif palette_layout.recognised(tensors := read(path)):
        config, renamed = palette_layout.convert(tensors, section.attention_head_dim or palette_layout.HEAD, path)
        unet = UNet2DModel(**config, sample_size=palette_layout.SIZE)
        fit(unet.state_dict(), renamed, path)
        usual, facts = palette_layout.SCHEDULE, {"noise_level": True}
    else:
        unet = _fresh(section)
        fit(unet.state_dict(), tensors, path)
    require_plain(unet, 6, 3, path)
    given = {name: (getattr(section, name), unet.config[name]) for name in GIVEN}
    found = [level for level, block in enumerate(unet.config["down_block_types"]) if block.startswith("Attn")]
    attention = None if section.attention is None else tuple(sorted(set(section.attention)))
    require_given(given | {"attention": (attention, tuple(found))}, path)
    return unet, usual, facts


GIVEN = ("block_out_channels", "layers_per_block", "attention_head_dim", "norm_num_groups")
"""Fields that the weights' configuration has under the same name."""


def _fresh(section: Palette) -> Any:
    channels = section.block_out_channels or (32, 64, 64)
    levels = range(len(channels))
    attention = section.attention if section.attention is not None else (levels[-1],)
    groups, head = section.norm_num_groups or 8, section.attention_head_dim or 32
    for field, value, widths in (
        ("norm_num_groups", groups, channels),
        # The middle block always has attention.
        ("attention_head_dim", head, (*(channels[level] for level in attention if level in levels), channels[-1])),
    ):
        if odd := [width for width in widths if width % value]:
            raise UserError(
                f"model.{field}: {value} does not divide the {odd[0]} channels of a level; give a divisor of every "
                f"such level's channels",
                Exit.RECIPE,
            )
    if beyond := [level for level in attention if level not in levels]:
        raise UserError(
            f"model.attention: there is no level {beyond[0]}; levels run from 0 to {levels[-1]}", Exit.RECIPE
        )
    return UNet2DModel(
        sample_size=section.image_size or 32,
        in_channels=6,
        out_channels=3,
        down_block_types=tuple("AttnDownBlock2D" if level in attention else "DownBlock2D" for level in levels),
        up_block_types=tuple("AttnUpBlock2D" if level in attention else "UpBlock2D" for level in reversed(levels)),
        block_out_channels=channels,
        layers_per_block=section.layers_per_block or 1,
        attention_head_dim=head,
        norm_num_groups=groups,
    )
