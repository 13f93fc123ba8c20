"""Views of each set and what the original model makes of them, kept as far as memory goes."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import tee
from operator import attrgetter
from typing import Any, TypeVar

from torch import Tensor

from unlearnkit.contracts import Task, View, staged
from unlearnkit.data import views_of
from unlearnkit.data.views import CHUNK
from unlearnkit.recipe.sections import TaskSection
from unlearnkit.solver.frozen import joined
from unlearnkit.solver.workbench import Workbench

T = TypeVar("T")

KEPT_BYTES = 2**30
"""Memory for views and for the original model's outputs; beyond it they are computed again for each solution."""


@dataclass(frozen=True)
class Further:
    """A task of `evaluate.tasks`: one that solutions are measured on besides the training task."""

    section: TaskSection

    @cached_property
    def task(self) -> Task:
        """The degradation."""
        return self.section.build()

    @cached_property
    def label(self) -> str:
        """Kind and fields in one line, such as `center-crop, ratio 0.25`; other fields give another label."""
        fields = self.section.model_dump(mode="json", exclude={"kind"}, exclude_none=True)
        return ", ".join([self.section.kind, *(f"{key.replace('_', ' ')} {_said(fields[key])}" for key in fields)])


def _said(value: object) -> str:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) for end in value):
        return f"{value[0]} to {value[1]}"
    return value if isinstance(value, str) else json.dumps(value)


class Originals:
    """Views of each set and the original model's outputs on them, kept as far as the memory for them goes."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._kept: dict[tuple[str, ...], Iterable[Any]] = {}
        self._left = KEPT_BYTES

    def views(self, name: str, split: str, further: Further | None = None) -> Iterable[View]:
        """Return the views of a set in chunks, under the training task or a further one.

        What is random in them is the same for every solution. A task that does not suit the images raises `UserError`
        at the first chunk.
        """
        key = ("views", name, split, further.label if further else "")
        bench, seed = self.bench, self.bench.recipe.seed
        task, purpose = (further.task, (further.label,)) if further else (bench.task, ())
        made = views_of(
            bench.reference, task, bench.images[name][split], bench.device,
            lambda number: (seed, "evaluate", name, split, number, *purpose),
        )  # fmt: skip
        views = (self._staged(view, rows, name, split, further) for rows, view in made)
        return self._kept.get(key) or self._keeping(key, views, _bytes)

    def _staged(self, view: View, rows: Tensor, name: str, split: str, further: Further | None) -> View:
        side = self.bench.sides[name]
        if self.bench.reference.first is None:
            return view
        if split == "train" and side.stages is not None and further is None:
            return replace(view, stage=side.stages[rows])
        side.passes[f"{name} {split}: first stage"] += len(rows)
        # One by one, as for training, so that no number depends on what was kept.
        stages = [staged(self.bench.reference, view[row : row + 1]) for row in range(len(rows))]
        return replace(view, stage=joined(stages))

    def pairs(self, name: str, split: str, further: Further | None = None) -> Iterable[tuple[View, Tensor]]:
        """Return the views of a set, each with the original model's output; call it where no gradient is kept."""
        key = ("outputs", name, split, further.label if further else "")
        views, again = tee(self.views(name, split, further))
        made = map(self.bench.reference.output, again)
        return zip(views, self._kept.get(key) or self._keeping(key, made, attrgetter("nbytes")), strict=True)

    def _keeping(self, key: tuple[str, ...], chunks: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
        """Yield the chunks of a set, and keep all of them for the next time if there is room."""
        number = math.ceil(len(self.bench.images[key[1]][key[2]]) / CHUNK)
        kept: list[T] | None = None
        for place, chunk in enumerate(chunks):
            if place == 0 and size(chunk) * number <= self._left:
                self._left -= size(chunk) * number
                kept = []
            if kept is not None:
                kept.append(chunk)
            yield chunk
        if kept:
            self._kept[key] = kept


def _bytes(view: View) -> int:
    own = () if view.given is None else (view.given,)
    return sum(tensor.nbytes for tensor in (view.images, view.hidden, view.truth, *view.draws, *view.stage, *own))
