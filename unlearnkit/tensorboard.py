"""Write a run's events for TensorBoard: a plugin that is loaded where UNLEARNKIT_PLUGINS names it."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unlearnkit import hookimpl
from unlearnkit.errors import Exit, UserError

SEEN = {"step": "batch", "check": "whole set"}
"""Events with figures, and what these are of; a look that comes with an interval is at some images of it."""


@hookimpl
def observe_run(run: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None]:
    """Return what writes `tensorboard` in the run folder, one run a problem; raise `UserError` without TensorBoard."""
    if find_spec("tensorboard") is None:
        advice = "`pip install 'unlearnkit[tensorboard]'`"
        raise UserError(f"unlearnkit.tensorboard: TensorBoard is not installed; {advice}", Exit.PLUGIN)
    from torch.utils.tensorboard.writer import SummaryWriter

    folder, writers = Path(run["folder"]) / "tensorboard", dict[str, SummaryWriter]()

    def observe(event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "problem":
            # What a killed run had written after its last checkpoint comes again when it is resumed.
            writers[event["id"]] = SummaryWriter(str(folder / event["id"]), purge_step=event["step"] + 1)
        elif kind in SEEN:
            add, at = writers[event["id"]].add_scalar, event["step"]
            seen = "some images" if {"f1_within", "f2_within"} & event.keys() else SEEN[kind]
            for name in event.keys() - {"time", "event", "id", "step"}:
                if event[name] is not None:
                    add(f"{name}/{seen}", event[name], at, walltime=event["time"])
        elif kind == "solution":
            writers.pop(event["id"]).close()

    return observe
