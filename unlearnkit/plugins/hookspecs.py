"""The hooks of unlearnkit. A plugin implements those it needs, marked with `unlearnkit.hookimpl`."""

from collections.abc import Callable, Mapping
from typing import Any, Union

import pluggy
import typer

from unlearnkit.recipe.sections import OPEN, SORTS

__all__ = ["hookspec", "observe_run", "register_commands", *OPEN]

hookspec = pluggy.HookspecMarker("unlearnkit")


def _register(hook: str) -> Callable[[], list[type]]:
    """Return the specification of a hook that brings sections of some sorts."""

    def register() -> list[type]:
        raise NotImplementedError

    register.__name__ = register.__qualname__ = hook
    register.__doc__ = f"Return {', and '.join(sort.meaning for sort in SORTS if sort.hook == hook)}."
    register.__annotations__["return"] = list[Union[tuple(type[base] for base in OPEN[hook])]]  # type: ignore[misc] # noqa: UP007
    return hookspec(register)


globals().update({hook: _register(hook) for hook in OPEN})


@hookspec
def observe_run(run: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None] | None:
    """Return a function that gets a copy of every event of the run whose `folder` `run` names, or None."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add commands to the command line."""
