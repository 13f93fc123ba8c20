"""What an audit is: a test of whether one model has really forgotten, and what it gets to work with."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from unlearnkit.builtin.distances import OwnLoss
from unlearnkit.builtin.mixtures import Constant
from unlearnkit.contracts import ModelAdapter, View
from unlearnkit.data import Pixels, seeded, to_float
from unlearnkit.flat import Flat
from unlearnkit.phases import Descent, Leg, Problem
from unlearnkit.recipe.recipe import SGD, AdamW, Training
from unlearnkit.sides import Side

CHUNK = 64
"""Images of one pass where nothing is trained."""

SetName = Literal["forget", "retain"]
Split = Literal["train", "validation"]


@dataclass(frozen=True)
class Figure:
    """One figure of an audit: a column of its table."""

    name: str
    """A few words for the heading."""
    meaning: str
    """One sentence for a reader who does not know the audit."""
    forgotten: Literal["higher", "lower"] | float | None
    """Where it points when more is forgotten, or the value that a model has which never saw the images; None where it
    says nothing of that."""
    unit: str = ""
    """Its unit, if it has one."""


@dataclass(frozen=True)
class Over:
    """More than was looked for: reported as ">N"."""

    most: float


@dataclass(frozen=True)
class Missing:
    """No value, and why."""

    reason: str


Finding = float | Over | Missing
"""A number, or what stands in for it; a whole number is a count."""


class Case:
    """One model under audit, with the images of its recipe and a step loop to train it further."""

    def __init__(
        self,
        model: ModelAdapter,
        reference: ModelAdapter,
        sides: Mapping[str, Side],
        images: Mapping[str, Mapping[str, Pixels]],
        training: Training,
        seed: int,
        fresh: Callable[[], Sequence[Parameter]],
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a `model` of the case's own, the original as `reference` and the sides of the recipe's losses.

        `fresh` returns the parameters of an untrained model, the encoder's first; `pause` is called between steps and
        may raise.
        """
        self.model, self.reference, self.images = model, reference, images
        self.seed, self._sides, self._training, self._fresh, self._pause = seed, sides, training, fresh, pause
        model.module.eval().requires_grad_(False)

    def views(
        self,
        name: SetName,
        split: Split,
        *purpose: object,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[View]:
        """Yield the views T(x) of a set in chunks, with the truth, the same for every model and every call.

        `purpose` gives other draws of what is random; `change` takes the images [B, 3, S, S] in [0, 1] before T.
        """
        images, device = self.images[name][split], next(self.model.module.parameters()).device
        chunks = torch.arange(len(images)).split(CHUNK)
        with images.expect(chunks):
            for number, rows in enumerate(chunks if len(images) else ()):
                truth = to_float(images[rows].to(device))
                generator = seeded(self.seed, "audit", name, split, number, *purpose)
                view = self.model.view(self._sides[name].task, truth if change is None else change(truth), generator)
                yield replace(view, stage=self.model.staged(view))

    def rest(self) -> list[Parameter]:
        """Return the parameters beside the encoder and a frozen first stage; raise `ValueError` without any."""
        encoder = set(self.model.trainable("encoder"))
        found = [parameter for parameter in self.model.trainable() if parameter not in encoder]
        if not found:
            raise ValueError("the model has no part beside its encoder")
        return found

    def refresh(self, parameters: Iterable[Parameter]) -> None:
        """Put these parameters of the model at their values in an untrained model of the recipe's seed."""
        encoder = self.model.trainable("encoder")
        own = dict.fromkeys([*encoder, *self.model.trainable()])
        values = dict(zip(own, self._fresh(), strict=True))
        for parameter in parameters:
            parameter.data.copy_(values[parameter].data)

    def train(
        self,
        parameters: Iterable[Parameter],
        on: Sequence[SetName],
        steps: int,
        optimizer: AdamW | SGD | None = None,
        *,
        decay: float,
    ) -> Iterator[int]:
        """Take steps on the model's own loss over the training images of `on`; yield how many are done, from 0 on.

        Batches are the recipe's, and so is the optimiser when it is left out. Losses of two sets are added. `decay` is
        the last part of the steps over which the learning rate falls. Raise `DivergedError` where a loss is not finite.
        """
        given = self._training.optimizer if optimizer is None else optimizer
        training = self._training.model_copy(update={"optimizer": given, "decay": decay})
        sides = {name: side.under(OwnLoss(), self.model) for name, side in self._sides.items()}
        rule = Constant(1, 1) if len(on) == 2 else None
        leg = Leg({name: sides[name] for name in on}, rule, steps)
        problem = Problem("audit", "audit", None, "audit", "retain", lambda *_: torch.zeros(()))
        descent = Descent(problem, [leg], Flat(parameters), sides["forget"], sides["retain"], training)
        with descent.decoding():
            while descent.advance():
                yield descent.done
                self._pause()
                descent.step()
            yield descent.done


class Audit(ABC):
    """A test of whether a model has really forgotten, run for the original and for every solution by itself."""

    figures: Mapping[str, Figure]
    """What it finds, by a short name."""

    @abstractmethod
    def samples(self, images: Mapping[str, Mapping[str, Pixels]]) -> str:
        """Say for the report how many images the figures are of; `images` come by set and split."""

    @abstractmethod
    def examine(self, case: Case) -> Mapping[str, Finding]:
        """Return all `figures` of a case, whose model may be changed; the same case gives the same bits.

        Raise `ValueError` with the reason where none can be had.
        """

    def describe(self) -> Mapping[str, object]:
        """Return facts for the report, such as a network and its weights."""
        return {}


def region_error(outputs: Tensor, view: View) -> Tensor:
    """Return the mean squared error [B] of outputs [B, 3, H, W] over what the model was to make."""
    assert view.truth is not None
    weight = view.region.expand_as(outputs).float()
    return ((outputs - view.truth).square() * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)
