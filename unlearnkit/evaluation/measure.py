"""Metrics of a model on each set, against the ground truth and against the original model."""

import copy
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from unlearnkit.contracts import Failed, Metric, ModelAdapter, View
from unlearnkit.errors import UserError
from unlearnkit.evaluation import kept
from unlearnkit.evaluation.instruments import Instruments, Watcher, tell, tried
from unlearnkit.evaluation.originals import Further, Originals
from unlearnkit.solver.workbench import SETS, SPLITS

Cells = dict[str, dict[str, object]]
"""Values, or why there is none, by what outputs are compared with and by metric."""


class Gauge:
    """The metrics of a run, held against models one after the other."""

    def __init__(self, originals: Originals, instruments: Instruments, watcher: Watcher) -> None:
        self.originals, self.metrics, self.watcher = originals, instruments.metrics, watcher
        self.bench, self.facts = originals.bench, kept.facts(instruments.metrics.values())

    def measure(self, model: ModelAdapter) -> dict[str, dict[str, Cells]]:
        """Return metrics by set, split, what is compared with, and kind; `{"failed": reason}` for one without value."""
        splits = SPLITS if self.bench.recipe.evaluate.train else SPLITS[1:]
        return {
            name: {split: self._cells(model, name, split) for split in splits if len(self.bench.images[name][split])}
            for name in SETS
        }

    def measure_further(self, model: ModelAdapter, further: Further) -> dict[str, Cells]:
        """Return the metrics of a model under a further task by set, what it is compared with, and kind.

        The validation images alone are measured: generalisation is read from them, and most of the time is saved. A
        task that does not suit the images gives its reason in every cell, for the solutions are trained by now.
        """
        found: dict[str, Cells] = {}
        for name in (name for name in SETS if len(self.bench.images[name]["validation"])):
            try:
                found[name] = self._cells(model, name, "validation", further)
            except UserError as error:
                reasons: dict[str, object] = {kind: {"failed": str(error)} for kind in self.metrics}
                found[name] = {"truth": reasons, "original": reasons}
        return found

    def _cells(self, model: ModelAdapter, name: str, split: str, further: Further | None = None) -> Cells:
        # One chunk at a time, so both comparisons of a metric are under way at once.
        untold = (further.task if further else self.bench.task).untold
        beside = dict.fromkeys(self.metrics, Failed(untold, "")) if untold else self.metrics
        both = {"truth": beside, "original": copy.deepcopy(self.metrics)}
        cells = {against: {kind: _Cell(metrics[kind]) for kind in metrics} for against, metrics in both.items()}
        with torch.no_grad():
            for view, original in self.originals.pairs(name, split, further):
                outputs = model.output(view)
                for against, targets in (("truth", view.truth), ("original", original)):
                    for cell in cells[against].values():
                        cell.update(outputs, targets, view)
        values = {against: {kind: cell.value() for kind, cell in found.items()} for against, found in cells.items()}
        for against, kind in product(cells, self.metrics):
            failed = cells[against][kind].metric
            if isinstance(failed, Failed) and not isinstance(both[against][kind], Failed):
                under = f", {further.label}" if further else ""
                tell(self.watcher, f"metric {kind}, {name} set, {split} images against the {against}{under}", failed)
        return values


class _Cell:
    """A metric on one set against one thing, or how it failed."""

    def __init__(self, metric: Metric | Failed) -> None:
        self.metric = metric
        self._try(lambda metric: metric.reset())

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        self._try(lambda metric: metric.update(outputs, targets, view))

    def value(self) -> object:
        value = self._try(lambda metric: metric.compute()["value"])
        if isinstance(self.metric, Failed):
            return {"failed": self.metric.reason}
        return value if math.isfinite(value) else {"failed": f"the value is {value}"}

    def _try(self, what: Callable[[Metric], Any]) -> Any:
        if isinstance(metric := self.metric, Failed):
            return None
        value = tried(lambda: what(metric))
        if isinstance(value, Failed):
            self.metric = value
        return value
