"""From solutions to metrics and pictures, on each set, against the ground truth and against the original model."""

import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unlearnkit.cache import joined
from unlearnkit.contracts import Metric, ModelAdapter, Task, View
from unlearnkit.data import seeded, to_float
from unlearnkit.errors import UserError
from unlearnkit.recipe.sections import TaskSection
from unlearnkit.workbench import SETS, SPLITS, Workbench

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
        self._kept: dict[tuple[str, str, str, str], Any] = {}
        self._left = KEPT_BYTES

    def views(self, name: str, split: str, further: Further | None = None) -> list[View]:
        """Return the views of a set in chunks, under the training task or a further one.

        What is random in them is the same for every solution. Raise `UserError` where a task does not suit the images.
        """
        key = ("views", name, split, further.label if further else "")
        if key in self._kept:
            return self._kept[key]
        bench, images = self.bench, self.bench.images[name][split]
        task, purpose = (further.task, (further.label,)) if further else (bench.task, ())
        views = []
        for number, rows in enumerate(torch.arange(len(images)).split(CHUNK)):
            truth = to_float(images[rows.to(images.device)].to(bench.device))
            generator = seeded(bench.recipe.seed, "evaluate", name, split, number, *purpose)
            view = bench.reference.view(task, truth, generator)
            views.append(self._staged(view, rows, name, split, further))
        self._keep(key, views, sum(_bytes(view) for view in views))
        return views

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

    def outputs(self, name: str, split: str, further: Further | None = None) -> list[Tensor]:
        """Return the outputs in the chunks of `views`."""
        key = ("outputs", name, split, further.label if further else "")
        if key in self._kept:
            return self._kept[key]
        with torch.no_grad():
            found = [self.bench.reference.output(view) for view in self.views(name, split, further)]
        self._keep(key, found, sum(chunk.nbytes for chunk in found))
        return found

    def _keep(self, key: tuple[str, str, str, str], value: Any, size: int) -> None:
        if size <= self._left:
            self._left -= size
            self._kept[key] = value


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
    images = originals.bench.images
    return {
        name: {split: _cells(originals, model, name, split) for split in SPLITS if len(images[name][split])}
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
    bench = originals.bench
    views = originals.views(name, split, further)
    with torch.no_grad():
        outputs = [model.output(view) for view in views]
        targets = {"truth": [truth(view) for view in views], "original": originals.outputs(name, split, further)}
        return {
            against: {
                kind: _cell(metric, list(zip(outputs, found, views, strict=True)))
                for kind, metric in bench.metrics.items()
            }
            for against, found in targets.items()
        }


def _cell(metric: Metric | str, batches: list[tuple[Tensor, Tensor, View]]) -> object:
    if isinstance(metric, str):
        return {"failed": metric}
    metric.reset()
    try:
        for outputs, targets, view in batches:
            metric.update(outputs, targets, view)
        value = metric.compute()["value"]
    except Exception as error:  # one metric's failure stays in its own cell, whatever it is
        return {"failed": f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)}
    return value if math.isfinite(value) else {"failed": f"the value is {value}"}


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
