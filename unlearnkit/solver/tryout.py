"""One use of everything that plugins brought, on an image or two, before anything is trained."""

import copy
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from unlearnkit.contracts import Loss, ModelAdapter, View, staged, trainable
from unlearnkit.contracts.checks import images, rows, scalar
from unlearnkit.control import Facts
from unlearnkit.data import random_view
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import PsiSection
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.shares import looked_at
from unlearnkit.solver.side import Side

SEPARABLE = 1e-3
"""Relative difference from which on the loss of two images is not taken for the mean of theirs."""

TINY = 1e-6
"""Difference up to which it is, such as of a student that is still the reference."""


def try_parts(recipe: Recipe, model: ModelAdapter, device: torch.device, paired: bool = False) -> None:
    """Use a plugin's tasks, model and control once, on a random image; what unlearnkit brings itself has its tests.

    `paired` says that the image has another one as its target.

    Raise `UserError` naming the method that returns something else than its contract says.
    """
    for section in (recipe.task, *recipe.evaluate.tasks):
        if _foreign(section) or (section is recipe.task and _foreign(recipe.model)):
            view = random_view(model, section.build(), 1, "tried", device, paired)
            if section is recipe.task and _foreign(recipe.model):
                _model(recipe, model, view)
    control = recipe.control
    for name in ("boundary", "lowest", "epsilon"):
        # Our own are tried too where there is no ε, which not all of them can do without.
        if (psi := getattr(control, name)) is not None and (name != "epsilon" or _foreign(psi)):
            _psi(psi, f"control.{name}", 0.5 if name == "epsilon" else None)
    if _foreign(control.multiplier):
        one, rule = torch.ones((), dtype=torch.float64), control.multiplier.build()
        facts = Facts(one, 0.5, lambda *_: one, one, one, one, one)
        scalar(rule.weights(facts)[1], rule, "weights", "control.multiplier", asked=False)


def try_losses(recipe: Recipe, sides: Mapping[str, Side], methods: Sequence[Problem]) -> None:
    """Use a plugin's losses, or ours on a plugin's model or task, once; raise `UserError` as `try_parts`.

    Where batches are computed in parts, or looks are at some images, raise it too where one of the losses cannot be.
    """
    for name, side in sides.items():
        if any(map(_foreign, (recipe.model, recipe.task, getattr(recipe, name)))):
            _alone(side).value(torch.arange(min(2, side.count)), "tried", precise=True)
    for name, loss in looked_at(sides, methods):
        if recipe.training.shards > 1 or sides[name].sampled:
            _refuse_inseparable(_alone(sides[name]), loss)


def _refuse_inseparable(side: Side, loss: Loss) -> None:
    """Raise `UserError` where a batch is too small for its parts, or its loss is no mean of those of its images."""
    shards, least = side.training.shards, min(side.training.batch_size, side.count)
    if shards > least:
        found = f"{shards} parts of a batch of {least} images of the {side.name} set"
        raise UserError(f"training.shards: {found}; give {least} at most", Exit.RECIPE)
    side.loss, side.lasting = loss, False
    with torch.no_grad():
        view, target = side.batch(torch.arange(2), "tried")
        whole, *each = (
            float(loss.distance(side.student, view[rows], [part[rows] for part in target]))
            for rows in (slice(0, 2), slice(0, 1), slice(1, 2))
        )
    if not math.isclose(whole, sum(each) / 2, rel_tol=SEPARABLE, abs_tol=TINY):
        what = ("a batch cannot be computed in parts", "use training.shards: 1")
        if shards == 1:
            what = ("some images do not tell of a set", "leave out training.look")
        found = f"its loss of two images is not the mean of theirs, so that {what[0]}; {what[1]}"
        raise UserError(f"{side.name}: {type(loss).__name__}: {found}", Exit.RECIPE)


def unreached(recipe: Recipe, sides: Mapping[str, Side], student: ModelAdapter) -> Sequence[str]:
    """Return what to tell where a recipe trains all, and no loss depends on anything but the encoder; else nothing."""
    outside = trainable(student)[len(trainable(student, "encoder")) :]
    if recipe.model.part == "encoder" or not outside:
        return ()
    for side in map(_alone, sides.values()):
        loss = side.loss.distance(student, *side.batch(torch.arange(min(2, side.count)), "tried"))
        if any(gradient is not None for gradient in torch.autograd.grad(loss, outside, allow_unused=True)):
            return ()
    found = "neither the forget nor the retain loss depends on anything outside the encoder, which gets no gradient"
    advice = "take losses between outputs, such as noise-output and reference-output, or `train: encoder`"
    return (f"model.train: `all` unlearns the encoder alone: {found}; {advice}",)


def _alone(side: Side) -> Side:
    """Return the same set and loss, keeping and counting nothing."""
    alone = copy.copy(side)
    alone.store, alone.passes = None, Counter()
    return alone


def _foreign(section: object) -> bool:
    return not type(section).__module__.startswith("unlearnkit.")


def _psi(section: PsiSection, place: str, epsilon: float | None) -> None:
    one = torch.ones((), dtype=torch.float64)
    scalar(section.build()(one, epsilon, one, one), section, "build()", place, asked=False)


def _model(recipe: Recipe, model: ModelAdapter, view: View) -> None:
    with torch.no_grad():
        rows(staged(model, view), 1, model, "first_stage", "model")
        embedding = model.embed(view)
        rows(embedding, 1, model, "embed", "model")
        images(model.decode(embedding, view), view.truth, model, "decode", "model")
        images(model.output(view), view.truth, model, "output", "model")
        if recipe.compare or recipe.evaluate.audits:
            scalar(model.own_loss(view.truth, view), model, "own_loss", "model")
