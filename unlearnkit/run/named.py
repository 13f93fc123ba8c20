"""What a recipe names, looked for on this machine: all that is missing in one pass, before anything is built."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from unlearnkit.data import Chosen, sections, split, unsplit
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.pretraining import PretrainRecipe
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import DataSection, Section
from unlearnkit.recipe.vary import children
from unlearnkit.weights import pinned, resolve

T = TypeVar("T")
NAMELESS = {"seed", "control", "epsilons", "sweep", "training"}
"""Parts of a recipe that name nothing."""


@dataclass
class Named:
    """The images of a recipe's sets, and every error of what it names."""

    chosen: tuple[Chosen, Chosen] | None = None
    errors: list[UserError] = field(default_factory=list)

    def tried(self, what: Callable[..., T], *arguments: object) -> T | None:
        """Return what a call returns, or keep its error and return None."""
        try:
            return what(*arguments)
        except UserError as error:
            if str(error) not in map(str, self.errors):
                self.errors.append(error)
            return None

    @property
    def code(self) -> Exit:
        """That of the first error, or that all is there."""
        return self.errors[0].code if self.errors else Exit.DONE

    @property
    def lines(self) -> list[str]:
        """What is missing."""
        return [str(error) for error in self.errors]

    def refuse(self) -> None:
        """Raise one `UserError` of all that is missing, where anything is."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise UserError("\n".join(f"error: {line}" for line in self.lines), self.code)


def look(recipe: Recipe | PretrainRecipe, base: Path) -> Named:
    """Look for the sources, classes, lists and weights of a recipe whose relative paths start at `base`.

    No weights and no image are opened and nothing is fetched.
    """
    named = Named()
    if isinstance(recipe, PretrainRecipe):
        named.tried(unsplit, recipe.data, base, recipe.seed)
    else:
        # One after the other, so that a second source that is not there is told as well.
        ours, theirs = sections(recipe.data)
        opened = named.tried(ours.open, base)
        other = opened if theirs == ours else named.tried(theirs.open, base)
        if opened is not None and other is not None:
            named.chosen = named.tried(split, recipe.data, base, recipe.seed, (opened, other))
    for place, reference in _weights(recipe):
        named.tried(pinned if reference.startswith("hub:") else resolve, reference, base, place)
    return named


def look_at_all(recipe: Recipe | PretrainRecipe, resolved: Mapping[str, Any], base: Path) -> Named:
    """Look for what each run of a recipe names, where that may be another; `resolved` is the whole of the recipe."""
    runs = children(recipe, resolved) if isinstance(recipe, Recipe) else []
    distinct = {run.recipe.model_dump_json(exclude=NAMELESS): run.recipe for run in runs}
    found = [look(its, base) for its in distinct.values()] or [look(recipe, base)]
    for one in found[1:]:
        found[0].errors += [error for error in one.errors if str(error) not in found[0].lines]
    return found[0]


def _weights(section: Section, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the references to weights in a section and below it, each with its place."""
    for name, value in section:
        place = f"{above}.{name}".removeprefix(".")
        if name == "weights" and isinstance(value, str):
            yield place, value
        for number, one in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(one, Section) and not isinstance(one, DataSection):
                yield from _weights(one, f"{place}[{number}]" if isinstance(value, list) else place)
