"""From solutions to metrics and pictures, on each set, against the ground truth and against the original model."""

import copy
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import tee
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from unlearnkit.cache import joined
from unlearnkit.contracts import Metric, ModelAdapter, Task, View
from unlearnkit.data import seeded, to_float
from unlearnkit.errors import UserError
from unlearnkit.recipe.sections import TaskSection
from unlearnkit.workbench import SETS, SPLITS, Workbench

T = TypeVar("T")
CHUNK = 64
"""Images of one pass."""

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
        return self._kept.get(key) or self._keeping(key, self._views(name, split, further), _bytes)

    def _views(self, name: str, split: str, further: Further | None) -> Iterator[View]:
        bench, images = self.bench, self.bench.images[name][split]
        task, purpose = (further.task, (further.label,)) if further else (bench.task, ())
        chunks = torch.arange(len(images)).split(CHUNK)
        with images.expect(chunks):
            for number, rows in enumerate(chunks):
                truth = to_float(images[rows].to(bench.device))
                generator = seeded(bench.recipe.seed, "evaluate", name, split, number, *purpose)
                yield self._staged(bench.reference.view(task, truth, generator), rows, name, split, further)

    def _staged(self, view: View, rows: Tensor, name: str, split: str, further: Further | None) -> View:
        side = self.bench.sides[name]
        if self.bench.reference.first is None:
            return view
        if split == "train" and side.stages is not None and further is None:
            return replace(view, stage=side.stages[rows])
        side.store.passes[f"{name} {split}: first stage"] += len(rows)
        # One by one, as for training, so that no number depends on what was kept.
        stages = [self.bench.reference.staged(view[row : row + 1]) for row in range(len(rows))]
        return replace(view, stage=joined(stages))

    def pairs(self, name: str, split: str, further: Further | None = None) -> Iterable[tuple[View, Tensor]]:
        """Return the views of a set, each with the original model's output; call it where no gradient is kept."""
        key = ("outputs", name, split, further.label if further else "")
        if key in self._kept:
            return zip(self.views(name, split, further), self._kept[key], strict=True)
        views, again = tee(self.views(name, split, further))
        outputs = self._keeping(key, map(self.bench.reference.output, again), lambda chunk: chunk.nbytes)
        return zip(views, outputs, strict=True)

    def _keeping(self, key: tuple[str, ...], chunks: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
        """Yield the chunks of a set, and keep all of them for the next time if there is room."""
        number = -(-len(self.bench.images[key[1]][key[2]]) // CHUNK)
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
    tensors = (view.images, view.hidden, view.truth, *view.draws, *view.stage)
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def truth(view: View) -> Tensor:
    """Return the images before degradation."""
    assert view.truth is not None
    return view.truth


Cells = dict[str, dict[str, object]]
"""Values, or why there is none, by what outputs are compared with and by metric."""


def measure(originals: Originals, model: ModelAdapter) -> dict[str, dict[str, Cells]]:
    """Return the metrics of a model by set, split, what it is compared with, and kind.

    A metric that cannot be computed gives `{"failed": reason}` in its own cell.
    """
    images, train = originals.bench.images, originals.bench.recipe.evaluate.train
    splits = [split for split in SPLITS if train or split != "train"]
    return {
        name: {split: _cells(originals, model, name, split) for split in splits if len(images[name][split])}
        for name in SETS
    }


def measure_further(originals: Originals, model: ModelAdapter, further: Further) -> dict[str, Cells]:
    """Return the metrics of a model under a further task by set, what it is compared with, and kind.

    The validation images alone are measured, which is what generalisation is read from and saves the larger part of
    the time. A task that does not suit the images gives its reason in every cell, for the solutions are trained by now.
    """
    images = originals.bench.images
    found: dict[str, Cells] = {}
    for name in (name for name in SETS if len(images[name]["validation"])):
        try:
            found[name] = _cells(originals, model, name, "validation", further)
        except UserError as error:
            reasons: dict[str, object] = {kind: {"failed": str(error)} for kind in originals.bench.metrics}
            found[name] = {"truth": reasons, "original": reasons}
    return found


def _cells(originals: Originals, model: ModelAdapter, name: str, split: str, further: Further | None = None) -> Cells:
    metrics = originals.bench.metrics
    # One chunk at a time, so both comparisons of a metric are under way at once.
    cells = {
        against: {
            kind: _Cell(metric if against == "truth" else copy.deepcopy(metric)) for kind, metric in metrics.items()
        }
        for against in ("truth", "original")
    }
    with torch.no_grad():
        for view, original in originals.pairs(name, split, further):
            outputs = model.output(view)
            for against, targets in (("truth", truth(view)), ("original", original)):
                for cell in cells[against].values():
                    cell.update(outputs, targets, view)
    return {against: {kind: cell.value() for kind, cell in found.items()} for against, found in cells.items()}


class _Cell:
    """A metric on one set against one thing, or why it has no value."""

    def __init__(self, metric: Metric | str) -> None:
        self.metric = metric
        self.failed = metric if isinstance(metric, str) else None
        self._try(lambda metric: metric.reset())

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        self._try(lambda metric: metric.update(outputs, targets, view))

    def value(self) -> object:
        value = self._try(lambda metric: metric.compute()["value"])
        if self.failed is None and not math.isfinite(value):
            self.failed = f"the value is {value}"
        return value if self.failed is None else {"failed": self.failed}

    def _try(self, what: Callable[[Metric], Any]) -> Any:
        if self.failed is not None or isinstance(self.metric, str):
            return None
        try:
            return what(self.metric)
        except Exception as error:  # one metric's failure stays in its own cell, whatever it is
            self.failed = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)


def strip(originals: Originals, model: ModelAdapter | None, name: str, what: str = "output") -> Image.Image:
    """Return the report's validation images of a set side by side: `truth`, `input`, or the `output` of a model."""
    bench = originals.bench
    count = bench.recipe.evaluate.images
    rows = spread(len(bench.images[name]["validation"]), count)
    shown = []
    with torch.no_grad():
        place = 0
        for view in originals.views(name, "validation"):
            wanted = [row - place for row in rows if place <= row < place + len(view.images)]
            place += len(view.images)
            if wanted:
                assert model is not None or what != "output"
                images = truth(view) if what == "truth" else view.images if what == "input" else model.output(view)  # type: ignore[union-attr]
                shown.append(images[wanted])
    pixels = (torch.cat(shown).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return Image.fromarray(torch.cat(list(pixels), dim=2).permute(1, 2, 0).contiguous().numpy())


def spread(count: int, wanted: int) -> list[int]:
    """Return evenly spread rows, so that every class is shown."""
    return [place * count // min(count, wanted) for place in range(min(count, wanted))]


def save_strip(image: Image.Image, path: Path) -> None:
    """Write a strip as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=False)
