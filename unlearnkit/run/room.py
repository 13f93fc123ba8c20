"""What a recipe's model takes of a device's memory, counted on its outline before anything is loaded."""

from contextlib import suppress
from pathlib import Path

import torch

from unlearnkit.contracts import ModelAdapter, Part, trainable
from unlearnkit.device import memory
from unlearnkit.errors import Exit, UserError
from unlearnkit.fronts import CURVE
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import Lora
from unlearnkit.recipe.training import SGD, Curve, Independent
from unlearnkit.run.tasks import entries
from unlearnkit.solver.workbench import adapted, parts
from unlearnkit.weights import noted, outlined, resolve


def outline(recipe: Recipe, base: Path) -> ModelAdapter | None:
    """Return the recipe's model on the meta device, of which nothing but names and shapes is read.

    None where it cannot be built so: what is wrong with its weights is said by what loads them.
    """
    with suppress(Exception), noted([]), outlined():
        return adapted(recipe, recipe.model.build(resolve(recipe.model.weights, base)))
    return None


def held(recipe: Recipe, model: ModelAdapter) -> int:
    """Return the bytes of weights, gradients and optimiser while the problem that takes most of them is solved.

    They are those of student and reference, which share all weights but adapters; the original weights and both ends of
    phase 1, in vectors; two gradients, and the optimiser's averages. What a curve moves lies beside the student, with a
    gradient of its own. Autocast keeps the weights in bf16 as well.
    """
    added = sum(parameter.numel() for parameter in model.adapters)
    once = sum(parameter.numel() for parameter in model.module.parameters())
    half, optimizer = recipe.training.precision == "bf16", recipe.training.optimizer
    averages = bool(optimizer.momentum) if isinstance(optimizer, SGD) else 2
    size: dict[Part, int] = {part: sum(p.numel() for p in trainable(model, part)) for part in parts(recipe)}
    each, own = entries(recipe, size.__getitem__), size[recipe.model.part]
    curve = each.pop(CURVE, 0)
    one = max(each.values()) * (2 + averages + half)  # how near it is to the original is looked at in bf16
    moved = max(one, curve and curve * (2 + averages) + 3 * own)
    return 4 * ((once + added if added else 2 * once) + 3 * own + moved) + (2 * once if half else 0)


def large(recipe: Recipe, base: Path, model: ModelAdapter, device: torch.device) -> UserError | None:
    """Return what to tell where a model is larger than the device, with what would be smaller; None where it fits."""
    there, wanted = memory(device), held(recipe, model)
    if there is None or wanted <= there:
        return None
    advice = "use a device with more"
    if recipe.model.lora is None:
        train = Lora(part=recipe.model.part)
        lighter = recipe.model_copy(update={"model": recipe.model.model_copy(update={"train": train})})
        other = outline(lighter, base)
        takes = f", which take {gib(held(lighter, other))}" if other else ""
        said = "lora" if train.part == "encoder" else f"{{kind: lora, part: {train.part}}}"
        advice = f"train adapters with `model.train: {said}`{takes}, or {advice}"
    if isinstance(recipe.sweep, Curve):
        alone = held(recipe.model_copy(update={"sweep": Independent(kind="independent")}), model)
        advice = f"solve single ε with `sweep: {{kind: independent}}`, which take {gib(alone)}, or {advice}"
    said = f"weights, gradients and optimiser take {gib(wanted)}, and {device} has {gib(there)}"
    return UserError(f"{said}, so that nothing was loaded; {advice}", Exit.DEVICE)


def gib(size: int) -> str:
    """Return bytes as people say them."""
    return f"{size / 2**30:.1f} GiB"
