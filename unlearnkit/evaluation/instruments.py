"""What solutions are measured with: the metrics and audits of a recipe, and what stands in for one that fails."""

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch

from unlearnkit.contracts import Audit, Failed, Metric
from unlearnkit.errors import UserError
from unlearnkit.recipe.recipe import Evaluate
from unlearnkit.recipe.sections import AuditSection, MetricSection

S = TypeVar("S", MetricSection, AuditSection)
T = TypeVar("T")


class Watcher(Protocol):
    """Who is told what happens, and may end it between two models."""

    def event(self, kind: str, **facts: object) -> None:
        """Take one event."""
        ...

    def warn(self, message: str) -> None:
        """Take one line that a reader of the report must not miss."""
        ...

    def check_signal(self) -> None:
        """Raise `Stopped` where a signal has come."""
        ...


class Unwatched:
    """The watcher where nobody is told anything."""

    def event(self, kind: str, **facts: object) -> None:
        """Take one event."""

    def warn(self, message: str) -> None:
        """Take one line."""

    def check_signal(self) -> None:
        """Go on."""


@dataclass(frozen=True)
class Instruments:
    """Metrics and audits by kind, the second of a kind as `fid-2`; one that cannot be built is its failure."""

    metrics: Mapping[str, Metric | Failed]
    audits: Mapping[str, tuple[AuditSection, Audit | Failed]]

    @cached_property
    def facts(self) -> Mapping[str, Sequence[object]]:
        """What each audit says of itself, asked of all before one is used."""
        return {name: facts([audit]) for name, (_, audit) in self.audits.items()}

    def waiting(self, retrained: Collection[str]) -> dict[str, list[str]]:
        """Return by audit the ids of the models that it waits for; given are those of the retrained ones."""
        return {name: beside(audit, retrained) for name, (_, audit) in self.audits.items()}

    def failures(self) -> Iterator[tuple[str, Failed]]:
        """Return those that could not be built, each with what it is."""
        metrics = ((f"metric {kind}", metric) for kind, metric in self.metrics.items())
        audits = ((f"audit {kind}", audit) for kind, (_, audit) in self.audits.items())
        return ((what, found) for what, found in chain(metrics, audits) if isinstance(found, Failed))


def build(evaluate: Evaluate, base: Path, device: torch.device) -> Instruments:
    """Build the instruments of a recipe; relative paths start at `base`.

    Raise `UserError` for a limit on what they do not measure.
    """
    metrics, audits = _named(evaluate.metrics), _named(evaluate.audits)
    found = Instruments(
        {name: tried(partial(section.build, base, device)) for name, section in metrics},
        {name: (section, tried(partial(section.build, base, device))) for name, section in audits},
    )
    for place, limit in enumerate(evaluate.limits):
        _refuse_unmeasured(limit.figure, found, evaluate.train, f"evaluate.limits[{place}].figure: {limit.figure}")
    return found


def _refuse_unmeasured(figure: str, found: Instruments, train: bool, where: str) -> None:
    known: Collection[str]
    match figure.split("/"):
        case [audit, name]:
            known, its = found.audits.keys(), found.audits.get(audit)
            if its is not None and not isinstance(built := its[1], Failed) and name not in built.figures:
                raise UserError(f"{where}: {audit} has no such figure; it has: {', '.join(built.figures)}")
            what, which = audit, "audits"
        case [_, split, _, metric]:
            if split == "train" and not train:
                raise UserError(f"{where}: evaluate.train is false, so it is not measured; give validation")
            what, known, which = metric, found.metrics.keys(), "metrics"
        case _:
            return
    if what not in known:
        raise UserError(f"{where}: evaluate.{which} has no {what}; it has: {', '.join(known) or 'none'}")


def beside(audit: Audit | Failed, retrained: Iterable[str]) -> list[str]:
    """Return the ids of what an audit looks at beside the model under audit; given are those of retrained models."""
    if isinstance(audit, Failed):
        return []
    return [*(retrained if audit.needs_retrained else ()), *(() if audit.other is None else (audit.other,))]


def tried(what: Callable[[], T]) -> T | Failed:
    """Return what a plugin's call returns, or how it failed, so that its failure stays in its own cell."""
    try:
        return what()
    except (UserError, ValueError) as error:
        return Failed(str(error))
    except MemoryError:
        raise
    except Exception as error:  # whatever it is
        return Failed(f"{type(error).__name__}: {error}", traceback.format_exc())


def number(found: object) -> float:
    """Return what a plugin found as a plain number, a whole one as a count; raise `ValueError` where it is none."""
    if type(found) is int:
        return found
    try:
        if not isinstance(found, str):
            return float(cast("Any", found))
    except (TypeError, ValueError, RuntimeError):
        pass
    raise ValueError(f"expected a number, found {type(found).__name__}")


def facts(tools: Iterable[Metric | Audit | Failed]) -> list[object]:
    """Return what tools say that they read beside the recipe, such as the hash of their weights.

    It is asked before they are used, as what they add then depends on where a run was stopped.
    """
    told = (tried(tool.describe) if not isinstance(tool, Failed) else tool for tool in tools)
    return [one.reason if isinstance(one, Failed) else dict(one) for one in told]


def tell(watcher: Watcher, what: str, failed: Failed) -> None:
    """Tell of a failure whose place matters: one that its author did not foresee."""
    if failed.traceback:
        watcher.event("failed", what=what, reason=failed.reason, traceback=failed.traceback)


def _named(sections: Sequence[S]) -> Iterator[tuple[str, S]]:
    kinds = [section.kind for section in sections]
    for place, (kind, section) in enumerate(zip(kinds, sections, strict=True)):
        number = kinds[: place + 1].count(kind)
        yield (f"{kind}-{number}" if number > 1 else kind), section
