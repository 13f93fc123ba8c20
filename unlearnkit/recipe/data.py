"""What a recipe says of its images."""

from typing import Annotated

from pydantic import Field

from unlearnkit.recipe.numbers import Count, Seed
from unlearnkit.recipe.sections import DataSection, Section


class PerClass(Section):
    """How many images of each class are used."""

    train: Count | None = None
    """For training; all that the source has when left out."""
    validation: Annotated[int, Field(ge=0)] | None = None
    """For validation, never trained on; all that the source has when left out."""
    at_most: bool = False
    """Take what there is of a class with fewer images, of which at most a quarter is for validation; otherwise such a
    class is a mistake."""


class Selection(Section):
    """Which images belong to a set: those that fit every criterion given."""

    classes: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the source's classes; all when left out."""
    files: str | None = None
    """A text file, relative to the recipe, with the key of one image a line: its path below the source's folder. All of
    a forget set by `files` is trained on, whatever `data.per_class` says, unless its own `per_class` says otherwise."""
    where: Annotated[dict[str, str | list[str]], Field(min_length=1)] | None = None
    """Values, or lists of them, that columns of the source must have, such as `{identity: [n03, n17]}`."""
    draw: Annotated[int, Field(gt=0)] | None = None
    """So many of the classes that the others leave, drawn from the seed; for the retain set from those without an image
    in the forget set. `results.json` lists them."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Part of what the others select, drawn from the seed: 0.01 alone is one in a hundred of all images."""
    per_class: PerClass | None = None
    """How many images of each class this set uses; `data.per_class` when left out."""
    source: DataSection | None = None
    """Another source than `data.source`, such as a proxy retain set."""


class Data(Section):
    """The images and their split."""

    source: DataSection
    """Where the images come from."""
    forget: Selection
    """The forget set; it needs a criterion: `classes`, `files`, `where`, `draw` or `fraction`."""
    retain: Selection
    """The retain set, which never holds an image of the forget set; `{}` is the rest of the source."""
    per_class: PerClass = PerClass()
    """How many images of each class are used; which ones is drawn from the seed."""
    seed: Seed | None = None
    """Seed of what is drawn here; the recipe's `seed` when left out. With `seeds` all of them see the same images."""
    memory_mib: Annotated[int, Field(ge=0)] = 8192
    """Memory for decoded images, MiB; what it does not hold is decoded again for each batch. It changes no number."""
    workers: Annotated[int, Field(ge=0)] = 2
    """Processes that decode the batches of each set that memory does not hold; 0 decodes them when they are needed."""
