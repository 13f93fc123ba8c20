"""A task in a process of its own: it opens the run folder that another process holds, and does what that would do."""

import json
import os
import signal
import socket
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch

from unlearnkit.disk import append, read_plain
from unlearnkit.errors import Exit, Stopped, UserError, memory_error
from unlearnkit.evaluation import instruments
from unlearnkit.evaluation.measure import Gauge
from unlearnkit.evaluation.models import ORIGINAL, Model, original, solved, stop_ids, stops
from unlearnkit.evaluation.originals import Originals
from unlearnkit.fronts import CURVE
from unlearnkit.plugins import Plugins, discover
from unlearnkit.recipe import Recipe, load
from unlearnkit.recipe.training import Continuation, Curve
from unlearnkit.run import folder as folders
from unlearnkit.run import front, manifest
from unlearnkit.run.events import Run
from unlearnkit.run.follow import Share, judge
from unlearnkit.run.interrupts import Stop, device_errors, signals
from unlearnkit.run.shadows import shadow
from unlearnkit.run.solve import solve
from unlearnkit.run.targets import Search, wanted
from unlearnkit.run.tasks import SWEEP, Task
from unlearnkit.seal import MANIFEST, read_formatted
from unlearnkit.solver.dial import Dial
from unlearnkit.solver.phases import ENDS, Bounds, boundary
from unlearnkit.solver.problem import Solution
from unlearnkit.solver.shares import unshared
from unlearnkit.solver.workbench import Workbench, build

SPENT = ("times", "costs")
"""What of a task the manifest records."""
SOON = 0.2
"""Seconds after which a worker sees that it is to leave."""


def perform(
    order: Sequence[tuple[str, Any, str]], token: str, plugins: Plugins | None = None, bench: Workbench | None = None
) -> dict[str, Any]:
    """Do some tasks of one run folder; return times and costs, or how it ended otherwise.

    It goes on as long as the folder has the `token` of whoever asked for it. It raises nothing, so that whatever is
    raised where it is called means that its process has died. Where the run's `bench` is there it builds no other.
    """
    tasks, stop, plugins = [Task(*one) for one in order], Stop(lambda event: None), plugins or _plugins()
    folder = Path(tasks[0].place)
    try:
        with signals(stop), device_errors(), _asked(folder, token, stop):
            opened = Opened(folder, plugins, bench) if bench else _opened(folder, token, plugins)
            spent = opened.run.manifest
            before = {kind: dict(spent[kind]) for kind in SPENT}
            for task in tasks:
                with folders.held(folder / folders.TASKS / task.name, wait=True):
                    opened.do(task, stop)
            return {
                kind: {name: value for name, value in spent[kind].items() if before[kind].get(name) != value}
                for kind in SPENT
            }
    except Stopped as stopped:
        return {"stopped": stopped.signal}
    except BaseException as error:
        known = error if isinstance(error, UserError) else memory_error(error) or plugins.failure(error)
        if known is None:
            return {"traceback": traceback.format_exc()}
        return {"error": str(known), "code": int(known.code)}


def share(word: Share, bench: Workbench, plugins: Plugins) -> dict[str, Any]:
    """Do this process's share as `perform` does; say where this is if the run folder is not here.

    A signal ends the share, not the process.
    """
    if not (Path(word.tasks[0].place) / folders.TOKEN).exists():
        return {"apart": socket.gethostname()}
    with unshared(bench.sides):
        outcome = perform(word.mine, word.token, plugins, bench) if word.mine else {}
    plugins.witness = None  # the share's events are told
    return outcome


@contextmanager
def _asked(folder: Path, token: str, stop: Stop) -> Iterator[None]:
    """Let a signal come where the token of a run folder goes; raise `UserError` where there is no such folder."""

    def there() -> bool:
        try:
            return read_plain(folder / folders.TOKEN).decode() == token
        except UserError:
            return False

    def watch() -> None:
        while not ended.wait(SOON):
            if stop.signal is None and not there():
                os.kill(os.getpid(), signal.SIGTERM)

    if not (folder / MANIFEST).exists():
        said = f"worker {socket.gethostname()} does not see {folder}; put the run on a disk that all workers share"
        raise UserError(said, Exit.FOLDER)
    if not there():
        raise Stopped(signal.SIGTERM)
    ended = Event()
    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


_plugins = cache(discover)
_kept: dict[tuple[Path, str], "Opened"] = {}
"""The run that this process worked at last, which it need not build again."""


def _opened(folder: Path, token: str, plugins: Plugins) -> "Opened":
    if (folder, token) not in _kept:
        _kept.clear()
        _kept[folder, token] = Opened(folder, plugins)
    return _kept[folder, token]


class Away(Run):
    """A run folder that another process holds, which reads the events from a file of each task."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, read_formatted(folder / MANIFEST)

    def begin(self, task: Task, stop: Stop) -> None:
        """Let events be of a task."""
        self.stop, self.events = stop, self.folder / folders.TASKS / task.name / folders.EVENTS

    def event(self, kind: str, **facts: object) -> None:
        """Write one event down, but for what the other process finds itself."""
        if kind != "kept":
            append(self.events, f"{json.dumps({'kind': kind, 'facts': facts}, default=str)}\n".encode())

    def warn(self, message: str) -> None:
        """Give one warning line."""
        self.event("warn", message=message)

    def save_manifest(self) -> None:
        """Leave the manifest to the other process."""


class Opened:
    """A run whose tasks this process does: all that they share is built at most once."""

    def __init__(self, folder: Path, plugins: Plugins, bench: Workbench | None = None) -> None:
        """Take the workbench or build it; raise `UserError` where that is not what the run began with."""
        plugins.witness = None
        self.run = Away(folder)
        self.bench = bench or self.built(plugins)
        self.tools = instruments.build(self.bench.recipe.evaluate, self.bench.base, self.bench.device)
        self.targets = {one.id: one for one in wanted(self.bench, self.tools)}
        self.gauge = Gauge(Originals(self.bench), self.tools, self.run)
        plugins.witness = partial(self.run.event, "failed")

    def built(self, plugins: Plugins) -> Workbench:
        """Return the run's workbench."""
        folder, basis = self.run.folder, folders.basis_of(self.run.folder, self.run.manifest)
        if (threads := basis["device"].get("threads")) is not None:
            torch.set_num_threads(threads)
        base = folders.base_of(folder, self.run.manifest)
        recipe = load(folder / folders.RESOLVED, plugins, (), base).recipe
        assert isinstance(recipe, Recipe)
        bench = build(recipe, base, folder / "cache")
        manifest.refuse_other(folder, basis, bench, ())
        return bench

    def do(self, task: Task, stop: Stop) -> None:
        """Do one task, whose needs are in the folder; one of an ε that there is no way to comes to nothing."""
        self.run.begin(task, stop)
        if task.kind in ("evaluate", "audit"):
            judge(self.run, self.gauge, self.tools, task, self.model)
            return
        self.run.event("task", name=task.name, host=socket.gethostname(), pid=os.getpid())
        if task.kind == "shadow":
            name, number = task.id.split(":")
            shadow(self.run, self.bench, self.tools, name, int(number))
        elif task.id in (CURVE, SWEEP):
            front.swept(self.run, self.bench, self.bounds, self.posed.start, self.posed.inside * (task.id == SWEEP))
        else:
            self.solution(task.id)

    def model(self, name: str) -> Model | None:
        """Return the original model, a place of the dial or a solution, of which all is solved; None of another id."""
        if name == ORIGINAL:
            return original(self.bench)
        if name in stop_ids(self.bench.recipe.evaluate.stops):
            places = stops(self.whole[1], self.bench.recipe.evaluate.stops, self.bench.recipe.model.part)
            return next((place for place in places if place.id == name), None)
        asked, methods = dict(self.bench.recipe.epsilons.asked), (one.id for one in self.bench.methods)
        known = {*ENDS, *asked, *methods, *self.targets}
        found = self.solution(name) if name in known else None
        return None if found is None else solved(found)

    @cached_property
    def bounds(self) -> Bounds:
        """Phase 1."""
        return front.bound(self.run, self.bench)

    @cached_property
    def posed(self) -> front.Posed:
        """The problems of phase 2."""
        return front.posed(self.bench, self.bounds)

    @cached_property
    def whole(self) -> tuple[list[Solution], Dial]:
        """Phase 2, all of which is solved, and its dial; of a curve the dial alone, which needs no ε."""
        inside = [] if isinstance(self.bench.recipe.sweep, Curve) else self.posed.inside
        return front.swept(self.run, self.bench, self.bounds, self.posed.start, inside)

    def solution(self, name: str) -> Solution | None:
        """Return the solution of a problem, which is solved where it is not kept; None of an ε out of reach."""
        run, bench = self.run, self.bench
        for problem in (problem for problem in bench.methods if problem.id == name):
            return solve(run, bench, problem, partial(bench.original, problem.part), None)
        if name in ENDS:
            return boundary(bench.losses, bench.recipe.control, name, bench.origin, partial(solve, run, bench))
        if name in self.targets:
            found = self.search.found(self.targets[name])
            return None if found is None else found[0]
        if isinstance(bench.recipe.sweep, Continuation):
            return next((one for one in self.whole[0] if one.problem.id == name), None)
        inside = [problem for problem in self.posed.inside if problem.id == name]
        return next(iter(front.swept(run, bench, self.bounds, self.posed.start, inside)[0]), None)

    @cached_property
    def search(self) -> Search:
        """The search for targets."""
        beside = [made for one in self.bench.methods if one.retrained and (made := self.solution(one.id))]
        serving = partial(front.polished, self.run, self.bench, self.bounds, self.whole[1])
        return Search(self.run, self.gauge, self.whole[1], self.bounds.range, beside, serving)
