"""The code of the built-in losses: mean squared distances to targets that the frozen reference gives.

Those are for the images themselves or for what stands in for them. Distances are means over entries, so that ε does not
grow with the model; an embedding in several parts counts the sum over its parts (Li et al. 2024, for all input blocks
of a U-Net). Shape suffixes: B images of a batch, H and W their sides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from unlearnkit.builtin.data.pictures import opened, square
from unlearnkit.contracts import (
    Embedding,
    Images,
    Loss,
    ModelAdapter,
    Setting,
    Size,
    Statistics,
    View,
    parts,
    sides,
    standard_normal,
)
from unlearnkit.data import again, decode, to_float, view_of
from unlearnkit.device import send
from unlearnkit.errors import Exit, UserError

Space = Literal["embedding", "output"]
Region = Literal["image", "hidden"]
Distribution = Literal["images", "identity", "batch", "uniform", "constant", "diffusion"]

BATCH = 64

GREY = 0.5
"""Value of constant noise."""


@dataclass(frozen=True)
class Substitute:
    """What stands in for forget images."""

    images: Callable[[View, torch.Generator], Tensor]
    """From a view of forget images and a CPU generator to images of the size of its x, on its device."""
    fixed: bool
    """True where that depends on each image alone."""
    mode: str
    """One word for the report."""
    count: int = 1
    """How often they are drawn for the mean of the reference's answers, which is drawn to."""
    answers: ModelAdapter | None = None
    """Whose output for the forget image itself is drawn to; left out: the reference's for the images that stand in."""


def answered(model: ModelAdapter, mode: str) -> Substitute:
    """Return the output of a model for each view itself; to be told by one word in the report."""
    return Substitute(lambda view, _: model.output(view), True, mode, answers=model)


def noise(distribution: Distribution, colours: Statistics, reference: ModelAdapter) -> Substitute:
    """Return noise images.

    They are Gaussian with `colours` (images), with mean 0 and covariance I (identity), or with the batch's scalar mean
    and standard deviation, clamped to [0, 1] (batch, Li et al. 2024); or uniform in [0, 1]; or constant; or what the
    model's own draws turn to their noise (diffusion). Raise `UserError` for a model without.
    """
    if distribution == "diffusion":
        if type(reference).drowned is ModelAdapter.drowned:
            raise UserError("forget: noise 'diffusion' is for models like palette; use 'images'", Exit.RECIPE)
        return Substitute(lambda view, _: cast("Tensor", reference.drowned(view)), False, "diffusion")
    if distribution == "constant":
        return Substitute(lambda view, _: torch.full_like(view.x, GREY), True, "constant")

    statistics = colours if distribution == "images" else standard_normal()

    def drawn(view: View, generator: torch.Generator) -> Tensor:
        count, size = len(view.x), (view.x.shape[2], view.x.shape[3])
        if distribution in ("images", "identity"):
            return send(statistics.sample(count, size, generator), view.images.device)
        draw = torch.rand if distribution == "uniform" else torch.randn
        images = send(draw(count, 3, *size, generator=generator), view.images.device)
        return images if draw is torch.rand else (images * view.x.std() + view.x.mean()).clamp(0, 1)

    return Substitute(drawn, False, "fresh")


def picture(path: Path, size: Size) -> Substitute:
    """Return the same image for all; raise `UserError` where it cannot be read or is too small."""

    @cache
    def image(size: tuple[int, int]) -> Tensor:
        return to_float(square(lambda: opened(path), str(path), size, enlarge=False))

    image(sides(size))  # refused at once
    return Substitute(
        lambda view, _: image((view.x.shape[2], view.x.shape[3])).to(view.x.device).expand_as(view.x), True, "surrogate"
    )


def held_out(source: Images, size: Size, count: int) -> Substitute:
    """Return images of a source, drawn with replacement, of which the mean of so many answers counts."""
    pictures = decode(source, source.items, size)

    def drawn(view: View, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(pictures), (len(view.x),), generator=generator)
        return send(to_float(pictures[rows]), view.x.device)

    return Substitute(drawn, False, "held-out", count)


def blurred(sigma: float) -> Substitute:
    """Return each image after a Gaussian blur of standard deviation `sigma`, in pixels, cut off at 3 of them."""

    def of(view: View, _: torch.Generator) -> Tensor:
        # Reflection at the border needs a kernel that is no wider than the image.
        reach = [min(round(3 * sigma), side - 1) for side in (view.x.shape[3], view.x.shape[2])]
        return gaussian_blur(view.x, [2 * one + 1 for one in reach], [sigma] * 2)

    return Substitute(of, True, "blurred")


def replaced(region: Region | None, reference: ModelAdapter) -> Region:
    """Return what a forget target takes the place of; raise `UserError` where the model cannot tell."""
    if region == "hidden" and not reference.sees_truth:
        found = "'hidden' changes nothing for a model that never sees the hidden region"
        raise UserError(f"forget.region: {found}; use 'image'", Exit.RECIPE)
    return region or ("hidden" if reference.sees_truth else "image")


@torch.no_grad()
def placed(substitute: Substitute, region: Region, view: View, generator: torch.Generator) -> Tensor:
    """Return what stands in for the images of a view [B, 3, H, W], everywhere or only where the model is to fill in."""
    images = substitute.images(view, generator)
    return torch.where(view.region, images, view.truth) if region == "hidden" else images


def point(model: ModelAdapter, view: View, space: Space) -> Sequence[Tensor]:
    """Return where `model` puts a view: its embedding, or its output before clamping."""
    embedding = model.embed(view)
    return parts(embedding) if space == "embedding" else (model.decode(embedding, view),)


class Distance(Loss):
    """Squared distance of embeddings or outputs to a target: a mean over images and entries in fp32, summed over parts.

    For the embeddings of images x with the target t that is E‖E_θ(T(x)) − t‖².
    """

    def __init__(self, space: Space, reference: ModelAdapter) -> None:
        self.space, self.reference = space, reference

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        pairs = zip(point(student, view, self.space), parts(target), strict=True)
        return torch.stack([(x.float() - y.float()).square().mean() for x, y in pairs]).sum()


class ToReference(Distance):
    """Distance to the reference on the same view, t = E_θ0(T(x))."""

    fixed, mode = True, "reference"

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        return tuple(point(self.reference, view, self.space))


class ToSubstitute(Distance):
    """Distance to the reference on what stands in for the images, such as noise, under the same mask and draws.

    For the images s that stand in, t = E_θ0(T(s)).
    """

    def __init__(self, space: Space, setting: Setting, substitute: Substitute, region: Region) -> None:
        super().__init__(space, setting.reference)
        self.substitute, self.region, self.task = substitute, region, setting.task
        self.fixed, self.mode = substitute.fixed, substitute.mode
        if substitute.answers is not None and space == "embedding":
            found = f"target: '{substitute.mode}' needs a loss between outputs"
            reason = "as embeddings of models that were trained apart mean different things"
            advice = "use it in target-output, noisy-label or retain-label"
            raise UserError(f"{found}, {reason}; {advice}", Exit.RECIPE)

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return the reference's embeddings or outputs of the images that stand in, or the other model's output."""
        if self.substitute.answers is not None:
            return tuple(point(self.substitute.answers, view, self.space))
        drawn = (placed(self.substitute, self.region, view, generator) for _ in range(self.substitute.count))
        answers = (point(self.reference, again(view, self.task, images), self.space) for images in drawn)
        return tuple(torch.stack(part).mean(0) for part in zip(*answers, strict=True))


class MeanNoise(Distance):
    r"""The expectation over noise, taken exactly: $\lVert E_\theta(T(x)) - \mu\rVert^2 + c$.

    $\mu$ is the mean of $E_{\theta_0}(T(n))$ and $c$ the mean of $\lVert E_{\theta_0}(T(n)) - \mu\rVert^2$, so that the
    value keeps the published meaning while its gradient loses the variance of the noise.
    """

    fixed, reads_reference, mode = True, False, "mean"

    def __init__(self, space: Space, setting: Setting, noise: Statistics, samples: int) -> None:
        super().__init__(space, setting.reference)
        reference, generator = setting.reference, setting.sources.generator()
        device, size = next(reference.module.parameters()).device, setting.sources.size or reference.image_size
        moments: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, samples, BATCH):
                images = noise.sample(min(BATCH, samples - start), size, generator)
                view = view_of(reference, setting.task, send(images, device), generator)
                found = [x.double() for x in point(reference, view, space)]
                sums = [torch.stack([x.sum(0), x.square().sum(0)]) for x in found]
                moments = [a + b for a, b in zip(moments, sums, strict=True)] if moments else sums
        means, squares = zip(*(x / samples for x in moments), strict=True)
        spread = [(square - mean.square()).mean() for mean, square in zip(means, squares, strict=True)]
        self.mean = [mean[None].float() for mean in means]
        self.constant = torch.stack(spread).sum().clamp(min=0).float()

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        return ()

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        return super().distance(student, view, self.mean) + self.constant


class ToldOtherwise(Loss):
    """The loss the model was trained with, where it is told that what stands in for the images is the truth."""

    def __init__(self, substitute: Substitute, reference: ModelAdapter) -> None:
        self.substitute, self.region = substitute, replaced(None, reference)
        self.fixed, self.mode, self.reads_reference = substitute.fixed, substitute.mode, substitute.answers is not None

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return the images [B, 3, H, W] that the model is told are true: what stands in for the truth, and not x."""
        return (placed(self.substitute, self.region, replace(view, given=None), generator),)

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        return student.own_loss(parts(target)[0], view)


class ToRandomEmbedding(Distance):
    """Distance to a random normal embedding with the reference features' mean and standard deviation."""

    fixed, mode = False, "random"

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return normal embeddings with the scalar mean and deviation that the reference has on the batch, by part."""
        features = parts(self.reference.embed(view))
        return tuple(
            send(torch.randn(x.shape, generator=generator), x.device) * x.float().std() + x.float().mean()
            for x in features
        )
