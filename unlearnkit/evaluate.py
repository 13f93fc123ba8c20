"""From solutions to metrics and pictures, on each set, against the ground truth and against the original model."""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from unlearnkit.contracts import Metric, ModelAdapter, View
from unlearnkit.data import seeded, to_float
from unlearnkit.workbench import SETS, SPLITS, Workbench

CHUNK = 64
"""Images of one pass."""

KEPT_BYTES = 2**30
"""Memory for the original model's outputs; beyond it they are computed again for each solution."""


def views(bench: Workbench, name: str, split: str) -> list[tuple[Tensor, View]]:
    """Return the truth and the view of a set in chunks; random degradations are the same for every solution."""
    seed = bench.recipe.seed
    pairs = []
    for number, chunk in enumerate(bench.images[name][split].split(CHUNK)):
        truth = to_float(chunk.to(bench.device))
        pairs.append((truth, bench.task.degrade(truth, seeded(seed, "evaluate", name, split, number))))
    return pairs


class Originals:
    """The original model's outputs on each set, kept between solutions as far as the memory for them goes."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._kept: dict[tuple[str, str], list[Tensor]] = {}
        self._left = KEPT_BYTES

    def outputs(self, name: str, split: str) -> list[Tensor]:
        """Return the outputs in the chunks of `views`."""
        if (name, split) in self._kept:
            return self._kept[name, split]
        with torch.no_grad():
            found = [self.bench.reference.output(view) for _, view in views(self.bench, name, split)]
        size = sum(chunk.nbytes for chunk in found)
        if size <= self._left:
            self._left -= size
            self._kept[name, split] = found
        return found


def measure(originals: Originals, model: ModelAdapter) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    """Return the metrics of a model by set, split, what it is compared with, and kind.

    A metric that cannot be computed gives `{"failed": reason}` in its own cell.
    """
    images = originals.bench.images
    return {
        name: {split: _cells(originals, model, name, split) for split in SPLITS if len(images[name][split])}
        for name in SETS
    }


def _cells(originals: Originals, model: ModelAdapter, name: str, split: str) -> dict[str, dict[str, object]]:
    bench = originals.bench
    pairs = views(bench, name, split)
    with torch.no_grad():
        outputs = [model.output(view) for _, view in pairs]
        targets = {"truth": [truth for truth, _ in pairs], "original": originals.outputs(name, split)}
        return {
            against: {
                kind: _cell(metric, list(zip(outputs, found, (view for _, view in pairs), strict=True)))
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


def strip(bench: Workbench, model: ModelAdapter | None, name: str, what: str = "output") -> Image.Image:
    """Return the report's validation images of a set side by side: `truth`, `input`, or the `output` of a model."""
    count = bench.recipe.evaluate.images
    rows = spread(len(bench.images[name]["validation"]), count)
    shown = []
    with torch.no_grad():
        place = 0
        for truth, view in views(bench, name, "validation"):
            wanted = [row - place for row in rows if place <= row < place + len(truth)]
            place += len(truth)
            if wanted:
                assert model is not None or what != "output"
                images = truth if what == "truth" else view.images if what == "input" else model.output(view)  # type: ignore[union-attr]
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
