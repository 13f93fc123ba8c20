"""The hooks of unlearnkit. A plugin implements those it needs, marked with `unlearnkit.hookimpl`."""

from collections.abc import Callable, Mapping
from typing import Any

import pluggy
import typer

from unlearnkit.recipe.sections import (
    AuditSection,
    DataSection,
    ExtractorSection,
    LossSection,
    MethodSection,
    MetricSection,
    ModelSection,
    MultiplierSection,
    PsiSection,
    TaskSection,
)

hookspec = pluggy.HookspecMarker("unlearnkit")


@hookspec
def register_models() -> list[type[ModelSection]]:  # type: ignore[empty-body]
    """Return model sections, for `model:`."""


@hookspec
def register_data() -> list[type[DataSection]]:  # type: ignore[empty-body]
    """Return data sections, for `data.source:`."""


@hookspec
def register_tasks() -> list[type[TaskSection]]:  # type: ignore[empty-body]
    """Return task sections, for `task:`."""


@hookspec
def register_losses() -> list[type[LossSection]]:  # type: ignore[empty-body]
    """Return loss sections, for `forget:` and `retain:`."""


@hookspec
def register_controls() -> list[type[PsiSection] | type[MultiplierSection]]:  # type: ignore[empty-body]
    """Return control functions, for `control.boundary:` and `control.epsilon:`, and rules for `control.multiplier:`."""


@hookspec
def register_methods() -> list[type[MethodSection]]:  # type: ignore[empty-body]
    """Return method sections, for `compare:`."""


@hookspec
def register_extractors() -> list[type[ExtractorSection]]:  # type: ignore[empty-body]
    """Return networks whose features metrics compare, for `extractor:` of a metric."""


@hookspec
def register_metrics() -> list[type[MetricSection]]:  # type: ignore[empty-body]
    """Return metric sections, for `evaluate.metrics:`."""


@hookspec
def register_audits() -> list[type[AuditSection]]:  # type: ignore[empty-body]
    """Return audit sections, for `evaluate.audits:`."""


@hookspec
def observe_run(run: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None] | None:
    """Return a function that gets a copy of every event of the run whose `folder` `run` names, or None."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add commands to the command line."""
