"""The tasks of a run as jobs of Slurm, by submitit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from unlearnkit import hookimpl
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.sections import Call, ExecutorSection, Submit


class Slurm(ExecutorSection):
    """Jobs of Slurm, each of which takes all that there is to do of a model."""

    kind: Literal["slurm"]
    """Jobs of Slurm."""
    whole = True
    cluster: Literal["slurm", "local"] = "slurm"
    """`local` has processes of this machine stand in for jobs, to try things out."""
    partition: str | None = None
    """Where jobs are queued; the cluster's default when left out."""
    hours: float = Field(12, gt=0)
    """Time limit of a job; what was not done by then goes on in another."""
    cpus: int = Field(4, ge=1)
    """CPUs of a job."""
    gpus: int = Field(0, ge=0)
    """GPUs of a job."""
    memory_gib: float = Field(16, gt=0)
    """Memory of a job."""

    @contextmanager
    def open(self, logs: Path) -> Iterator[Submit]:
        """Queue jobs, and cancel those that have not ended at the end."""
        try:
            import submitit
        except ImportError as error:
            raise UserError(f"--executor: slurm: {error}; pip install 'unlearnkit-slurm'", Exit.PLUGIN) from None

        try:
            queue = submitit.AutoExecutor(logs, cluster=self.cluster)
        except RuntimeError as error:  # where there is no sbatch
            raise UserError(f"--executor: slurm: {error}; start it where `sbatch` is", Exit.USAGE) from None
        queued = {"slurm_partition": self.partition} if self.partition else {}
        queue.update_parameters(
            name="unlearnkit", timeout_min=max(1, round(60 * self.hours)), cpus_per_task=self.cpus,
            gpus_per_node=self.gpus, mem_gb=self.memory_gib, **queued,
        )  # fmt: skip
        jobs: list[submitit.Job[Any]] = []

        def submit(work: Callable[..., Any], *given: Any) -> Call:
            jobs.append(queue.submit(work, *given))
            return jobs[-1]

        try:
            yield submit
        finally:
            for job in (job for job in jobs if not job.done()):
                job.cancel()


@hookimpl
def register_executors() -> list[type[ExecutorSection]]:
    """Return the executor of this package."""
    return [Slurm]
