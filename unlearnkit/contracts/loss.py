"""What loss, target and control sections build, and what they build it from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from unlearnkit.contracts.checks import scalar
from unlearnkit.contracts.model import Embedding, ModelAdapter
from unlearnkit.contracts.sizes import Size, sides
from unlearnkit.contracts.view import Task, View

Psi = Callable[[Tensor, float | None, Tensor, Tensor], Tensor]
"""ψ(h, ε, ‖∇h‖², ‖∇f‖²): the decrease rate asked of a constraint with loss h and bound ε, beside an objective f."""


@dataclass(frozen=True)
class Statistics:
    """Mean [3] and covariance [3, 3] of a set's pixel colours: the Gaussian that noise images are drawn from."""

    mean: Tensor
    covariance: Tensor

    def sample(self, count: int, size: Size, generator: torch.Generator) -> Tensor:
        """Return `count` noise images [count, 3, size, size], pixels independent, not clamped."""
        white = torch.randn(count, *sides(size), 3, generator=generator)
        return (white @ self.factor.T + self.mean).permute(0, 3, 1, 2).contiguous()

    @cached_property
    def factor(self) -> Tensor:
        """A [3, 3] whose product with its transpose is the covariance."""
        factor, failed = torch.linalg.cholesky_ex(self.covariance + 1e-8 * torch.eye(3))
        if failed:  # of grey images alone, whose colours are as good as one
            values, vectors = torch.linalg.eigh(self.covariance)
            factor = vectors * values.clamp(min=0).sqrt()
        return factor


def standard_normal() -> Statistics:
    """Return mean 0 and covariance I."""
    return Statistics(torch.zeros(3), torch.eye(3))


@dataclass(frozen=True)
class Pretrained:
    """How the original model was trained, as far as that is known."""

    steps: int
    settings: Mapping[str, object] = field(default_factory=dict)
    """Fields of `training` that say the same of a stage."""


@dataclass(frozen=True)
class Sources:
    """What losses, forget targets and methods can take beside the reference."""

    noise: Statistics
    """Colour statistics of the forget images."""
    generator: Callable[[], torch.Generator]
    """A generator of the recipe's seed, the same at each call."""
    drawn: Callable[[str | None, int, torch.Generator], Tensor]
    """So many training images [count, 3, S, S] of the retain set, of one class or of any; `UserError` without one."""
    model: Callable[[str], ModelAdapter]
    """The recipe's model with other weights, as `model.weights` names them, frozen; `UserError` without or misfit."""
    base: Path
    """The recipe's folder, where relative paths start."""
    size: Size | None = None
    """Size of x where the sources have pairs, None where x is of the model's `image_size`."""
    original: Callable[[], Pretrained | None] = lambda: None
    """How the reference was trained from scratch; None where nothing says so."""


@dataclass(frozen=True)
class Setting:
    """What losses, forget targets and methods are built for."""

    reference: ModelAdapter
    """The frozen model θ0."""
    task: Task
    """The degradation T."""
    sources: Sources
    """Further images, weights and randomness."""


class Loss(ABC):
    """A forget or a retain loss: a distance between the student and a target that θ does not change."""

    fixed: bool
    """True where `target` is the same at every call for the same view, so that it may be computed once."""
    reads_reference: bool = True
    """True where `target` passes the batch through the reference."""
    mode: str = "fixed"
    """One word for the report on how the target is taken."""

    @abstractmethod
    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return the targets of a batch, one row an image; an empty tuple where all images share one target."""

    @abstractmethod
    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        """Return the loss as a scalar: the mean over the batch."""


class OwnLoss(Loss):
    """The loss the model was trained with, or with sign −1 its negative, which is ascent on it."""

    fixed, reads_reference, mode = True, False, "own"

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def target(self, view: View, generator: torch.Generator) -> Embedding:
        """Return no target: the truth comes with the view."""
        return ()

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        """Return the signed loss."""
        return self.sign * scalar(student.own_loss(view.truth, view), student, "own_loss", "model", asked=False)
