"""A model that targets look at: what of results.json and of audits can be measured of it."""

import copy
import math
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from unlearnkit.contracts import Against, Audit, Candidate, Failed, Finding, Items, Metric, Part, SetName, Split
from unlearnkit.evaluation.audits import examined
from unlearnkit.evaluation.measure import Gauge


class Measured(Candidate):
    """The model of some weights, measured at the first question of each kind."""

    def __init__(
        self, gauge: Gauge, part: Part, theta: Callable[[], Tensor], valid: tuple[float, float],
        beside: Mapping[str, tuple[Part, Tensor]] | None = None,
    ) -> None:  # fmt: skip
        """Measure by `gauge`; `beside` are weights of retrained models, by id, that audits may hold it against."""
        self.gauge, self.part, self.theta, self.range, self.beside = gauge, part, theta, valid, beside or {}
        self.items: Items = {
            of: {split: found.items for split, found in halves.items()} for of, halves in gauge.bench.images.items()
        }
        self._scores: dict[tuple[str, ...], float] = {}

    def _put(self) -> None:
        self.gauge.watcher.check_signal()
        self.gauge.bench.put(self.part, self.theta())

    @cached_property
    def f1(self) -> float:
        self._put()
        return self.gauge.bench.sides["forget"].exact()

    @cached_property
    def f2(self) -> float:
        self._put()
        return self.gauge.bench.sides["retain"].exact()

    def _metric(self, metric: str) -> Metric:
        found = self.gauge.metrics[metric]
        if isinstance(found, Failed):
            raise ValueError(f"metric {metric}: {found.reason}")
        return found

    def metric(self, metric: str) -> Mapping[str, object]:
        return self._metric(metric).describe()

    def score(self, name: SetName, split: Split, against: Against, metric: str) -> float:
        key = (name, split, against, metric)
        if key not in self._scores:
            (self._scores[key],) = self._values(self._metric(metric), name, split, against, whole=True)
        return self._scores[key]

    def spread(
        self, name: SetName, split: Split, against: Against, metric: str, beside: Candidate | None = None
    ) -> float | None:
        values = self._singles(name, split, against, metric)
        if isinstance(beside, Measured):
            other = beside._singles(name, split, against, metric)
            values = None if values is None or other is None else values - other
        return None if values is None else float(values.std() / math.sqrt(len(values)))

    def _singles(self, name: SetName, split: Split, against: Against, metric: str) -> Tensor | None:
        """Return the scores of single images, [N]; None where the score is not their mean."""
        try:
            values = torch.tensor(self._values(self._metric(metric), name, split, against, False), dtype=torch.float64)
        except ValueError:  # a metric of distributions, say, which single images have not
            return None
        alike = math.isclose(float(values.mean()), self.score(name, split, against, metric), rel_tol=1e-4)
        return values if len(values) > 1 and alike else None

    def _values(self, metric: Metric, name: str, split: str, against: str, whole: bool) -> list[float]:
        """Return the metric of the whole set, or of each image by itself."""
        if against == "truth" and (untold := self.gauge.bench.task.untold):
            raise ValueError(untold)
        self._put()
        model, one, values = self.gauge.bench.student, copy.deepcopy(metric), list[float]()
        one.reset()
        with torch.no_grad():
            for view, original in self.gauge.originals.pairs(name, split):
                outputs, targets = model.output(view), view.truth if against == "truth" else original
                for row in [slice(None)] if whole else [slice(i, i + 1) for i in range(len(outputs))]:
                    one.update(outputs[row], targets[row], view[row] if row.stop else view)
                    if not whole:
                        values.append(float(one.compute()["value"]))
                        one.reset()
        if whole:
            values.append(float(one.compute()["value"]))
        if not all(map(math.isfinite, values)):
            raise ValueError("it is not finite")
        return values

    def findings(self, audit: Audit) -> Mapping[str, Finding]:
        self._put()
        return examined(audit, self.gauge.bench, self.gauge.watcher, self.beside)
