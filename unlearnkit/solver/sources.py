"""What losses, forget targets and methods may take beside the reference."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unlearnkit.contracts import ModelAdapter, Size, Sources
from unlearnkit.data import Chosen, Pixels, colour_statistics, named, seeded, to_float
from unlearnkit.disk import sha256
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.solver.pretrained import built, pretrained
from unlearnkit.weights import noted, resolve


def sources(
    recipe: Recipe,
    base: Path,
    device: torch.device,
    weights: Path | None,
    chosen: Mapping[str, Chosen],
    images: Mapping[str, Mapping[str, Pixels]],
    others: dict[str, str],
    notes: list[str],
    size: Size | None,
) -> Sources:
    """Return what sections may take beside the reference; other weights add their hash to `others`, and to `notes`."""

    def other(named: str) -> ModelAdapter:
        path = resolve(named, base, "target.weights")
        assert path is not None
        others[named] = sha256(path)
        with noted(notes):
            adapter = built(recipe.model, path)
        adapter.module.to(device).eval().requires_grad_(False)
        return adapter

    noise = colour_statistics(images["forget"]["train"])
    drawn = partial(_drawn, images["retain"]["train"], chosen["retain"])
    generator: Callable[[], torch.Generator] = partial(seeded, recipe.seed, "noise")
    return Sources(noise, generator, drawn, other, base, size, partial(pretrained, weights))


def _drawn(pixels: Pixels, chosen: Chosen, label: str | None, count: int, generator: torch.Generator) -> Tensor:
    """Return training images of a set, of one class or of any, drawn with replacement."""
    label = None if label is None else named(label, chosen.source, "target.name")
    rows = [row for row, item in enumerate(chosen.train) if label in (None, item.label)]
    if not rows:
        raise UserError(
            f"target.name: the {chosen.name} set has no training images of class '{label}'; it has: "
            f"{', '.join(sorted({item.label for item in chosen.train}))}",
            Exit.RECIPE,
        )
    return to_float(pixels[torch.tensor(rows)[torch.randint(len(rows), (count,), generator=generator)]])
