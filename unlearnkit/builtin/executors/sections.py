"""Executors: what the tasks of a run are done by, beside the process of the command."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from unlearnkit import hookimpl
from unlearnkit.builtin import executors
from unlearnkit.recipe.sections import ExecutorSection, Submit


class Processes(ExecutorSection):
    """Processes of this machine, each on a GPU of its own where there are several."""

    kind: Literal["processes"]
    """Other processes beside that of the command."""

    def open(self, logs: Path) -> AbstractContextManager[Submit]:
        return executors.pools(self.workers)


@hookimpl
def register_executors() -> list[type[ExecutorSection]]:
    """Return the executors of unlearnkit."""
    return [Processes]
