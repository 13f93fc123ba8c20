"""The code of the forget targets: images that stand in for forget images before the reference.

Shape suffixes: B images of a batch, S their side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from unlearnkit.builtin.images import Files
from unlearnkit.contracts import Item, ModelAdapter, Setting, Statistics, View, standard_normal
from unlearnkit.device import send
from unlearnkit.pixels import to_float

Distribution = Literal["images", "identity", "batch", "uniform", "constant"]

GREY = 0.5
"""Value of constant noise."""


@dataclass(frozen=True)
class Substitute:
    """What stands in for forget images."""

    images: Callable[[View, torch.Generator], Tensor]
    """From a view of forget images and a CPU generator to images [B, 3, S, S] on the view's device."""
    fixed: bool
    """True where that depends on each image alone."""
    mode: str
    """One word for the report."""
    answers: ModelAdapter | None = None
    """Whose output for the forget image itself is drawn to; left out: the reference's for the images that stand in."""


def noise(distribution: Distribution, colours: Statistics, size: int) -> Substitute:
    """Return noise images.

    They are Gaussian with `colours` (images), with mean 0 and covariance I (identity), or with the batch's scalar mean
    and standard deviation, clamped to [0, 1] (batch, Li et al. 2024); or uniform in [0, 1]; or constant.
    """

    def drawn(view: View, generator: torch.Generator) -> Tensor:
        count = len(view.images)
        if distribution in ("images", "identity"):
            statistics = colours if distribution == "images" else standard_normal()
            return send(statistics.sample(count, size, generator), view.images.device)
        if distribution == "constant":
            return torch.full_like(view.images, GREY)
        if distribution == "uniform":
            return send(torch.rand(count, 3, size, size, generator=generator), view.images.device)
        assert view.truth is not None
        white = send(torch.randn(count, 3, size, size, generator=generator), view.images.device)
        return (white * view.truth.std() + view.truth.mean()).clamp(0, 1)

    return Substitute(drawn, distribution == "constant", "constant" if distribution == "constant" else "fresh")


def surrogate(setting: Setting, label: str | None) -> Substitute:
    """Return images of the retain set, one for each forget image, of one class or of any."""
    setting.drawn(label, 1, setting.generator())  # a class that is not there is refused at once
    return Substitute(
        lambda view, generator: setting.drawn(label, len(view.images), generator).to(view.images.device),
        False,
        "surrogate",
    )


class _Picture(Files):
    """One image of a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.labels = path, frozenset({"surrogate"})
        self.items = [Item(path.name, "surrogate")]

    def bytes_of(self, item: Item) -> bytes:
        return self.path.read_bytes()

    def place(self, item: Item) -> str:
        return str(self.path)

    def describe(self) -> Mapping[str, object]:
        return {"name": self.path.name}


def picture(path: Path, size: int) -> Substitute:
    """Return the same image for all; raise `UserError` where it cannot be read or is too small."""
    source = _Picture(path)
    image = to_float(source.read(source.items[0], size))
    return Substitute(lambda view, _: image.to(view.images.device).expand_as(view.images), True, "surrogate")


def blurred(sigma: float) -> Substitute:
    """Return each image after a Gaussian blur of standard deviation `sigma`, in pixels, cut off at 3 of them."""

    def of(view: View, _: torch.Generator) -> Tensor:
        assert view.truth is not None
        # Reflection at the border needs a kernel that is no wider than the image.
        reach = min(round(3 * sigma), view.truth.shape[-1] - 1)
        return gaussian_blur(view.truth, [2 * reach + 1] * 2, [sigma] * 2)

    return Substitute(of, True, "blurred")


def mean_filled() -> Substitute:
    """Return each image's mean colour."""

    def of(view: View, _: torch.Generator) -> Tensor:
        assert view.truth is not None
        return view.truth.mean((2, 3), keepdim=True).expand_as(view.truth)

    return Substitute(of, True, "mean-filled")


def retrained(setting: Setting, weights: str) -> Substitute:
    """Return what a model with these weights makes of each image; raise `UserError` where they do not fit."""
    model = setting.model(weights)

    def answer(view: View, _: torch.Generator) -> Tensor:
        with torch.no_grad():
            return model.output(view)

    return Substitute(answer, True, "retrained", model)
