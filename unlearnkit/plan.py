"""What a recipe would run, how many steps, how much memory and disk, without running it."""

from pathlib import Path
from typing import Any

import torch

from unlearnkit.builtin.distances import parts
from unlearnkit.data import Chosen, seeded, split
from unlearnkit.errors import UserError
from unlearnkit.phases import budget
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.weights import choose_device, resolve

MIB = 2**20
ACTIVATIONS = 40
"""Values kept for the backward pass for each value of an embedding and each block: a rough figure for transformers."""


def describe(recipe: Recipe, base: Path) -> dict[str, Any]:
    """Return the plan: problems, steps, sets, memory and disk in MiB, and what is missing on this machine."""
    missing: list[str] = []

    def tried(what: Any, *arguments: Any) -> Any:
        try:
            return what(*arguments)
        except UserError as error:
            missing.append(str(error))
            return None

    device = tried(choose_device, recipe.training.device)
    tried(resolve, recipe.model.weights, base)
    chosen: tuple[Chosen, Chosen] | None = tried(split, recipe.data, base, recipe.seed)
    for section in recipe.evaluate.metrics:
        tried(section.build, base, torch.device("cpu"))
    adapter = recipe.model.build(None)
    trained = sum(
        parameter.numel()
        for parameter in (adapter.encoder if recipe.model.train == "encoder" else adapter.module).parameters()
    )
    every = sum(parameter.numel() for parameter in adapter.module.parameters())
    epsilons = recipe.epsilons.fractions or recipe.epsilons.values or []
    problems = ["boundary-highest", "boundary-lowest"]
    problems += [f"epsilon-{number} ({value})" for number, value in enumerate(sorted(epsilons))]
    problems += [method.kind for method in recipe.compare]
    counts = _counts(recipe, chosen)
    forget, retain = counts["forget"]["train"], counts["retain"]["train"]
    steps = budget(recipe.training, forget, retain) if forget and retain else recipe.training.steps
    size = adapter.image_size
    with torch.no_grad():
        view = adapter.view(recipe.task.build(), torch.rand(1, 3, size, size), seeded("plan"))
        embedding = sum(part.numel() for part in parts(adapter.embed(view)))
    images = sum((counts[name][split] or 0) for name in counts for split in counts[name]) * 3 * size**2
    targets = 4 * embedding * (retain or 0)
    state = 4 * (2 * every + 6 * trained)
    batch = 4 * ACTIVATIONS * embedding * recipe.training.batch_size * 4
    vectors = len(problems) + 9
    return {
        "name": recipe.name,
        "device": str(device) if device else recipe.training.device,
        "precision": recipe.training.precision,
        "problems": problems,
        "steps_each": steps,
        "steps": steps * len(problems) if steps else None,
        "images_seen": 2 * steps * len(problems) * recipe.training.batch_size if steps else None,
        "sets": counts,
        "parameters": {"trained": trained, "all": every},
        "memory_mib": {
            "weights, gradients, optimiser": round(state / MIB),
            "images": round(images / MIB),
            "reference embeddings": round(targets / MIB),
            "activations (estimate)": round(batch / MIB),
        },
        "disk_mib": round(4 * trained * vectors / MIB) + 1,
        "missing": missing,
    }


def _counts(recipe: Recipe, chosen: tuple[Chosen, Chosen] | None) -> dict[str, dict[str, int | None]]:
    """Return the images of each set, from the data or, where that is missing, from the recipe."""
    if chosen is not None:
        return {part.name: {"train": len(part.train), "validation": len(part.validation)} for part in chosen}
    per_class = recipe.data.per_class
    return {
        name: {
            "train": per_class.train * len(selection.classes) if per_class.train else None,
            "validation": per_class.validation * len(selection.classes) if per_class.validation else None,
        }
        for name, selection in (("forget", recipe.data.forget), ("retain", recipe.data.retain))
    }


def lines(plan: dict[str, Any]) -> list[str]:
    """Return a plan as lines for a person."""
    steps = plan["steps_each"]
    rows = [
        f"{plan['name']} on {plan['device']}, {plan['precision']}",
        f"  model: {plan['parameters']['trained']:,} trained parameters of {plan['parameters']['all']:,}",
    ]
    for name, counts in plan["sets"].items():
        rows.append(
            f"  {name} set: {_shown(counts['train'])} training and {_shown(counts['validation'])} validation images"
        )
    rows.append(f"  {len(plan['problems'])} problems of up to {_shown(steps)} steps: {_shown(plan['steps'])} steps")
    rows += [f"    {problem}" for problem in plan["problems"]]
    rows.append("  memory, MiB: " + ", ".join(f"{what} {value:,}" for what, value in plan["memory_mib"].items()))
    rows.append(f"  disk, MiB: {plan['disk_mib']:,}")
    rows += (
        ["  missing here:", *(f"    {text}" for text in plan["missing"])]
        if plan["missing"]
        else ["  nothing is missing"]
    )
    return rows


def _shown(value: int | None) -> str:
    return "an unknown number of" if value is None else f"{value:,}"
