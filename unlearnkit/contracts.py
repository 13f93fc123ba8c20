"""What a plugin's sections build: models, degradations, losses, image sources, metrics and their extractors.

Shape suffixes: B images of a batch, H and W their side. Images are float32 in [0, 1] unless a line says uint8.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from unlearnkit.device import send

Embedding = Tensor | Sequence[Tensor]


def parts(embedding: Embedding) -> Sequence[Tensor]:
    """Return an embedding as a sequence of tensors."""
    return (embedding,) if isinstance(embedding, Tensor) else embedding


Psi = Callable[[Tensor, float | None, Tensor, Tensor], Tensor]
"""ψ(h, ε, ‖∇h‖², ‖∇f‖²): the decrease rate asked of a constraint with loss h and bound ε, beside an objective f."""


@dataclass(frozen=True)
class View:
    """A degraded batch T(x)."""

    images: Tensor
    """[B, 3, H, W], hidden pixels replaced by a neutral value."""
    hidden: Tensor
    """[B, 1, H, W], true where the model must fill in; all false where the whole image is degraded."""
    truth: Tensor | None = None
    """[B, 3, H, W], the images before T; only for a model whose input in training holds them noised (diffusion)."""
    draws: tuple[Tensor, ...] = ()
    """What `ModelAdapter.draw` drew, one row an image."""
    stage: tuple[Tensor, ...] = ()
    """What `ModelAdapter.first_stage` gives for this view where it is known already, one row an image."""
    mask: tuple[Tensor, Tensor] | None = None
    """`hidden`, and the same in the host's memory where the task has it there; of no use for another `hidden`."""
    again: "Callable[[Tensor], View] | None" = field(default=None, compare=False)
    """Degrades other images [B, 3, H, W] in just this way: the same mask, the same draws."""

    @property
    def region(self) -> Tensor:
        """What the model is to make, [B, 1, H, W]: the hidden pixels, or all of an image without any."""
        return self.hidden | ~self.hidden.flatten(1).any(1)[:, None, None, None]

    @property
    def on_host(self) -> Tensor:
        """`hidden` on the host, where shapes can depend on it without waiting for the device to say what it is."""
        return self.mask[1] if self.mask is not None and self.mask[0] is self.hidden else self.hidden.cpu()

    def __getitem__(self, rows: slice) -> "View":
        """Return the view of some of the images."""
        hidden = self.hidden[rows]
        mask = None if self.mask is None else (hidden, self.on_host[rows])
        truth = None if self.truth is None else self.truth[rows]
        draws, stage = tuple(part[rows] for part in self.draws), tuple(part[rows] for part in self.stage)
        return View(self.images[rows], hidden, truth, draws, stage, mask)


class ModelAdapter(ABC):
    """An image-to-image model I(x) = D(E(T(x))) seen through what unlearning needs of it."""

    module: nn.Module
    """All weights, the trained part and the frozen part."""
    encoder: nn.Module
    """The submodule E; it shares no parameter with the rest of `module`."""
    image_size: int
    """Side of the square images the model works on, in pixels."""
    first: nn.Module | None = None
    """The frozen first stage inside `module` (a tokeniser, a VAE), which is never trained; None without one."""
    sees_truth: bool = False
    """True where `embed` reads `view.truth`: noise then takes the place of the hidden region alone (Li et al. 2024)."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return what the model draws at random for each of `count` images (diffusion: noise and time), on the CPU."""
        return ()

    @property
    def random(self) -> bool:
        """Whether the model draws anything, so that its embedding of an image differs from view to view."""
        return bool(self.draw(1, torch.Generator()))

    def first_stage(self, view: View) -> tuple[Tensor, ...]:
        """Return the output of the frozen first stage for a view, one row an image; empty without a first stage.

        It depends on nothing that is trained and on no draw, so that it may be computed once for a whole run.
        """
        return ()

    def staged(self, view: View) -> tuple[Tensor, ...]:
        """Return the first stage's output: what the view brings, or what is computed now."""
        if view.stage:
            return view.stage
        with torch.no_grad():
            return self.first_stage(view)

    def view(self, task: "Task", images: Tensor, generator: torch.Generator) -> View:
        """Return T(x) of images [B, 3, H, W] with this model's draws; `View.again` repeats both for other images."""
        state = generator.get_state()
        view = task.degrade(images, generator)
        draws = tuple(send(drawn, images.device) for drawn in self.draw(len(images), generator))

        def again(others: Tensor) -> View:
            replay = torch.Generator()
            replay.set_state(state)
            return self.view(task, others, replay)

        return replace(view, truth=images, draws=draws, again=again)

    def trainable(self, part: str = "all") -> list[Parameter]:
        """Return the parameters of the `encoder`, or of `all` but the first stage."""
        if part == "encoder":
            return list(self.encoder.parameters())
        frozen = set() if self.first is None else {id(parameter) for parameter in self.first.parameters()}
        return [parameter for parameter in self.module.parameters() if id(parameter) not in frozen]

    def save(self, folder: Path) -> None:
        """Write the model in its native format to an existing folder, which `build` reads back as `weights`.

        By default that is `model.safetensors` of `module`.
        """
        from unlearnkit.weights import save

        save(self.module.state_dict(), folder / "model.safetensors")

    @abstractmethod
    def embed(self, view: View) -> Embedding:
        """Return E(T(x)): a tensor [B, ...] or a sequence of them, differentiable."""

    @abstractmethod
    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return D(embedding) as images [B, 3, H, W], not clamped, differentiable."""

    @abstractmethod
    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the scalar loss the model was trained with on `images` [B, 3, H, W] under `view`."""

    def shared(self) -> list[str]:
        """Return the names under which parameters of the encoder appear outside it; a sound adapter has none."""
        encoder = {id(parameter) for parameter in self.encoder.parameters()}
        inside = [name for name, module in self.module.named_modules() if module is self.encoder]
        prefixes = tuple(f"{name}." if name else "" for name in inside)
        return [
            name
            for name, parameter in self.module.named_parameters(remove_duplicate=False)
            if id(parameter) in encoder and not name.startswith(prefixes)
        ]

    def output(self, view: View) -> Tensor:
        """Return I(x) as a person sees it: [B, 3, H, W] in [0, 1], visible pixels kept."""
        predicted = self.decode(self.embed(view), view).clamp(0, 1)
        return torch.where(view.region, predicted, view.images)


class Task(ABC):
    """A degradation T."""

    fixed: bool
    """True where T(x) depends on x alone, so that reference embeddings can be computed once."""

    @abstractmethod
    def degrade(self, images: Tensor, generator: torch.Generator) -> View:
        """Return T(x) for images [B, 3, H, W]; all randomness comes from `generator` (a CPU generator)."""


@dataclass(frozen=True)
class Statistics:
    """Mean [3] and covariance [3, 3] of a set's pixel colours: the Gaussian that noise images are drawn from."""

    mean: Tensor
    covariance: Tensor

    def sample(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Return `count` noise images [count, 3, size, size], pixels independent, not clamped."""
        white = torch.randn(count, size, size, 3, generator=generator)
        factor = torch.linalg.cholesky(self.covariance + 1e-8 * torch.eye(3))
        return (white @ factor.T + self.mean).permute(0, 3, 1, 2).contiguous()


def standard_normal() -> Statistics:
    """Return mean 0 and covariance I."""
    return Statistics(torch.zeros(3), torch.eye(3))


@dataclass(frozen=True)
class Setting:
    """What losses, forget targets and methods are built for."""

    reference: ModelAdapter
    """The frozen model θ0."""
    task: Task
    """The degradation T."""
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


@dataclass(frozen=True)
class Item:
    """One image of a source."""

    key: str
    """Unique in its source and stable between runs: what the split is drawn by."""
    label: str
    """Its class."""
    split: str | None = None
    """`train` or `validation` where the source fixes it."""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What else the source knows of it, by column: what `where` of a selection reads."""


class Images(ABC):
    """The images of a source."""

    items: Sequence[Item]
    labels: frozenset[str]
    """All classes, those without images too."""

    @abstractmethod
    def read(self, item: Item, size: int) -> Tensor:
        """Return the image as uint8 [3, size, size]; raise `UserError` naming an image that cannot be read."""

    @abstractmethod
    def describe(self) -> Mapping[str, object]:
        """Return facts for the report: name, licence, attribution where there is one."""


class Extractor(ABC):
    """A frozen network that turns images into feature vectors; it never saw the model that is measured."""

    label: str
    """One or two words for a heading, such as `MobileNetV2 96`."""
    width: int
    """Length D of a feature vector."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return features [B, D] of images [B, 3, H, W] in [0, 1], without a gradient."""

    def logits(self, features: Tensor) -> Tensor:
        """Return a classifier's logits [B, K] of features [B, D]; raise `ValueError` where there is no classifier."""
        raise ValueError(f"{self.label} has no classifier")

    @abstractmethod
    def describe(self) -> Mapping[str, object]:
        """Return facts for the report: `extractor`, `weights_sha256`, `features`, `resize`."""


class Metric(ABC):
    """A measure that is fed batches and then computed; evaluation feeds deep copies of it."""

    compares: bool = True
    """False where the targets play no part, so that outputs equal to their targets are nothing special."""

    @abstractmethod
    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        """Take a batch of outputs and of what they are compared with, both [B, 3, H, W] in [0, 1]."""

    @abstractmethod
    def compute(self) -> Mapping[str, float]:
        """Return values by name, `value` for the metric's own; raise `ValueError` with the reason where it has none."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all batches."""

    def describe(self) -> Mapping[str, object]:
        """Return facts for the report: `name`, `unit`, `better` (higher or lower), extractor, weights, resizing."""
        return {}
