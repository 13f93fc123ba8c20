"""Metrics of a model on each set, against the ground truth and against the original model."""

import copy
import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unlearnkit.contracts import Failed, Metric, View
from unlearnkit.errors import UserError
from unlearnkit.evaluation.instruments import Instruments, Watcher, facts, number, tell, tried
from unlearnkit.evaluation.originals import Further, Originals
from unlearnkit.solver.workbench import SETS, SPLITS, Workbench

Cells = dict[str, dict[str, object]]
"""Values, or why there is none, by what outputs are compared with and by metric."""
Output = Callable[[View], Tensor]
"""What turns a batch into outputs: a model's `output`, or what it is held against."""
DIGITS = 5
"""Significant digits that are kept of the score of a single image."""


def shown(bench: Workbench, of: str) -> str:
    """Return the half of a set that pictures are of: validation images, or training images where it has no others."""
    return "validation" if len(bench.images[of]["validation"]) else "train"


def halves(bench: Workbench, of: str) -> Sequence[str]:
    """Return the halves of a set that are measured."""
    return SPLITS if bench.recipe.evaluate.train else (shown(bench, of),)


class Each(NamedTuple):
    """Scores of the single images that pictures are of by one metric: the recipe's first that has them."""

    metric: str
    against: str
    scores: dict[str, Sequence[float]]
    """By set."""


class Gauge:
    """The metrics of a run, held against models one after the other."""

    def __init__(self, originals: Originals, instruments: Instruments, watcher: Watcher) -> None:
        self.originals, self.metrics, self.watcher = originals, instruments.metrics, watcher
        self.bench, self.facts = originals.bench, facts(instruments.metrics.values())

    def measure(self, output: Output) -> tuple[dict[str, dict[str, Cells]], Each | None]:
        """Return metrics by set, split, what is compared with, and kind; `{"failed": reason}` for one without value.

        Beside them stand the scores of single images, where a metric has them.
        """
        found: dict[str, dict[str, Cells]] = {name: {} for name in SETS}
        singles: dict[tuple[str, str], dict[str, Sequence[float]]] = {}
        for name, split in ((of, half) for of in SETS for half in halves(self.bench, of)):
            if not len(self.bench.images[name][split]):
                continue
            cells = self._cells(output, name, split)
            found[name][split] = _values(cells)
            for (against, of), kind in product(cells.items(), self.metrics):
                if split == shown(self.bench, name) and (each := of[kind].each) is not None:
                    singles.setdefault((kind, against), {})[name] = each
        first = next(iter(sorted(singles, key=lambda key: key[1] == "original")), None)
        return found, None if first is None else Each(*first, singles[first])

    def measure_further(self, output: Output, further: Further) -> dict[str, Cells]:
        """Return the metrics of a model under a further task by set, what it is compared with, and kind.

        The images that pictures are of are measured alone: generalisation is read from them, and most of the time is
        saved. A task that does not suit them gives its reason in every cell, for the solutions are trained by now.
        """
        found: dict[str, Cells] = {}
        for name in SETS:
            try:
                found[name] = _values(self._cells(output, name, shown(self.bench, name), further))
            except UserError as error:
                reasons: dict[str, object] = {kind: {"failed": str(error)} for kind in self.metrics}
                found[name] = {"truth": reasons, "original": reasons}
        return found

    def _cells(
        self, output: Output, name: str, split: str, further: Further | None = None
    ) -> dict[str, dict[str, "_Cell"]]:
        # One chunk at a time, so both comparisons of a metric are under way at once.
        untold = (further.task if further else self.bench.task).untold
        beside = dict.fromkeys(self.metrics, Failed(untold, "")) if untold else self.metrics
        both = {"truth": beside, "original": copy.deepcopy(self.metrics)}
        cells = {against: {kind: _Cell(metrics[kind]) for kind in metrics} for against, metrics in both.items()}
        with torch.no_grad():
            for view, original in self.originals.pairs(name, split, further):
                outputs = output(view)
                for against, targets in (("truth", view.truth), ("original", original)):
                    for cell in cells[against].values():
                        cell.update(outputs, targets, view)
        for against, kind in product(cells, self.metrics):
            cells[against][kind].close()
            failed = cells[against][kind].metric
            if isinstance(failed, Failed) and not isinstance(both[against][kind], Failed):
                under = f", {further.label}" if further else ""
                tell(self.watcher, f"metric {kind}, {name} set, {split} images against the {against}{under}", failed)
        return cells


def _values(cells: dict[str, dict[str, "_Cell"]]) -> Cells:
    return {against: {kind: cell.value for kind, cell in found.items()} for against, found in cells.items()}


class _Cell:
    """A metric on one set against one thing, or how it failed."""

    value: object = None
    each: Sequence[float] | None = None

    def __init__(self, metric: Metric | Failed) -> None:
        self.metric = metric
        self._try(lambda metric: metric.reset())

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        self._try(lambda metric: metric.update(outputs, targets, view))

    def close(self) -> None:
        """Find the value, and the scores of single images where the metric has them."""
        value, each = self._try(lambda metric: number(metric.compute()["value"])), self._try(_singles)
        if isinstance(self.metric, Failed):
            self.value = {"failed": self.metric.reason}
        else:
            self.value = value if math.isfinite(value) else {"failed": f"the value is {value}"}
            self.each = each if each is not None and all(map(math.isfinite, (value, *each))) else None

    def _try(self, what: Callable[[Metric], Any]) -> Any:
        if isinstance(metric := self.metric, Failed):
            return None
        value = tried(lambda: what(metric))
        if isinstance(value, Failed):
            self.metric = value
        return value


def _singles(metric: Metric) -> list[float] | None:
    each = metric.each()
    return None if each is None else [float(f"{number(score):.{DIGITS}g}") for score in each]
