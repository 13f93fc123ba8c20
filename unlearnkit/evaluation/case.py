"""One model under audit, with the images of its recipe and the solver's steps to train it further."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import Parameter

from unlearnkit.contracts import (
    Case,
    ModelAdapter,
    OptimizerSection,
    OwnLoss,
    SetName,
    Shadow,
    Split,
    View,
    staged,
    trainable,
)
from unlearnkit.control import Constant, Stage
from unlearnkit.data import Pixels, views_of
from unlearnkit.recipe.training import Training
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.side import Side


@dataclass(eq=False)
class ModelCase(Case):
    """A case of a model of its own, on the sides of a recipe's losses."""

    model: ModelAdapter
    reference: ModelAdapter
    sides: Mapping[str, Side]
    images: Mapping[str, Mapping[str, Pixels]]
    training: Training
    seed: int
    fresh: Callable[[], Sequence[Parameter]]
    """What returns the parameters of an untrained model."""
    retrained: Sequence[ModelAdapter] = ()
    other: ModelAdapter | None = None
    shadows: Sequence[Shadow] = ()
    pause: Callable[[], None] = lambda: None
    """What is called between steps; it may raise."""

    def __post_init__(self) -> None:
        self.items = {name: {split: found.items for split, found in of.items()} for name, of in self.images.items()}
        self.sources = {name: of["train"].source for name, of in self.images.items()}
        self.model.module.eval().requires_grad_(False)

    def views(
        self, name: SetName, split: Split, *purpose: object, change: Callable[[Tensor], Tensor] = lambda images: images
    ) -> Iterator[View]:
        device = next(self.model.module.parameters()).device
        made = views_of(
            self.model, self.sides[name].task, self.images[name][split], device,
            lambda number: (self.seed, "audit", name, split, number, *purpose), change,
        )  # fmt: skip
        for _, view in made:
            yield replace(view, stage=staged(self.model, view))

    def rest(self) -> list[Parameter]:
        encoder = set(trainable(self.model, "encoder"))
        found = [parameter for parameter in trainable(self.model) if parameter not in encoder]
        if not found:
            raise ValueError("the model has no part beside its encoder")
        return found

    def refresh(self, parameters: Iterable[Parameter]) -> None:
        values = dict(zip(trainable(self.model), self.fresh(), strict=True))
        for parameter in parameters:
            parameter.data.copy_(values[parameter].data)

    def train(
        self,
        parameters: Iterable[Parameter],
        on: Sequence[SetName],
        steps: int,
        optimizer: OptimizerSection | None = None,
        *,
        decay: float,
    ) -> Iterator[int]:
        training = self.training.model_copy(update={"optimizer": optimizer or self.training.optimizer, "decay": decay})
        losses = {name: OwnLoss() if name in on else None for name in self.sides}
        stage = Stage(losses["forget"], losses["retain"], Constant(1, 1) if len(on) == 2 else None)
        sides = {name: side.under(losses[name] or OwnLoss(), self.model) for name, side in self.sides.items()}
        descent = Descent(Problem("audit", [stage]), Flat(parameters), sides, training, steps)
        with descent.decoding():
            while descent.advance():
                yield descent.done
                self.pause()
                descent.step()
            yield descent.done
