"""Noising, one-step estimates and sampling over the schedulers of diffusers.

The forward process is y = √γ·x + √(1−γ)·n (Ho et al. 2020, equation 4, with γ for their ᾱ).
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from torch import Tensor

from unlearnkit.errors import UserError, first_line

if TYPE_CHECKING:
    from unlearnkit_diffusers.diffusion_sections import Latent, Palette


def start(drawn: Tensor | None, like: Tensor, seed: int = 0) -> Tensor:
    """Return the noise that sampling starts from: what the view drew, else noise of a seed, one for all images.

    A view draws the same for every model, so that their pictures can be compared, and other noise for each image, so
    that a trace of it does not show in all of them. Either way an image's sample does not depend on its batch.
    """
    if drawn is not None:
        return drawn.to(like)
    return torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)).to(like).expand_as(like)


class Noising:
    """The noise schedule of a model, what its network is told of it, and what its network predicts.

    `config` is that of a scheduler of diffusers; with `levels` the network is told γ, otherwise the step's number.
    """

    def __init__(self, config: Mapping[str, Any], levels: bool = False) -> None:
        self.config, self.levels = dict(config), levels
        self.gammas: Tensor = DDPMScheduler.from_config(self.config).alphas_cumprod.float()
        self.predicts: str = self.config.get("prediction_type", "epsilon")

    def at(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return γ [B, 1, 1, 1] and what the network is told [B] at a time [B] in [0, 1).

        A network that is told the step's number knows the schedule's own levels alone; one that is told γ is trained
        on all between two neighbours (Chen et al. 2021, followed by Saharia et al. 2022).
        """
        gammas = self.gammas = self.gammas.to(time.device)
        if self.levels:
            gamma = _between(gammas, time * (len(gammas) - 1))
            return gamma[:, None, None, None], gamma
        step = (time * len(gammas)).long().clamp(max=len(gammas) - 1)
        return gammas[step][:, None, None, None], step

    def told(self, timestep: Tensor, count: int) -> Tensor:
        """Return what the network is told [count] at a scheduler's timestep, which may lie between two steps."""
        if self.levels:
            self.gammas = self.gammas.to(timestep.device)
            timestep = _between(self.gammas, timestep.float())
        return timestep.expand(count)

    def drawn(self, clean: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, γ and what the network is told at times [B] in [0, 1)."""
        gamma, told = self.at(time)
        return self.noised(clean, noise, gamma), gamma, told

    def noised(self, clean: Tensor, noise: Tensor, gamma: Tensor) -> Tensor:
        """Return y = √γ·x + √(1−γ)·n."""
        return gamma.sqrt() * clean + (1 - gamma).sqrt() * noise

    def wanted(self, clean: Tensor, noise: Tensor, gamma: Tensor) -> Tensor:
        """Return what the network is to predict: the noise, v = √γ·n − √(1−γ)·x, or the image itself."""
        if self.predicts == "v_prediction":
            return gamma.sqrt() * noise - (1 - gamma).sqrt() * clean
        return clean if self.predicts == "sample" else noise

    def estimate(self, predicted: Tensor, noisy: Tensor, gamma: Tensor) -> Tensor:
        """Return the one-step estimate of x from y and the network's prediction, not clamped.

        Where noise is predicted, an error in it counts √(1/γ − 1) times: far more at the noisy end of the schedule.
        """
        if self.predicts == "v_prediction":
            return gamma.sqrt() * noisy - (1 - gamma).sqrt() * predicted
        return predicted if self.predicts == "sample" else (noisy - (1 - gamma).sqrt() * predicted) / gamma.sqrt()


def _between(values: Tensor, place: Tensor) -> Tensor:
    low = place.floor().long().clamp(0, len(values) - 1)
    high = (low + 1).clamp(max=len(values) - 1)
    return torch.lerp(values[low], values[high], place - low)


GIVEN = {
    "num_train_timesteps": "train_steps", "beta_schedule": "beta_schedule", "beta_start": "beta_start",
    "beta_end": "beta_end", "prediction_type": "prediction",
}  # fmt: skip
"""Fields of sections by a scheduler's names."""


def sampling(
    section: "Palette | Latent", usual: Mapping[str, Any], folder: Path | None, levels: bool = False
) -> "Sampler":
    """Return the sampler of a section over what the recipe gives of the noise schedule and `scheduler/` in the weights.

    `usual` stands in where there is none; with `levels` the network is told γ. Raise `UserError` where the schedule
    cannot be read, or the sampler cannot be had.
    """
    config = dict(usual)
    if folder is not None and (folder / "scheduler" / "scheduler_config.json").is_file():
        try:
            config = dict(DDPMScheduler.load_config(folder, subfolder="scheduler", local_files_only=True))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / 'scheduler'}: {first_line(error)}") from None
    given = {name: value for name, field in GIVEN.items() if (value := getattr(section, field)) is not None}
    if given.keys() - {"prediction_type"}:
        config.pop("trained_betas", None)
    return Sampler(section.scheduler, section.steps, Noising(config | given, levels))


def known() -> list[str]:
    """Return the names of the schedulers that a model can be sampled with: those for the same kind of noise."""
    return [scheduler.name for scheduler in KarrasDiffusionSchedulers if not scheduler.name.startswith("EDM")]


class Sampler:
    """Iterative sampling with a scheduler of diffusers, the same each time, and for an image in any batch.

    Raise `UserError` where the scheduler is unknown or cannot take that many steps.
    """

    def __init__(self, name: str, steps: int, noising: Noising) -> None:
        if name not in known():
            raise UserError(
                f"model.scheduler: there is no scheduler '{name}' to sample with; known: {', '.join(known())}"
            )
        if steps > len(noising.gammas):
            raise UserError(
                f"model.steps: {steps} steps of sampling, but the noise schedule has {len(noising.gammas)}; give at "
                f"most as many"
            )
        self.kind, self.steps, self.noising = getattr(diffusers, name), steps, noising
        try:
            self._scheduler(torch.device("cpu"))
        except (ImportError, ValueError, NotImplementedError) as error:
            raise UserError(f"model.scheduler: {name} cannot be used with these weights: {first_line(error)}") from None

    def _scheduler(self, device: torch.device) -> Any:
        scheduler = self.kind.from_config(self.noising.config)
        scheduler.set_timesteps(self.steps, device=device)
        return scheduler

    def save(self, folder: Path) -> None:
        """Write the configuration of the noise schedule as diffusers does."""
        self.kind.from_config(self.noising.config).save_pretrained(folder / "scheduler")

    @torch.no_grad()
    def sample(self, noise: Tensor, predict: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return what sampling makes of `noise` [B, C, H, W]; `predict(noisy, told)` is one pass of the network."""
        scheduler = self._scheduler(noise.device)
        options = {}
        if "generator" in inspect.signature(scheduler.step).parameters:
            # A scheduler that adds noise draws it for each image by itself, from what the image started from.
            seeds = noise.float().flatten(1)[:, 0].contiguous().view(torch.int32).tolist()
            options["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
        noisy = noise * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(noisy, timestep)
            predicted = predict(scaled, self.noising.told(timestep, len(noise))).to(noise.dtype)
            noisy = scheduler.step(predicted, timestep, noisy, **options).prev_sample
        return noisy
