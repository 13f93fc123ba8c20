"""The processes of a run beside the first: each builds the same workbench, and computes what it is asked for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import placed
from unlearnkit.recipe.validate import recipe_class
from unlearnkit.solver import ranks
from unlearnkit.solver.origin import processor
from unlearnkit.solver.shares import serve
from unlearnkit.solver.workbench import Workbench, build


@dataclass(frozen=True)
class Building:
    """What the first process builds a workbench from, and with how many threads it computes."""

    resolved: Mapping[str, Any]
    base: Path
    folder: Path
    threads: int


def built(recipe: Recipe, resolved: Mapping[str, Any], base: Path, folder: Path) -> Workbench:
    """Return the workbench of a run in `folder`, when all processes have built it.

    Raise `UserError` where that failed in one of them, or where they cannot share the recipe's work.
    """
    shards, count = recipe.training.shards, ranks.count()
    if count > shards:
        advice = f"give {count} or more (the numbers change with it), or start {shards}"
        raise UserError(f"training.shards: {shards} for {count} processes, of which each needs one; {advice}")
    if count > 1:
        ranks.join()
        ranks.say(Building(resolved, base.absolute(), folder.absolute(), torch.get_num_threads()))
    bench = build(recipe, base, folder / "cache")
    if count > 1:
        mine, *others = ranks.gathered(processor(bench.device))
        for number, found in enumerate(others, 1):
            if isinstance(found, str):
                raise UserError(f"process {number}: {found}", Exit.DEVICE)
            if found != mine:
                raise UserError(f"process {number} computes on {found}, the first on {mine}", Exit.DEVICE)
    return bench


def follow(plugins: Plugins) -> None:
    """Build what the first process builds and do what it asks for, until it is done or gone."""
    with ranks.following():
        word: object = ranks.hear()
        while isinstance(word, Building):
            torch.set_num_threads(word.threads)
            recipe = recipe_class(Recipe, plugins).model_validate_json(json.dumps(word.resolved))
            try:
                bench = build(placed(recipe, word.base), word.base, word.folder / "cache")
            except UserError as error:
                ranks.gathered(str(error))
                return
            ranks.gathered(processor(bench.device))
            word = serve(bench.sides)
