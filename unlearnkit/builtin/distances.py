"""The code of the built-in losses: mean squared distances to targets that the frozen reference gives.

Distances are means over entries, so that ε does not grow with the model; an embedding in several parts counts the
sum over its parts (Li et al. 2024, for all input blocks of a U-Net).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from unlearnkit.builtin.substitutes import Substitute
from unlearnkit.contracts import Embedding, Loss, ModelAdapter, Statistics, Task, View, parts
from unlearnkit.device import send
from unlearnkit.errors import Exit, UserError

Space = Literal["embedding", "output"]
Region = Literal["image", "hidden"]
BATCH = 64


def point(model: ModelAdapter, view: View, space: Space) -> Sequence[Tensor]:
    """Return where `model` puts a view: its embedding, or its output before clamping."""
    embedding = model.embed(view)
    return parts(embedding) if space == "embedding" else (model.decode(embedding, view),)


def squared_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the squared distance, a mean over images and entries in fp32, summed over parts."""
    return torch.stack([(x.float() - y.float()).square().mean() for x, y in zip(a, b, strict=True)]).sum()


class ToReference(Loss):
    """Distance to the reference on the same view."""

    fixed, mode = True, "reference"

    def __init__(self, space: Space, reference: ModelAdapter) -> None:
        self.space, self.reference = space, reference

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return the reference's embeddings or outputs of the batch."""
        return tuple(point(self.reference, view, self.space))

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        """Return E‖E_θ(T(x)) − E_θ0(T(x))‖²."""
        return squared_distance(point(student, view, self.space), parts(target))


class ToSubstitute(Loss):
    """Distance to the reference on what stands in for the images, under the same mask and draws."""

    def __init__(self, space: Space, reference: ModelAdapter, substitute: Substitute, region: Region) -> None:
        self.space, self.reference, self.substitute, self.region = space, reference, substitute, region
        self.fixed, self.mode = substitute.fixed, substitute.mode
        if substitute.answers is not None and space == "embedding":
            raise UserError(
                f"target: '{substitute.mode}' needs a loss between outputs, as embeddings of models that were trained "
                f"apart mean different things; use it in target-output, noisy-label or retain-label",
                Exit.RECIPE,
            )

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return the reference's embeddings or outputs of the images that stand in, or the other model's output."""
        if self.substitute.answers is not None:
            return tuple(point(self.substitute.answers, view, self.space))
        images = self.substitute.images(view, generator)
        assert view.again is not None
        if self.region == "hidden":
            assert view.truth is not None
            images = torch.where(view.hidden, images, view.truth)
        return tuple(point(self.reference, view.again(images), self.space))

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        """Return E‖E_θ(T(x)) − E_θ0(T(s))‖² for the images s that stand in, such as noise n."""
        return squared_distance(point(student, view, self.space), parts(target))


class MeanNoise(Loss):
    r"""The expectation over noise, taken exactly: $\lVert E_\theta(T(x)) - \mu\rVert^2 + c$.

    $\mu$ is the mean of $E_{\theta_0}(T(n))$ and $c$ the mean of $\lVert E_{\theta_0}(T(n)) - \mu\rVert^2$, so that the
    value keeps the published meaning while its gradient loses the variance of the noise.
    """

    fixed, reads_reference, mode = True, False, "mean"

    def __init__(
        self,
        space: Space,
        reference: ModelAdapter,
        task: Task,
        noise: Statistics,
        samples: int,
        generator: torch.Generator,
    ) -> None:
        self.space = space
        device = next(reference.module.parameters()).device
        total: list[Tensor] = []
        square: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, samples, BATCH):
                count = min(BATCH, samples - start)
                images = send(noise.sample(count, reference.image_size, generator), device)
                found = [x.double() for x in point(reference, reference.view(task, images, generator), space)]
                sums, squares = [x.sum(0) for x in found], [x.square().sum(0) for x in found]
                total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
                square = [a + b for a, b in zip(square, squares, strict=True)] if square else squares
        mean = [x / samples for x in total]
        spread = [(x / samples - m.square()).mean() for x, m in zip(square, mean, strict=True)]
        self.mean = [x[None].float() for x in mean]
        self.constant = torch.stack(spread).sum().clamp(min=0).float()

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return no per-image target: all images share one."""
        return ()

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        """Return ‖E_θ(T(x)) − μ‖² + c."""
        return squared_distance(point(student, view, self.space), self.mean) + self.constant


class OwnLoss(Loss):
    """The loss the model was trained with, or with sign −1 its negative, which is ascent on it."""

    reads_reference = False

    def __init__(self, sign: float = 1.0, substitute: Substitute | None = None, region: Region = "image") -> None:
        """Take what stands in for the true images; without it they are the truth."""
        self.sign, self.substitute, self.region = sign, substitute, region
        self.fixed = substitute is None or substitute.fixed
        self.mode = "own" if substitute is None else substitute.mode

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return the images [B, 3, S, S] that the model is told are true; empty where the view's truth is."""
        if self.substitute is None:
            return ()
        images = self.substitute.images(view, generator)
        if self.region == "hidden":
            assert view.truth is not None
            images = torch.where(view.hidden, images, view.truth)
        return (images,)

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        """Return the signed loss."""
        told = parts(target)
        images = told[0] if told else view.truth
        assert images is not None
        return self.sign * student.own_loss(images, view)


class ToRandomEmbedding(Loss):
    """Distance to a random normal embedding with the reference features' mean and standard deviation."""

    fixed, mode = False, "random"

    def __init__(self, reference: ModelAdapter) -> None:
        self.reference = reference

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return normal embeddings with the scalar mean and deviation that the reference has on the batch, by part."""
        features = parts(self.reference.embed(view))
        return tuple(
            send(torch.randn(x.shape, generator=generator), x.device) * x.float().std() + x.float().mean()
            for x in features
        )

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        """Return E‖E_θ(T(x)) − r‖² for the normal embeddings r drawn."""
        return squared_distance(parts(student.embed(view)), parts(target))
