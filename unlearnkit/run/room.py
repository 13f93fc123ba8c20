"""What a recipe's model takes of a device's memory, counted on its outline before anything is loaded."""

from contextlib import suppress
from pathlib import Path

import torch

from unlearnkit.contracts import ModelAdapter, trainable
from unlearnkit.device import memory
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import Lora
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
    """Return the bytes of weights, gradients and optimiser: without adapters up to 24 a parameter.

    They are those of student and reference, which share all weights but adapters, two gradients and two averages of
    the optimiser; autocast keeps the weights in bf16 as well.
    """
    added = sum(parameter.numel() for parameter in model.adapters)
    once = sum(parameter.numel() for parameter in model.module.parameters())
    trained = max(sum(parameter.numel() for parameter in trainable(model, part)) for part in parts(recipe))
    weights = once + added if added else 2 * once
    return 4 * (weights + 4 * trained) + (2 * once if recipe.training.precision == "bf16" else 0)


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
    said = f"weights, gradients and optimiser take {gib(wanted)}, and {device} has {gib(there)}"
    return UserError(f"{said}, so that nothing was loaded; {advice}", Exit.DEVICE)


def gib(size: int) -> str:
    """Return bytes as people say them."""
    return f"{size / 2**30:.1f} GiB"
