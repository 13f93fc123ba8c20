"""What model sections build: an image-to-image model I(x) = D(E(T(x))), and what follows from it for any model."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import Parameter

from unlearnkit.contracts.checks import rows
from unlearnkit.contracts.sizes import Size
from unlearnkit.contracts.view import View
from unlearnkit.disk import disk_errors
from unlearnkit.weights import save

Embedding = Tensor | Sequence[Tensor]
Part = Literal["encoder", "all"]
"""What is trained: the encoder, or all but a frozen first stage."""


class ModelAdapter(ABC):
    """An image-to-image model seen through what unlearning needs of it."""

    module: nn.Module
    """All weights, the trained part and the frozen part."""
    encoder: nn.Module
    """The submodule E; it shares no parameter with the rest of `module`."""
    image_size: Size
    """Side of the square images the model makes, in pixels, or their height and width."""
    scale: int = 1
    """How many times the side of what the model sees its outputs have: 1, but for super-resolution."""

    @abstractmethod
    def embed(self, view: View) -> Embedding:
        """Return E(T(x)): a tensor [B, ...] or a sequence of them, differentiable."""

    @abstractmethod
    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return D(embedding) as images [B, 3, H, W], not clamped, differentiable."""

    @abstractmethod
    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the scalar loss the model was trained with on `images` [B, 3, H, W] under `view`."""

    # What `train: lora` adds to any model.

    adapters: Sequence[Parameter] = ()
    """Parameters beside the model's own, all of which stay frozen where there are any."""

    # A frozen first stage (a tokeniser, a VAE).

    first: nn.Module | None = None
    """The first stage inside `module`, which is never trained; None without one."""

    def first_stage(self, view: View) -> tuple[Tensor, ...]:
        """Return the output of the frozen first stage for a view, one row an image; empty without a first stage.

        It depends on nothing that is trained and on no draw, so that it may be computed once for a whole run.
        """
        return ()

    # Randomness of the model's own (diffusion).

    sees_truth: bool = False
    """True where `embed` reads `view.truth`: noise then takes the place of the hidden region alone (Li et al. 2024)."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return what the model draws at random for each of `count` images (diffusion: noise and time), on the CPU."""
        return ()

    def drowned(self, view: View) -> Tensor | None:
        """Return images [B, 3, H, W] of which the view's draws leave nothing but their noise; None where none do."""
        return None

    # What a person sees and keeps.

    def output(self, view: View) -> Tensor:
        """Return I(x): [B, 3, H, W] in [0, 1], visible pixels kept."""
        return view.filled(self.decode(self.embed(view), view).clamp(0, 1))

    def save(self, folder: Path) -> None:
        """Write the model in its native format to an existing folder, which `build` reads back as `weights`.

        By default that is `model.safetensors` of `module`.
        """
        save(self.module.state_dict(), folder / "model.safetensors")


def saved(model: ModelAdapter, folder: Path) -> None:
    """Let a model write itself into an existing folder; raise `UserError` where the disk is full or read-only."""
    try:
        model.save(folder)
    except SafetensorError as error:  # what a library wrote itself: it has the number of the system's error in words
        if (told := re.search(r"os error (\d+)", str(error))) is None:
            raise
        with disk_errors(folder):
            raise OSError(int(told[1]), os.strerror(int(told[1]))) from None
    except OSError as error:
        with disk_errors(Path(str(error.filename or folder))):
            raise


def parts(embedding: Embedding) -> Sequence[Tensor]:
    """Return an embedding as a sequence of tensors."""
    return (embedding,) if isinstance(embedding, Tensor) else embedding


def draws(model: ModelAdapter) -> bool:
    """Tell whether a model draws anything, so that its embedding of an image differs from view to view."""
    return bool(rows(model.draw(1, torch.Generator()), 1, model, "draw", "model"))


def staged(model: ModelAdapter, view: View) -> tuple[Tensor, ...]:
    """Return the first stage's output: what the view brings, or what is computed now."""
    if view.stage:
        return view.stage
    with torch.no_grad():
        return model.first_stage(view)


def trainable(model: ModelAdapter, part: Part = "all") -> list[Parameter]:
    """Return the parameters of a part, those of the encoder first, each once; of a model with adapters theirs alone."""
    found = list(model.encoder.parameters())
    if part == "all":
        frozen = set() if model.first is None else {id(parameter) for parameter in model.first.parameters()}
        found += [parameter for parameter in model.module.parameters() if id(parameter) not in frozen]
    added = {id(parameter) for parameter in model.adapters}
    return [parameter for parameter in dict.fromkeys(found) if not added or id(parameter) in added]


def shared(model: ModelAdapter) -> list[str]:
    """Return the names under which parameters of the encoder appear outside it; a sound adapter has none."""
    encoder = {id(parameter) for parameter in model.encoder.parameters()}
    inside = [name for name, module in model.module.named_modules() if module is model.encoder]
    prefixes = tuple(f"{name}." if name else "" for name in inside)
    return [
        name
        for name, parameter in model.module.named_parameters(remove_duplicate=False)
        if id(parameter) in encoder and not name.startswith(prefixes)
    ]
