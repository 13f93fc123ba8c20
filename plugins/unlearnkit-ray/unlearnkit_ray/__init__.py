"""The tasks of a run on a Ray cluster, or on a local one that is started for it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from unlearnkit import hookimpl
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.sections import Call, ExecutorSection, Submit


class Ray(ExecutorSection):
    """Tasks of Ray, each in a process of its own on any machine of a cluster that sees the run folder."""

    kind: Literal["ray"]
    """A cluster of Ray."""
    address: str | None = None
    """That of the cluster, or `auto`; without it a cluster of this machine is started, and ended with the command."""
    cpus: float = Field(1, ge=0)
    """CPUs that Ray keeps for a task."""
    gpus: float = Field(0, ge=0)
    """GPUs that Ray keeps for a task, and the only ones that it sees; a half lets two tasks share one."""

    @contextmanager
    def open(self, logs: Path) -> Iterator[Submit]:
        """Join the cluster, and leave it at the end, which kills what is at work."""
        try:
            import ray
        except ImportError as error:
            raise UserError(f"--executor: ray: {error}; pip install 'unlearnkit-ray'", Exit.PLUGIN) from None

        passed = {name: value for name, value in os.environ.items() if name.startswith("UNLEARNKIT_")}
        os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")  # its own 15 s are short on a busy machine
        cpus = None if self.address else max(1, round(self.workers * self.cpus))
        try:
            ray.init(
                self.address, num_cpus=cpus, include_dashboard=False if cpus else None, log_to_driver=False,
                runtime_env={"env_vars": passed},
            )  # fmt: skip
        except ConnectionError as error:
            raise UserError(f"--executor: ray.address: {error}; give that of a cluster", Exit.USAGE) from None

        def submit(work: Callable[..., Any], *given: Any) -> Call:
            task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)(work)
            return task.remote(*given).future()

        try:
            yield submit
        finally:
            ray.shutdown()


@hookimpl
def register_executors() -> list[type[ExecutorSection]]:
    """Return the executor of this package."""
    return [Ray]
