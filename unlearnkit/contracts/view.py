"""Degraded batches: what a task makes of images, and what of that a model gets to see.

Shape suffixes: B images of a batch, H and W their sides.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnkit.device import send

NEUTRAL = 0.5
"""What hidden pixels are replaced by."""


@dataclass(frozen=True)
class Degraded:
    """T(x): what a task makes of a batch of images x."""

    images: Tensor
    """[B, 3, h, w], hidden pixels replaced by a neutral value; smaller than x where T lowers the resolution."""
    hidden: Tensor
    """[B, 1, H, W], true where the model must fill in; all false where the whole image is degraded."""
    host: Tensor | None = None
    """`hidden` in the host's memory, where the task drew it there."""
    state: Tensor | None = None
    """State of the generator that T drew from, with which it does the same to other images."""

    @property
    def on_host(self) -> Tensor:
        """`hidden` on the host, where shapes can depend on it without waiting for the device to say what it is."""
        return self.hidden.cpu() if self.host is None else self.host

    def __getitem__(self, rows: slice) -> "Degraded":
        """Return T(x) of some of the images, which T cannot be repeated for."""
        return Degraded(self.images[rows], self.hidden[rows], None if self.host is None else self.host[rows])


@dataclass(frozen=True)
class View:
    """A degraded batch as models see it, the same for the student and the reference."""

    degraded: Degraded
    """T(x)."""
    truth: Tensor
    """[B, 3, H, W], what the output is compared with: x, where a source has no other target."""
    draws: tuple[Tensor, ...] = ()
    """What `ModelAdapter.draw` drew, one row an image."""
    stage: tuple[Tensor, ...] = ()
    """What `ModelAdapter.first_stage` gives for this view where it is known already, one row an image."""
    given: Tensor | None = None
    """x where the truth is another image, [B, 3, h, w]."""

    @property
    def x(self) -> Tensor:
        """What T was applied to, [B, 3, h, w]: the truth itself, unless the source has pairs."""
        return self.truth if self.given is None else self.given

    @property
    def images(self) -> Tensor:
        """The degraded images [B, 3, h, w]."""
        return self.degraded.images

    @property
    def hidden(self) -> Tensor:
        """Where the model must fill in, [B, 1, H, W]; all false where the whole image is degraded."""
        return self.degraded.hidden

    @property
    def on_host(self) -> Tensor:
        """`hidden` in the host's memory."""
        return self.degraded.on_host

    @property
    def region(self) -> Tensor:
        """What the model is to make, [B, 1, H, W]: the hidden pixels, or all of an image without any."""
        return self.hidden | ~self.hidden.flatten(1).any(1)[:, None, None, None]

    def __getitem__(self, rows: slice) -> "View":
        """Return the view of some of the images."""
        draws, stage = (tuple(part[rows] for part in parts) for parts in (self.draws, self.stage))
        return View(
            self.degraded[rows], self.truth[rows], draws, stage, None if self.given is None else self.given[rows]
        )

    def filled(self, predicted: Tensor) -> Tensor:
        """Return predicted images [B, 3, H, W] in [0, 1] with the visible pixels as they were."""
        if self.images.shape != predicted.shape:
            return predicted  # of a smaller image no pixel is one of the output
        return torch.where(self.region, predicted, self.images)


class Task(ABC):
    """A degradation T."""

    fixed: bool
    """True where T(x) depends on x alone, so that reference embeddings can be computed once."""
    untold: str | None = None
    """Why nobody has the right output, where nobody has: outputs are then compared with the original model's alone."""

    @abstractmethod
    def degrade(self, images: Tensor, generator: torch.Generator) -> Degraded:
        """Return T(x) for images [B, 3, H, W]; all randomness comes from `generator` (a CPU generator)."""


def hide(images: Tensor, mask: Tensor) -> Degraded:
    """Return `images` [B, 3, H, W] without the pixels where `mask` [B, 1, H, W], on the host, is true."""
    hidden = send(mask, images.device)
    return Degraded(images.masked_fill(hidden, NEUTRAL), hidden, mask)


def whole(images: Tensor, size: tuple[int, int] | None = None) -> Degraded:
    """Return wholly degraded `images` [B, 3, h, w]: nothing is hidden. `size` is that of x where it is another."""
    mask = torch.zeros(len(images), 1, *(size or images.shape[2:]), dtype=torch.bool)
    return Degraded(images, send(mask, images.device), mask)


def mean_colour_fill(view: View) -> Tensor:
    """Return the images with each hidden pixel replaced by the mean colour of the visible ones.

    Images that are smaller than the truth are enlarged to it.
    """
    if view.images.shape != view.truth.shape:
        return F.interpolate(view.images, view.truth.shape[2:], mode="bilinear")
    seen = (~view.hidden).float()
    mean = (view.images * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(view.hidden, mean, view.images)


def region_error(outputs: Tensor, view: View) -> Tensor:
    """Return the mean squared error [B] of outputs [B, 3, H, W] over what the model was to make."""
    weight = view.region.expand_as(outputs).float()
    return ((outputs - view.truth).square() * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)
