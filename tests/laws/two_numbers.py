"""A model of two numbers: E(x) = a·x, D(e) = b·e, its own loss (D(E(x)) − x)².

All forget images are P everywhere and all retain images Q, and the task hides nothing, so that every loss is a
polynomial in a and b whose gradient can be written down.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from unlearnkit.builtin.losses import targets
from unlearnkit.builtin.losses.distances import ToReference
from unlearnkit.contracts import ModelAdapter, Pretrained, Setting, Sources, Task, standard_normal, whole
from unlearnkit.control import gradient_norm
from unlearnkit.data import seeded
from unlearnkit.recipe.training import SGD, Training
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.side import Side

P, Q, GREY = 0.2, 0.6, 0.5
A0, B0 = 1.1, 0.8
A, B = 0.9, 1.3
A1, B1 = 0.7, 0.9
SIZE = 4


class Two(ModelAdapter):
    image_size = SIZE

    def __init__(self, a=A0, b=B0):
        self.module = nn.ModuleDict({"e": nn.Linear(1, 1, bias=False), "d": nn.Linear(1, 1, bias=False)})
        self.encoder = self.module["e"]
        self.module["e"].weight.data.fill_(a)
        self.module["d"].weight.data.fill_(b)

    def embed(self, view):
        return view.images * self.module["e"].weight[0, 0]

    def decode(self, embedding, view):
        return embedding * self.module["d"].weight[0, 0]

    def own_loss(self, images, view):
        return (self.decode(self.embed(view), view) - images).square().mean()


class Nothing(Task):
    """A task that hides nothing."""

    fixed = True

    def degrade(self, images, generator):
        return whole(images)


class Counted:
    """Images of one value, and how often one was read."""

    device = torch.device("cpu")

    def __init__(self, value):
        self.value, self.reads = value, 0

    def __len__(self):
        return 8

    def __getitem__(self, rows):
        self.reads += len(rows)
        if self.value is None:
            return torch.randint(256, (len(rows), 3, SIZE, SIZE), generator=seeded("varied"), dtype=torch.uint8)
        return torch.full((len(rows), 3, SIZE, SIZE), round(self.value * 255), dtype=torch.uint8)

    def pairs(self, rows):
        return self[rows], None

    def expect(self, batches):
        return nullcontext()


def toy(section, *, a=A, b=B, steps=1, lr=1.0, alone=False, varied=False):
    """Return the problem of a method that starts at (a, b), with the reference at (A0, B0).

    `alone` leaves the retain loss out, `varied` makes the forget images noise.
    """
    reference, student = Two(), Two(a, b)
    reference.sees_truth = section.kind == "siss"
    reference.module.requires_grad_(False)
    sources = Sources(
        standard_normal(), lambda: seeded("toy"),
        lambda label, count, generator: torch.full((count, 3, SIZE, SIZE), Q), lambda weights: Two(A1, B1), Path(),
        original=lambda: Pretrained(0),
    )  # fmt: skip
    setting = Setting(reference, Nothing(), sources)
    recipe_losses = ToReference("embedding", reference), ToReference("embedding", reference)
    training = Training(optimizer=SGD(kind="sgd", lr=lr), steps=steps, batch_size=4, decay=0.0, checks=1)
    images = {"forget": Counted(None if varied else P), "retain": Counted(Q)}
    sides = {
        name: Side(name, loss, images[name], Nothing(), student, 0, training)
        for name, loss in zip(images, recipe_losses, strict=True)
    }
    part = section.part or "encoder"
    whole = Flat([student.module["e"].weight, student.module["d"].weight])
    flat = whole.first(1 if part == "encoder" else 2).alone()
    stages = section.build(setting, *recipe_losses)
    if alone:
        stages = [replace(stage, retain=None, rule=None) for stage in stages]

    def start(stage, number, theta):
        return theta * 0 + 0.5 if stage.fresh else theta

    psi = lambda loss, epsilon, norm, objective: gradient_norm(norm, 1, 2)  # noqa: E731
    problem = Problem("toy", stages, psi, section.kind, part=part)
    descent = Descent(problem, flat, sides, training, steps, start)
    descent.begin(flat.theta.detach().clone())
    return descent, images


def run(descent, steps=None):
    while (steps is None or descent.done < steps) and descent.advance():
        descent.step()
    return descent.flat.theta.detach().tolist()


def kept_and_aimed(a):
    """Return the encoder's two gradients at a, of the distance to the reference and to its embedding of grey."""
    return 2 * (a - A0) * Q**2, 2 * (a * P - A0 * GREY) * P


GREYS = targets.Noise(kind="noise", distribution="constant")
KEPT, AIMED = kept_and_aimed(A)
