"""Small problems with known answers, in the shape that `Descent` takes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from unlearnkit.contracts import Psi
from unlearnkit.control import Mixture, Stage, constraint_gap, gradient_norm
from unlearnkit.data import seeded
from unlearnkit.recipe.training import SGD, Training
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.side import Side


class ToySide:
    """A loss of a parameter vector, with noise on its batches where asked."""

    count, seed, crew, training = 64, 0, None, Training()
    sampled = False
    sum, whole, look, seen = Side.sum, Side.whole, Side.look, Side.seen

    def __init__(self, name: str, x: Tensor, loss: Callable[[Tensor], Tensor], noise: float = 0.0) -> None:
        self.name, self.x, self.loss, self.noise, self.looks = name, x, loss, noise, 0

    def under(self, loss: object, student: object = None) -> "ToySide":
        return self

    def parts(self, step: tuple[int, int]) -> list[Tensor]:
        return [torch.arange(8)]

    def batch(self, rows: Tensor, *purpose: object) -> tuple[Tensor]:
        return (self.noise * torch.randn(self.x.shape, generator=seeded(self.name, *purpose)),)

    def at(self, shift: Tensor, precise: bool = False) -> Tensor:
        return self.loss(self.x + shift if self.noise else self.x)

    def terms(self, shard: int, shards: int, sampled: bool) -> Iterator[Callable[[], Tensor]]:
        self.looks += 1
        yield lambda: self.loss(self.x)

    def exact(self) -> float:
        return float(self.loss(self.x.detach()))


def descent(
    f1: Callable[[Tensor], Tensor],
    f2: Callable[[Tensor], Tensor],
    start: Tensor,
    rule: Mixture,
    psi: Psi,
    *,
    epsilon: float | None = None,
    steps: int = 500,
    lr: float = 0.1,
    objective: str = "retain",
    decay: float = 0.0,
    noise: float = 0.0,
    optimizer: object = None,
) -> Descent:
    """Return a problem of phase 2, or of phase 1 without ε, on two toy losses."""
    parameter = nn.Parameter(start.clone())
    flat = Flat([parameter])
    training = Training(
        optimizer=optimizer or SGD(kind="sgd", lr=lr), steps=steps, batch_size=8, decay=decay, checks=20
    )
    sides = {name: ToySide(name, parameter, loss, noise) for name, loss in (("forget", f1), ("retain", f2))}
    stages = [Stage(sides["forget"].loss, sides["retain"].loss, rule)]
    phase = 2 if epsilon is not None else 1
    problem = Problem("toy", stages, psi, phase=phase, objective=objective, epsilon=epsilon)
    return Descent(problem, flat, sides, training, steps)


def solved(toy: Descent) -> Tensor:
    """Return where a toy ends after all its steps, with the last check taken."""
    while toy.done < toy.steps:
        toy.step()
        if toy.due():
            toy.check()
    return toy.flat.theta.detach().clone()


def phase1(alpha: float = 5.0, delta: float = 2.0) -> Psi:
    return lambda loss, epsilon, norm, objective: gradient_norm(norm, alpha, delta)


def phase2(beta: float = 5.0, delta: float = 1.0) -> Psi:
    return lambda loss, epsilon, norm, objective: constraint_gap(loss, epsilon, beta, delta)


def half_square(centre: Tensor) -> Callable[[Tensor], Tensor]:
    """Return ½‖x − centre‖²."""
    return lambda x: 0.5 * (x - centre).square().sum()
