"""Hand the tasks of runs to the workers of an executor, and keep the events, manifests and signals of them all."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from unlearnkit.disk import remove_folder, write_text
from unlearnkit.errors import Exit, UserError
from unlearnkit.evaluation.instruments import Instruments
from unlearnkit.plugins import Plugins
from unlearnkit.plugins.faults import raised
from unlearnkit.recipe.sections import Call, ExecutorSection, Submit
from unlearnkit.run.alike import Key, keys, linked
from unlearnkit.run.events import Run
from unlearnkit.run.folder import EVENTS, TASKS, TOKEN, busy, held, recall
from unlearnkit.run.runner import Hand
from unlearnkit.run.shadows import asked, costs
from unlearnkit.run.targets import Wanted
from unlearnkit.run.tasks import Needs, Order, Schedule, Task, failure, lengths, tasks, weigh
from unlearnkit.run.worker import perform
from unlearnkit.seal import MANIFEST, read_formatted
from unlearnkit.solver.workbench import Workbench

RETRIES = 3
"""Times that a task is begun again from its last checkpoint after its worker died."""
POLL = 0.1
"""Seconds between two looks at the workers."""


class Tasks:
    """The tasks of runs that have begun, with what each costs and what it can depend on."""

    def __init__(self) -> None:
        self.needs = Needs()
        self._costs: dict[str, Callable[[Task], float]] = {}
        self._keys: dict[str, Key] = {}

    def add(self, run: Run, bench: Workbench, tools: Instruments, targets: Sequence[Wanted]) -> bool:
        """Take those of a run, and leave it at that."""
        place, methods = str(run.folder.resolve()), {one.id: one.retrained for one in bench.methods}
        audits = tools.waiting([name for name, retrained in methods.items() if retrained])
        apart = [(name, number) for name, number, _ in asked(tools)]
        self.needs |= tasks(place, bench.recipe, methods, [one.id for one in targets], audits, apart)
        taken = lengths(bench.recipe, bench.steps, bench.methods) | costs(bench, tools, bench.steps, bench.methods)
        self._costs[place], self._keys[place] = weigh(bench.recipe, taken), keys(bench.recipe)
        return False

    def schedule(self, whole: bool) -> Schedule:
        """Return when each is done; of those that are alike in several runs one comes first, and the others take it."""
        needs = linked(self.needs, lambda task: self._keys[task.place](task))
        return Schedule(needs, lambda task: self._costs[task.place](task), whole=whole)


def handing(executor: ExecutorSection, beside: Sequence[Path], plugins: Plugins, found: Tasks) -> Hand:
    """Return what has an executor do the tasks of a run that has begun, and of those in the folders `beside` it.

    What was `found` of these is all but what the run that has begun is asked for.
    """

    def hand(run: Run, bench: Workbench, tools: Instruments, targets: Sequence[Wanted]) -> bool:
        with ExitStack() as stack:
            runs = {str(run.folder.resolve()): run}
            for folder in beside:
                stack.enter_context(held(folder))
                recall(folder)
                other = Run(folder, plugins, run.tell, run.stop)
                other.manifest = read_formatted(folder / MANIFEST)
                runs[str(folder.resolve())] = other
            stack.callback(setattr, plugins, "witness", plugins.witness)
            found.add(run, bench, tools, targets)
            schedule = found.schedule(executor.whole)
            with run.stop.later():  # until all that is at work is saved
                submit = stack.enter_context(executor.open(run.folder.resolve() / TASKS / "logs"))
                Crew(executor, runs, schedule, submit).work()
        run.check_signal()
        return True

    return hand


@dataclass
class _Flight:
    """An order that a worker is at."""

    order: Order
    call: Call


class Crew:
    """The workers of an executor, at the tasks of some runs."""

    def __init__(self, executor: ExecutorSection, runs: Mapping[str, Run], schedule: Schedule, submit: Submit) -> None:
        """Take the runs by the absolute path of their folders."""
        self.executor, self.runs, self.schedule, self.submit = executor, runs, schedule, submit
        self.token, self.deaths = secrets.token_hex(16), Counter[Order]()
        self.told = Counter[Path]()
        """Bytes of the events of each task that are told."""
        self.flights: list[_Flight] = []
        self.failed: Exception | None = None
        self.stop = next(iter(runs.values())).stop

    def work(self) -> None:
        """Have all tasks done; raise `UserError` of one that failed, once the others are saved."""
        for run in self.runs.values():
            used = run.manifest.setdefault("executors", [])
            used += [said] if (said := self.executor.model_dump(mode="json")) not in used else []
            run.save_manifest()
            (run.folder / TASKS).mkdir(exist_ok=True)
            write_text(run.folder / TOKEN, self.token)
        while True:
            while not self._leaving() and len(self.flights) < self.executor.workers:
                if (order := self.schedule.next()) is None:
                    break
                self._send(order)
            if not self.flights:
                break
            time.sleep(POLL)
            for flight in tuple(self.flights):
                ended = flight.call.done()
                self.runs[flight.order[0].place].retell([task.name for task in flight.order], self.told)
                if ended:
                    self.flights.remove(flight)
                    self._ended(flight)
            if self._leaving():
                for run in self.runs.values():
                    (run.folder / TOKEN).unlink(missing_ok=True)
                self.flights = [flight for flight in self.flights if self._begun(flight)]
        if self.failed is not None:
            raise self.failed

    def _begun(self, flight: _Flight) -> bool:
        """Tell whether a worker is at an order: one that waits in a queue finds the token gone when it comes."""
        return any(self._traces(task).exists() for task in flight.order)

    def _traces(self, task: Task) -> Path:
        return self.runs[task.place].folder / TASKS / task.name

    def _leaving(self) -> bool:
        return self.failed is not None or self.stop.signal is not None

    def _send(self, order: Order) -> None:
        call = self.submit(perform, [tuple(task) for task in order], self.token)
        self.flights.append(_Flight(order, call))

    def _ended(self, flight: _Flight) -> None:
        """Take what an order came to."""
        run, order = self.runs[flight.order[0].place], flight.order
        try:
            outcome = flight.call.result()
        except Exception as error:  # an engine's own, of a process that died
            return self._died(run, order, raised(error))
        if (failed := failure(outcome, order[0].name)) is not None:
            self.failed = self.failed or failed
        elif "stopped" not in outcome:
            for kind, values in outcome.items():
                run.manifest[kind] |= values
            run.save_manifest()
            self.schedule.finish(order)
        elif not self._leaving():
            self._died(run, order, f"signal {outcome['stopped']}")
        return None

    def _died(self, run: Run, order: Order, how: str) -> None:
        """Have an order done again, or give up."""
        self.deaths[order] += 1
        name, times = order[0].name, self.deaths[order]
        if times > RETRIES:
            advice = f"mend that, say with fewer workers, and `unlearnkit resume {run.folder}` goes on"
            self.failed = self.failed or UserError(
                f"{name}: its worker died {times} times ({how}); {advice}", Exit.DEVICE
            )
        elif not self._leaving():
            run.event("warning", message=f"{name}: its worker died ({how}); it is begun again from its last checkpoint")
            for traces in map(self._traces, order):
                if not busy(traces):  # or an order that waits in a queue again would look like one that is begun
                    remove_folder(traces)
                    del self.told[traces / EVENTS]
            self.schedule.again(order)
